"""Export a network directory: what `importing` takes, so that importing it again changes nothing.

Stock is written as counts as of the last movement or count of each position, so that a count of a later time still
counts; a position that owes units is left out. What has arrived of a receipt arrived before that count.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from poolwise.connect.directory.columns import File, texts_of
from poolwise.connect.directory.kinds import write_instant
from poolwise.connect.directory.master import MASTER_FILES
from poolwise.connect.directory.messages import ORDERS, RECEIPTS, STOCK
from poolwise.connect.directory.policies import write_policies
from poolwise.core.catalog import Catalog, kilograms
from poolwise.core.counting import OWN_LOT
from poolwise.core.edition.chunks import decode
from poolwise.core.edition.rows import Section, key_of
from poolwise.core.ledger import PositionKey
from poolwise.core.messages import ReceiptNotice, StockCount
from poolwise.core.orders import Order
from poolwise.core.values import Json, Rate
from poolwise.flows.contents import Contents, Inbound, Shelved
from poolwise.flows.masterdata import in_force, read_version
from poolwise.flows.ports import Contact, Editions, MasterRow

INSTANT_BEFORE: Final = timedelta(microseconds=1)
MINOR_PLACES: Final = 2
"""Minor units are hundredths."""


@dataclass(slots=True)
class Exported:
    """How many rows were written to each file."""

    edition: str = ""
    files: dict[str, int] = field(default_factory=dict)


def export_directory(
    directory: Path,
    editions: Editions,
    contents: Contents,
    progress: Callable[[str, int], object] = lambda _file, _rows: None,
) -> Exported:
    """Write everything into a directory, which is made if need be; files of the same names are replaced one by one.

    `progress` is called with the file and the rows written so far. Without an edition nothing is written.
    """
    done = Exported()
    edition = in_force(editions)
    if edition is None:
        return done
    done.edition = edition.hash
    directory.mkdir(parents=True, exist_ok=True)
    rows = editions.rows()
    for section, file in MASTER_FILES.items():
        done.files[file.name] = _write(directory, file, _master(file, section, rows), progress)
    policies = [read_version(version) for version in editions.policies()]
    write_policies(directory, policies)
    done.files["policy"] = len(policies)
    with contents.snapshot() as snapshot:
        owing = snapshot.owing()
        for file, records in (
            (STOCK, (_count(edition.catalog, each) for each in snapshot.stock() if not _is_left_out(each, owing))),
            (RECEIPTS, (_notice(edition.catalog, each) for each in snapshot.receipts())),
            (ORDERS, (record for each in snapshot.orders() for record in _order(edition.catalog, *each))),
        ):
            done.files[file.name] = _write(directory, file, records, progress)
    return done


def _write(
    directory: Path, file: File, records: Iterable[Mapping[str, str]], progress: Callable[[str, int], object]
) -> int:
    """Write a file beside the old one and put it in its place when it is whole; how many rows it has.

    A file without rows is written only where there was one before, so that it does not say something else.
    """
    path, made = directory / f"{file.name}.csv", directory / f".{file.name}.csv.part"
    count = 0
    with made.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(file.names)
        for record in records:
            writer.writerow([record.get(name, "") for name in file.names])
            count += 1
            if count % 10_000 == 0:
                progress(file.name, count)
    progress(file.name, count)
    old = directory / f"{file.name}.jsonl"
    if count or path.exists() or old.exists():
        made.replace(path)
        old.unlink(missing_ok=True)
    else:
        made.unlink()
    return count


def _master(file: File, section: Section, rows: Iterable[MasterRow]) -> Iterator[dict[str, str]]:
    kept = [row for row in rows if row.section == section.value and row.body is not None]
    values = decode(section, b"[" + b",".join(row.body for row in kept if row.body is not None) + b"]")
    for row, value in zip(kept, values, strict=True):
        assert key_of(value) == row.key
        texts = texts_of(file, value)
        texts["sequence"] = "" if row.sequence is None else str(row.sequence)
        texts["changed_at"] = write_instant(row.changed_at)
        yield texts


def _is_left_out(each: Shelved, owing: Collection[PositionKey]) -> bool:
    """A count cannot say that more has left than was there, and lots of the books themselves are no stock."""
    return each.position.key.lot.startswith(OWN_LOT) or each.position.key in owing


def _units(catalog: Catalog, item: str, quantity: int) -> str:
    """A quantity in the item's own unit, exactly."""
    return str(Rate(quantity, catalog.items[item].scale if item in catalog.items else 0).reduced())


def _count(catalog: Catalog, each: Shelved) -> dict[str, str]:
    key = each.position.key
    return texts_of(
        STOCK,
        StockCount(
            item=key.item,
            node=key.node,
            pool=key.pool,
            lot=key.lot,
            quantity=_units(catalog, key.item, each.position.on_hand),
            as_of=_as_of(each.moved_at, each.mark.as_of if each.mark else None),
            expires_on=each.position.expires_on,
            sequence=each.mark.sequence if each.mark else None,
        ),
    )


def _as_of(moved_at: datetime, counted_at: datetime | None) -> datetime:
    return moved_at if counted_at is None else max(moved_at, counted_at)


def _notice(catalog: Catalog, each: Inbound) -> dict[str, str]:
    key, receipt = each.key, each.receipt
    return texts_of(
        RECEIPTS,
        ReceiptNotice(
            reference=receipt.reference,
            item=key.item,
            node=key.node,
            pool=key.pool,
            lot=key.lot,
            quantity=_units(catalog, key.item, receipt.quantity),
            due_on=receipt.due_on,
            arrived=_units(catalog, key.item, receipt.arrived),
            arrived_at=each.moved_at - INSTANT_BEFORE if receipt.arrived else None,
            cancelled=receipt.cancelled > 0,
            announced=receipt.announced,
            sequence=receipt.sequence,
        ),
    )


def _order(catalog: Catalog, order: Order, contact: Contact | None) -> Iterator[dict[str, str]]:
    """The rows of an order. The zone is named, so that the address need not find it again."""
    data: Mapping[str, Json] = contact.data if contact else {}
    currency = next((line.unit_price.currency for line in order.lines if line.unit_price), "")
    whole: dict[str, Any] = {
        "channel": order.channel,
        "zone": order.zone,
        "service_level": order.service_level,
        "customer": order.customer,
        "currency": currency,
        "priority": order.priority,
        "requested_date": order.requested_date,
        "ship_complete": order.ship_complete,
        "max_shipments": order.max_shipments,
        "facts": dict(order.facts) or None,
        "received_at": order.received_at,
        **{name: str(value) for name, value in data.items() if value},
    }
    for place, line in enumerate(order.lines):
        values = {
            "order": order.number,
            **(whole if place == 0 else {}),
            "item": line.item,
            "quantity": _units(catalog, line.item, line.quantity),
            "unit_price": str(Rate(line.unit_price.minor, MINOR_PLACES).reduced()) if line.unit_price else None,
            "weight_kg": None if line.weight_ug is None else kilograms(line.weight_ug),
            "substitutes": line.substitutes,
            "together": line.together,
        }
        yield _texts(ORDERS, values)


def _texts(file: File, values: Mapping[str, Any]) -> dict[str, str]:
    return {
        column.name: column.kind.write(value)
        for column in file.columns
        if (value := values.get(column.name)) is not None and value != ""
    }
