"""What clients of a shop ask for in a day of retries, drawn from a seed, and what must have come of it in the end."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

from poolwise.core.ledger import Account, Position
from poolwise.flows.ports import Transaction
from tests.run.retrying import Clients, Deed
from tests.scenarios.stage import Stage, network, stock

NODES = ("NEAR", "FAR")
PLENTY = 1_000_000
FEW = 5
WANTED = 9
"""Units of an order: more than all that may be cancelled, short and shipped of it."""

AGAIN = 0.15
"""How often a message comes under another key, too, which is no second message."""

BASKET_S = 2 * 86_400
MILESTONES = b"""
SELECT o.number, m.kind, count(*) FROM milestone AS m JOIN customer_order AS o ON (o.cell, o.id) = (m.cell, m.owner)
WHERE m.kind IN ('cancelled', 'changed', 'held', 'hold_lifted') GROUP BY 1, 2
"""
NUMBERS = b"SELECT number FROM customer_order"
RECORDED = {"cancel": "cancelled", "amend": "changed", "hold": "held", "lift": "hold_lifted"}
KINDS_BEFORE = {"order": 8, "bulk": 2, "basket": 4, "scarce": 1, "move": 4, "count": 2, "receipt": 3}
KINDS_AFTER = {"cancel": 5, "amend": 3, "hold": 3, "free": 3, "take": 3, "move": 2}
KINDS_RELEASED = {"ship": 6, "short": 3, "cancel": 2, "lift": 2, "arrive": 3, "count": 2}


@dataclass(slots=True)
class Errands:
    """What is asked for, phase by phase: later deeds are about what earlier ones have made."""

    stage: Stage
    clients: Clients
    chance: random.Random
    deeds: list[Deed] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def draw(self, kinds: Mapping[str, int], many: int) -> list[Deed]:
        """Deeds of these kinds, by weight; some are the same message again under another key."""
        found: list[Deed] = []
        for kind in self.chance.choices(list(kinds), list(kinds.values()), k=many):
            deed = getattr(self, f"_{kind}")(next(self._numbers))
            if deed is None:
                continue
            found.append(deed)
            if kind in ("order", "move", "ship", "short", "receipt", "arrive") and self.chance.random() < AGAIN:
                found.append(Deed(f"again-{deed.key}", kind, deed.path, deed.body, shows=deed.shows))
        self.deeds += found
        return found

    def _basket_of(self, number: int, item: str = "MANY", quantity: int = WANTED) -> dict[str, object]:
        return {"channel": "web", "zone": "Z", "lines": [{"item": item, "quantity": str(quantity)}]}

    def _one(self, kind: str) -> Deed | None:
        made = self.clients.done(kind)
        return self.chance.choice(made) if made else None

    def _order(self, n: int) -> Deed:
        body = self._basket_of(n)
        other = {**body, "number": f"X-{n}"}
        # A number of ours is of the key: the same under another key would be another order.
        return Deed(f"k{n}", "order", "/v1/orders", {**body, "number": f"O-{n}"}, other)

    def _bulk(self, n: int) -> Deed:
        orders = [{**self._basket_of(n), "number": "" if place else f"B-{n}"} for place in range(3)]
        orders.append({**self._basket_of(n, "UNHEARD"), "number": f"X-{n}"})
        return Deed(f"k{n}", "bulk", "/v1/orders:bulk", {"orders": orders}, {"orders": orders[:1]})

    def _basket(self, n: int) -> Deed:
        body = {**self._basket_of(n), "expires_in_seconds": BASKET_S}
        return Deed(f"k{n}", "basket", "/v1/reservations", body, {**body, "customer": "another"}, shows=True)

    def _scarce(self, n: int) -> Deed:
        body = {**self._basket_of(n, "SCARCE", 2), "expires_in_seconds": BASKET_S}
        return Deed(f"k{n}", "scarce", "/v1/reservations", body, shows=True)

    def _move(self, n: int) -> Deed:
        moved = {
            "id": f"m{n}", "item": "MOVED", "node": self.chance.choice(NODES), "pool": "P",
            "quantity": str(self.chance.randint(1, 9)), "source": "outside", "target": "available",
            "at": self.stage.clock().isoformat(),
        }  # fmt: skip
        other = {"movements": [{**moved, "id": f"x{n}"}]}
        return Deed(f"k{n}", "move", "/v1/stock/movements", {"movements": [moved]}, other)

    def _count(self, n: int) -> Deed:
        counted = {
            "item": "COUNTED", "node": "NEAR", "pool": "P", "lot": f"L-{n}", "quantity": str(n),
            "as_of": self.stage.clock().isoformat(),
        }  # fmt: skip
        other = {"counts": [{**counted, "lot": f"X-{n}"}]}
        return Deed(f"k{n}", "count", "/v1/stock/counts", {"counts": [counted]}, other)

    def _notice(self, reference: str, arrived: int, sequence: int) -> dict[str, object]:
        expected = {
            "reference": reference, "item": "EXPECTED", "node": "NEAR", "pool": "P", "quantity": "20",
            "due_on": "2026-01-20", "arrived": str(arrived), "sequence": sequence,
        }  # fmt: skip
        return {"receipts": [expected]}

    def _receipt(self, n: int) -> Deed:
        return Deed(
            f"k{n}", "receipt", "/v1/receipts", self._notice(f"PO-{n}", 0, 1), self._notice(f"XO-{n}", 9, 1)
        )  # fmt: skip

    def _arrive(self, n: int) -> Deed | None:
        of = self._one("receipt")
        if of is None:
            return None
        assert of.body is not None
        (notice,) = of.body["receipts"]  # type: ignore[misc]  # made above
        return Deed(f"k{n}", "arrive", "/v1/receipts", self._notice(notice["reference"], n % 20, n + 1))

    def _of_order(self, n: int, kind: str, what: str, body: Mapping[str, object], other: object = None) -> Deed | None:
        order = self._one("order")
        if order is None:
            return None
        path = f"/v1/orders/{self.number_of(order)}/{what}"
        return Deed(f"k{n}", kind, path, body, other, shows=True)  # type: ignore[arg-type]  # a body

    def number_of(self, order: Deed) -> str:
        """The number of an order that was accepted."""
        return str(self.clients.bodies[order]["number"])

    def _cancel(self, n: int) -> Deed | None:
        return self._of_order(n, "cancel", "cancellations", {"lines": [{"no": 1, "quantity": "1"}]}, {})

    def _amend(self, n: int) -> Deed | None:
        add = {"add": [{"item": "MANY", "quantity": "1"}]}
        return self._of_order(n, "amend", "amendments", add, {**add, "reason": "another"})

    def _hold(self, n: int) -> Deed | None:
        held = {"code": f"h{n}", "blocks": ["release"]}
        return self._of_order(n, "hold", "holds", held, {**held, "code": f"x{n}"})

    def _lift(self, n: int) -> Deed | None:
        hold = self._one("hold")
        if hold is None:
            return None
        assert hold.body is not None
        return Deed(f"k{n}", "lift", f"{hold.path}/{hold.body['code']}/lift", None, shows=True)

    def _free(self, n: int) -> Deed | None:
        basket = self._one("basket")
        if basket is None:
            return None
        return Deed(f"k{n}", "free", f"/v1/reservations/{self.clients.bodies[basket]['id']}/free", None, shows=True)

    def _take(self, n: int) -> Deed | None:
        basket = self._one("basket")
        if basket is None:
            return None
        body = {**self._basket_of(n), "number": f"T-{n}", "reservation": self.clients.bodies[basket]["id"]}
        return Deed(f"k{n}", "take", "/v1/orders", body, {**body, "number": f"X-{n}"})

    def _report(self, n: int, kind: str, name: str) -> Deed | None:
        order = self._one("order")
        if order is None:
            return None
        number = self.number_of(order)
        with self.stage.app.books.transaction() as transaction:
            (id_,) = transaction.order_numbered([number]).values()
            largest = max(
                (part for part in transaction.reservations(id_) if part.line_no == 1),
                key=lambda part: part.open,
                default=None,
            )
        if largest is None:
            return None
        said = {
            "id": f"r{n}", "order": number, "shipment": largest.shipment_no, "kind": name,
            "at": self.stage.clock().isoformat(), "lines": [{"item": "MANY", "quantity": "1"}],
        }  # fmt: skip
        return Deed(f"k{n}", kind, "/v1/shipments/reports", said, {**said, "id": f"x{n}"})

    def _ship(self, n: int) -> Deed | None:
        return self._report(n, "ship", "shipped")

    def _short(self, n: int) -> Deed | None:
        return self._report(n, "short", "short")

    # What must have come of it

    def wrong(self) -> list[str]:
        """What is there more than once, or not at all, or was asked for by nobody."""
        found = self.clients.wrong + self.clients.unlike()
        for check in (self._numbers_wrong, self._orders_wrong, self._stock_wrong):
            found += check()
        return found

    def _of(self, *kinds: str) -> list[tuple[Deed, dict[str, Any]]]:
        return [(deed, self.clients.bodies[deed]) for kind in kinds for deed in self.clients.done(kind)]

    def _numbers_wrong(self) -> list[str]:
        wanted = {told["number"] for _, told in self._of("order", "take")}
        for _, told in self._of("bulk"):
            wanted |= {each["accepted"]["number"] for each in told["outcomes"] if "accepted" in each}
        wanted |= {f"R-{told['id']}" for _, told in self._of("basket", "scarce")}
        there = Counter(number for (number,) in self._rows(NUMBERS))
        return _unlike("orders", Counter(wanted), there)

    def _orders_wrong(self) -> list[str]:
        recorded = Counter((deed.path.split("/")[3], RECORDED[deed.kind]) for deed, _ in self._of(*RECORDED))
        there = {(number, kind): times for number, kind, times in self._rows(MILESTONES)}
        found = _unlike("milestones", recorded, there)
        with self.stage.app.books.transaction() as transaction:
            numbers = transaction.order_numbered([told["number"] for _, told in self._of("order")])
            records = transaction.orders(numbers.values())
        held = self._held()
        for number, id_ in numbers.items():
            record = records[id_]
            cancelled, amended = recorded[number, "cancelled"], recorded[number, "changed"]
            if (record.lines[0].cancelled, len(record.lines)) != (cancelled, 1 + amended):
                found.append(f"{number} was cancelled {cancelled} and amended {amended} times: {record.lines}")
            if {hold.code for hold in record.holds} != held[number]:
                found.append(f"{number} is to be held by {held[number]}: {record.holds}")
        return found

    def _held(self) -> Mapping[str, set[str]]:
        """Codes of the holds by order."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for deed, _ in self._of("hold"):
            assert deed.body is not None
            found[deed.path.split("/")[3]].add(str(deed.body["code"]))
        for deed, _ in self._of("lift"):
            *_, number, _holds, code, _lift = deed.path.split("/")
            found[number].discard(code)
        return found

    def _stock_wrong(self) -> list[str]:
        shipped, short = self._booked("ship", "id", _one_unit), self._booked("short", "id", _one_unit)
        moved = self._booked("move", "id", lambda body: int(body["movements"][0]["quantity"]))
        counted = self._booked("count", "lot", lambda body: int(body["counts"][0]["quantity"]))
        arrived: dict[str, tuple[int, int]] = {}
        for deed, told in self._of("arrive"):
            (notice,) = deed.body["receipts"]  # type: ignore[index,misc]  # made above
            if told["outcomes"][0]["outcome"] == "booked":
                name, said = notice["reference"], (notice["sequence"], int(notice["arrived"]))
                arrived[name] = max(arrived.get(name, (0, 0)), said)
        wanted = {
            "MANY on hand": len(NODES) * PLENTY - sum(shipped.values()),
            "MANY blocked": sum(short.values()),
            "MOVED on hand": sum(moved.values()),
            "COUNTED on hand": sum(counted.values()),
            "EXPECTED on hand": sum(units for _, units in arrived.values()),
            "SCARCE reserved": 2 * len(self._of("scarce")),
        }
        with self.stage.app.books.transaction() as transaction:
            there = {name: _units(transaction, *name.split(" ", 1)) for name in wanted}
        return _unlike("stock", wanted, there) + self.clients.wrong

    def _booked(self, kind: str, name: str, units: Callable[[Any], int]) -> dict[str, int]:
        """Units of the messages that were booked, by their ids; two of one id that are both booked are wrong."""
        found: dict[str, int] = {}
        for deed, told in self._of(kind):
            outcome = told["outcomes"][0] if "outcomes" in told else told
            if outcome["outcome"] != "booked":
                continue
            body: Any = deed.body
            said = next(iter(body.values()))[0] if len(body) == 1 else body
            if said[name] in found:
                self.clients.wrong.append(f"{said[name]} is booked under two keys")
            found[said[name]] = units(body)
        return found

    def _rows(self, statement: bytes) -> list[tuple[Any, ...]]:
        with self.stage.app.pool.connection() as connection:
            return connection.execute(statement).fetchall()

    def baskets_held(self) -> int:
        """Units of baskets that are set aside."""
        with self.stage.app.books.transaction() as transaction:
            owners = [UUID(told["id"]) for _, told in self._of("basket", "scarce")]
            return sum(part.open for owner in owners for part in transaction.reservations(owner))


def _one_unit(_body: object) -> int:
    return 1


def _units(transaction: Transaction, item: str, what: str) -> int:
    positions: Sequence[Position] = list(transaction.positions_of([item]).values())
    return sum(each.on_hand if what == "on hand" else each.balance(Account(what)) for each in positions)


def _unlike(what: str, wanted: Mapping[Any, int], there: Mapping[Any, int]) -> list[str]:
    differ = {key for key in {*wanted, *there} if wanted.get(key, 0) != there.get(key, 0)}
    return [f"{what}: {key} should be {wanted.get(key, 0)}, is {there.get(key, 0)}" for key in sorted(differ, key=str)]


def bring(stage: Stage) -> None:
    """Two nodes with plenty of one item and a few of another."""
    items = ["MANY", "SCARCE", "MOVED", "COUNTED", "EXPECTED"]
    counts = [*stock(*(("MANY", node, PLENTY) for node in NODES)), *stock(("SCARCE", "NEAR", FEW))]
    stage.bring({**network({"NEAR": 3, "FAR": 8}, items), "stock.csv": counts})
