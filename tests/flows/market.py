"""A small market for the stories of sourcing: three nodes, plain items, a kit, a substitute; both kinds of books.

A market is told what happens in the words of its messages, and asked for numbers. Everything goes through the flows.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from poolwise.connect.directory.policies import default_policy
from poolwise.core.catalog import Item
from poolwise.core.edition.build import Edition, edition_of
from poolwise.core.edition.checks import check
from poolwise.core.edition.rows import (
    BandRow,
    CapacityRow,
    ComponentRow,
    ItemRow,
    NodeRow,
    PoolRow,
    Row,
    Section,
    Settings,
    SubstitutionRow,
    key_of,
)
from poolwise.core.ledger import Account, PositionKey
from poolwise.core.messages import (
    DisposedLine,
    LineChange,
    OrderAmendment,
    OrderCancellation,
    OrderDivision,
    OrderJoin,
    OrderLine,
    OrderMessage,
    ReceiptNotice,
    ReportKind,
    ReportLine,
    ReservationRequest,
    ReturnedLine,
    ReturnInspection,
    ReturnNotice,
    ReturnReceipt,
    ShipmentReport,
    StockCount,
)
from poolwise.core.network import CapacityUnit, CostCard, Lane, Node, Pool, RateBand, Slot, Zone
from poolwise.core.orders import Blocks, Hold
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.returns import ReturnState
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import Rate, replace
from poolwise.flows import change, regroup
from poolwise.flows.execute import book_report
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Accepted, Counter, Outcome, Rejected, accept
from poolwise.flows.masterdata import Told, adopt_policy, publish
from poolwise.flows.ports import Books, OrderRecord, Queue
from poolwise.flows.receipts import book_receipts
from poolwise.flows.reserve import Reserved, free, reserve
from poolwise.flows.returns import Booked, announce, book_inspection, book_receipt, end
from poolwise.flows.source import Desk, source_batch
from poolwise.flows.stock import Outcome as StockOutcome
from poolwise.flows.stock import book_counts
from poolwise.flows.tallying import Clerk
from poolwise.flows.timers import run_timers
from poolwise.store import postgres
from poolwise.store.books import PostgresBooks
from poolwise.store.check import Finding, findings
from poolwise.store.editions import PostgresEditions
from poolwise.store.evidence import check_database
from poolwise.store.memory import MemoryBooks
from poolwise.store.memory_evidence import MemoryEvidence
from poolwise.store.postgres import Pool as Connections
from tests.conftest import Database

START = datetime(2026, 1, 12, 8, tzinfo=UTC)
NODES = ("A", "B", "C")
ITEMS = ("BOLT", "NUT", "NAIL", "KIT", "SCREW")
CELLS = (0,)


def rows(daily_orders: int = 100_000) -> list[tuple[Section, Row]]:
    """Node A is the nearest, then B, then C. A KIT is a BOLT and two NUTs; a SCREW may replace a NAIL."""
    kilograms = 1_000_000_000
    found: list[tuple[Section, Row]] = [(Section.NETWORK, Settings("EUR", "market")), (Section.ZONES, Zone("Z"))]
    found += [(Section.ITEMS, ItemRow(Item(code, weight_ug=kilograms // 2))) for code in ITEMS]
    found += [(Section.BILLS, ComponentRow("KIT", item, Rate(count))) for item, count in (("BOLT", 1), ("NUT", 2))]
    found += [(Section.SUBSTITUTIONS, SubstitutionRow("NAIL", "SCREW", penalty=Rate(1)))]
    found += [(Section.POOLS, PoolRow(Pool("P")))]
    for ring, node in enumerate(NODES, start=1):
        band = RateBand(0, 1_000 * kilograms, fixed=Rate(5 * ring))
        found += [
            (Section.NODES, NodeRow(Node(node, costs=CostCard(per_shipment=Rate(1))))),
            (Section.CAPACITIES, CapacityRow(node, 0, Slot(CapacityUnit.ORDERS, daily_orders))),
            (Section.RATES, BandRow(f"ring-{ring}", band)),
            (Section.LANES, Lane(f"{node}-Z", node, "Z", f"ring-{ring}", distance_km=100 * ring)),
        ]
    return found


def edition_in_memory(told: Sequence[tuple[Section, Row]]) -> Edition:
    """The edition of rows, without books."""
    by_section: dict[Section, dict[str, Row]] = {section: {} for section in Section}
    for section, row in told:
        by_section[section][key_of(row)] = row
    checked = check(by_section, START.date())
    assert not checked.faults, checked.faults
    return edition_of(checked)[0]


@dataclass(slots=True)
class Market:
    """Books with an edition, a policy and a clock that a test moves."""

    books: Books
    edition: Edition
    policy: SourcingPolicy
    connections: Connections | None = None
    now: datetime = START
    seed: int = 1
    known_findings: frozenset[int] = frozenset()
    told: Sequence[tuple[Section, Row]] = ()
    past: list[tuple[str, int]] = field(default_factory=list)
    reports: int = 0
    desk: Desk = field(init=False)
    counter: Counter = field(init=False)
    clerk: Clerk = field(init=False)

    def __post_init__(self) -> None:
        bits = random.Random(self.seed).getrandbits if self.connections is None else secrets.randbits
        ids = Ids(bits)
        self.past = [(self.edition.hash, self.policy.version)]
        self.desk = Desk(Atlas(self.edition, compile_policy(self.policy)), "test", CELLS, ids)
        self.counter = Counter(self.edition, self.policy, ids, "shop")
        self.clerk = Clerk(self.edition, ids, "wms")

    def later(self, **span: float) -> datetime:
        """Time passes."""
        self.now += timedelta(**span)
        return self.now

    # What happens

    def count(self, item: str, node: str, units: int, pool: str = "P", lot: str = "") -> StockOutcome:
        """A node says how much it has."""
        at = self.later(seconds=1)
        said = StockCount(item=item, node=node, pool=pool, lot=lot, quantity=str(units), as_of=at)
        (result,) = book_counts(self.books, self.clerk, [said], at)
        return result.outcome

    def expect(self, item: str, node: str, units: int, due_in_days: int = 3, reference: str = "PO-1") -> None:
        """A supplier announces stock."""
        at = self.later(seconds=1)
        due = (at + timedelta(days=due_in_days)).date()
        said = ReceiptNotice(
            reference=reference, item=item, node=node, pool="P", quantity=str(units), due_on=due, announced=True
        )
        book_receipts(self.books, self.clerk, [said], at)

    def arrive(self, item: str, node: str, units: int, reference: str = "PO-1") -> None:
        """All of what a supplier announced has come."""
        at = self.later(seconds=1)
        said = ReceiptNotice(
            reference=reference, item=item, node=node, pool="P", quantity=str(units), due_on=at.date(),
            arrived=str(units), sequence=1,
        )  # fmt: skip
        book_receipts(self.books, self.clerk, [said], at)

    def order(self, number: str, *lines: tuple[str, int], **more: object) -> UUID:
        """An order arrives; its id."""
        outcome = self.send(number, *lines, **more)
        assert isinstance(outcome, Accepted), outcome
        return outcome.order

    def accept(self, asked: OrderMessage) -> UUID:
        """An order with all it says; its id."""
        (outcome,) = accept(self.books, self.counter, [asked], self.later(seconds=1))
        assert isinstance(outcome, Accepted), outcome
        return outcome.order

    def send(self, number: str, *lines: tuple[str, int], **more: object) -> Outcome:
        """An order arrives; what becomes of it."""
        (outcome,) = accept(self.books, self.counter, [message(number, *lines, **more)], self.later(seconds=1))
        return outcome

    def set_aside(self, *lines: tuple[str, int], seconds: int = 600, **more: object):
        """A basket is set aside, or refused."""
        asked = basket_of(*lines, expires_in_seconds=seconds, **more)
        return reserve(self.books, self.desk, self.counter, asked, self.later(seconds=1))

    def basket(self, *lines: tuple[str, int], **more: object) -> UUID:
        """A basket that is set aside; its id."""
        found = self.set_aside(*lines, **more)
        assert isinstance(found, Reserved), found
        return found.reservation

    def free(self, basket: UUID) -> int:
        """A basket is given back."""
        return free(self.books, self.desk, basket, self.later(seconds=1))

    def expire(self) -> int:
        """Timers that are due go off."""
        return run_timers(self.books, self.desk, 0, self.now, 100)

    def release(self) -> int:
        """An hour later, what is due is released; how many timers went off."""
        self.later(hours=1)
        return self.expire()

    def report(
        self,
        order: str,
        kind: str,
        *lines: tuple[str, int],
        shipment: int = 1,
        id: str = "",  # noqa: A002
        at: datetime | None = None,
    ) -> StockOutcome:
        """A node or carrier reports what became of a shipment."""
        now = self.later(seconds=1)
        self.reports += 1
        said = ShipmentReport(
            id=id or f"r-{self.reports}",
            order=order,
            shipment=shipment,
            kind=ReportKind(kind),
            at=at or now,
            lines=tuple(ReportLine(item=item, quantity=str(units)) for item, units in lines),
        )
        return book_report(self.books, self.clerk, said, now).outcome

    def cancel(self, number: str, *lines: tuple[int, int | None]) -> change.Outcome:
        """Units of lines are cancelled, or all that can still be."""
        asked = tuple(LineChange(no=no, quantity=None if units is None else str(units)) for no, units in lines)
        message_ = OrderCancellation(order=number, lines=asked, reason="not wanted")
        return change.cancel(self.books, self.counter, message_, self.later(seconds=1))

    def amend(self, number: str, *lines: tuple[int, int] | tuple[int, int, str], **more: object) -> change.Outcome:
        """Lines are wanted in other quantities, or as other items; or something else is different."""
        asked = tuple(LineChange(no=each[0], quantity=str(each[1]), item="".join(each[2:])) for each in lines)
        message_ = OrderAmendment(order=number, lines=asked, **more)
        return change.amend(self.books, self.counter, message_, self.later(seconds=1))

    def divide(self, number: str, new: str, *lines: tuple[int, int | None]) -> change.Outcome:
        """Units of lines become an order of their own."""
        asked = tuple(LineChange(no=no, quantity=None if units is None else str(units)) for no, units in lines)
        message_ = OrderDivision(order=number, number=new, lines=asked)
        return regroup.divide(self.books, self.counter, message_, self.later(seconds=1))

    def join(self, number: str, other: str) -> change.Outcome:
        """Another order becomes part of this one."""
        message_ = OrderJoin(order=number, other=other)
        return regroup.join(self.books, self.counter, message_, self.later(seconds=1))

    def hold(self, number: str, *blocks: str, code: str = "fraud") -> change.Outcome:
        """An order is held."""
        held = Hold(code, tuple(Blocks(each) for each in blocks))
        return change.hold(self.books, self.counter, number, held, "", self.later(seconds=1), None)

    def lift(self, number: str, code: str = "fraud") -> change.Outcome:
        """An order is let go."""
        return change.lift(self.books, self.counter, number, code, "", self.later(seconds=1), None)

    def announce(self, number: str, *lines: tuple[int, int], order: str = "1", **more: object) -> str | Rejected:
        """Goods of lines of an order will come back; the return's number, if it is not refused."""
        asked = tuple(ReturnedLine(line=line, quantity=str(units)) for line, units in lines)
        notice = ReturnNotice(number=number, order=order, lines=asked, **more)
        found = announce(self.books, self.counter, notice, self.later(seconds=1))
        return found if isinstance(found, Rejected) else f"{'known ' if found.known else ''}{found.number}"

    def come_back(
        self,
        number: str,
        *lines: tuple[int, int] | tuple[int, int, str],
        id: str = "",  # noqa: A002
        **more: object,
    ) -> Booked | Rejected:
        """Goods of a return have come; what was sent for a line is named last, where it is not clear."""
        self.reports += 1
        told = tuple(ReturnedLine(line=each[0], quantity=str(each[1]), item="".join(each[2:])) for each in lines)
        at = self.later(seconds=1)
        fields = {"id": id or f"r-{self.reports}", "at": at, **more}
        receipt = ReturnReceipt(number=number, lines=told, **fields)
        return book_receipt(self.books, self.counter, receipt, at)

    def inspect(
        self,
        number: str,
        *lines: tuple[int, int, str] | tuple[int, int, str, str],
        id: str = "",  # noqa: A002
        **more: object,
    ) -> Booked | Rejected:
        """Somebody has looked at goods of a return; what was sent for a line is named last, where it is not clear."""
        self.reports += 1
        told = tuple(
            DisposedLine(line=line, quantity=str(units), disposition=what, item="".join(item),
                         supplier="ACME" if what == "to_supplier" else "")
            for line, units, what, *item in lines
        )  # fmt: skip
        at = self.later(seconds=1)
        fields = {"id": id or f"r-{self.reports}", "at": at, **more}
        inspection = ReturnInspection(number=number, lines=told, **fields)
        return book_inspection(self.books, self.counter, inspection, at)

    def end(self, number: str, ending: str) -> Booked | Rejected:
        """Nothing more is expected of a return."""
        return end(self.books, self.counter, number, ReturnState(ending), self.later(seconds=1))

    def returned(self, order: UUID) -> list[str]:
        """The returns of an order, with their states."""
        return [f"{found.number} {found.state}" for found in self.record(order).returns]

    def stages(self, order: UUID) -> list[str]:
        """Stages of the shipments of an order, with their nodes."""
        with self.books.transaction() as transaction:
            return [f"{each.shipment.node} {each.stage}" for each in transaction.shipments(order)]

    def look_again(self, limit: int = 500) -> int:
        """Whoever waits for stock and must look again is decided; how many decisions that were."""
        decided = 0
        while found := source_batch(self.books, self.desk, 0, self.now, limit, Queue.STOCK).decided:
            decided += found
        return decided

    def under(self, told: Sequence[tuple[Section, Row]] = (), policy: SourcingPolicy | None = None) -> None:
        """Another edition, with some rows anew, and another version of the policy are in force."""
        by_key = {(section, key_of(row)): (section, row) for section, row in (*self.told, *told)}
        self.told = tuple(by_key.values())
        self.edition = edition_in_memory(self.told)
        if policy is not None:
            self.policy = replace(policy, version=self.policy.version + 1)
        self.past += [(self.edition.hash, self.policy.version)]
        if self.connections is not None:
            editions = PostgresEditions(self.connections)
            found = publish(editions, [Told(row, section) for section, row in told], self.later(seconds=1), "test")
            assert (found.faults, found.edition.hash) == ([], self.edition.hash)
            if policy is not None:
                adopt_policy(editions, self.policy, self.now, "test")
        self.desk = replace(self.desk, atlas=Atlas(self.edition, compile_policy(self.policy)))
        self.counter = replace(self.counter, edition=self.edition, policy=self.policy)
        self.clerk = Clerk(self.edition, self.desk.ids, "wms")

    def work(self, limit: int = 500) -> int:
        """A worker sources until nothing waits for it; how many decisions it made."""
        decided = 0
        while True:
            sourced = source_batch(self.books, self.desk, 0, self.later(seconds=1), limit)
            decided += sourced.decided
            if not sourced.decided + sourced.returned:
                return decided

    # What there is

    def record(self, order: UUID) -> OrderRecord:
        """An order and where it stands."""
        with self.books.transaction() as transaction:
            return transaction.orders([order])[order]

    def state(self, order: UUID) -> str:
        """The state of an order."""
        return self.record(order).state.value

    def at(self, item: str, node: str, lot: str = "", pool: str = "P") -> Mapping[str, int]:
        """The balances of a position that are not zero, but for what is outside."""
        key = PositionKey(item, node, pool, lot).id()
        with self.books.transaction() as transaction:
            position = transaction.positions([key]).get(key)
        if position is None:
            return {}
        return {a.value: position.balance(a) for a in Account if a is not Account.OUTSIDE and position.balance(a)}

    def held(self, owner: UUID) -> list[tuple[str, int]]:
        """Node and open units of what is set aside for an owner, by number."""
        with self.books.transaction() as transaction:
            held = [part for part in transaction.reservations(owner) if part.open]
            places = transaction.positions([part.position for part in held])
        return [(places[part.position].key.node, part.open) for part in held]

    def reserved(self, *orders: UUID) -> int:
        """Units set aside for some owners."""
        return sum(units for order in orders for _, units in self.held(order))

    def waiting(self, queue: Queue = Queue.ONCE) -> list[str]:
        """Numbers of the orders in a queue, in the order in which they would be claimed."""
        found: list[str] = []
        with suppress(Unclaimed), self.books.transaction() as transaction:
            while claimed := transaction.claim(0, queue, self.now + timedelta(days=1), 500):
                found += [todo.order.number for todo in claimed]
            raise Unclaimed
        return found

    def taken(self, node: str, day: date) -> int:
        """Capacity taken of a node's day."""
        with self.books.transaction() as transaction:
            facts = transaction.stock(CELLS, [], day).capacity.get(node, ())
        return sum(fact.taken for fact in facts if fact.day == day)

    def incidents(self) -> list[str]:
        """Kinds of all incidents there were, sorted."""
        if isinstance(self.books, MemoryBooks):
            return sorted(incident.kind for incident in self.books.shelves.incidents.values())
        assert self.connections is not None
        with self.connections.connection() as connection:
            return sorted(kind for (kind,) in connection.execute("SELECT kind FROM incident").fetchall())

    def findings(self) -> list[Finding]:
        """What the check of the laws finds, but for what the story says it knows of."""
        return [finding for finding in self._all_findings() if finding.law not in self.known_findings]

    def _all_findings(self) -> list[Finding]:
        if self.connections is not None:
            return list(check_database(self.connections, CELLS, self.now, full=True).findings)
        assert isinstance(self.books, MemoryBooks)
        policies = {(self.policy.code, version) for _, version in self.past}
        return findings(MemoryEvidence(self.books.shelves, {edition for edition, _ in self.past}, policies))


class Unclaimed(Exception):
    """Rolls a look into a queue back."""


def message(number: str, *lines: tuple[str, int], **more: object) -> OrderMessage:
    """An order from the web to the one zone."""
    where: dict[str, object] = {} if "collect_at" in more else {"zone": "Z"}
    return OrderMessage(channel="web", number=number, lines=order_lines(lines), **(where | more))


def basket_of(*lines: tuple[str, int], **more: object) -> ReservationRequest:
    """A basket from the web to the one zone."""
    return ReservationRequest(channel="web", lines=order_lines(lines), **{"zone": "Z", **more})


def order_lines(lines: Sequence[tuple[str, int]]) -> tuple[OrderLine, ...]:
    """Lines of (item, quantity)."""
    return tuple(OrderLine(item=item, quantity=str(quantity)) for item, quantity in lines)


def policy(**changes: object) -> SourcingPolicy:
    """The shipped policy, with changes."""
    return replace(default_policy(), version=1, **changes)


def in_memory(daily_orders: int = 100_000, **changes: object) -> Market:
    """A market on memory books."""
    told = rows(daily_orders)
    return Market(MemoryBooks(), edition_in_memory(told), policy(**changes), told=told)


@contextmanager
def on_postgres(
    database: Database, daily_orders: int = 100_000, connections: int = 4, **changes: object
) -> Iterator[Market]:
    """A market on a fresh database, its edition and policy on record there."""
    with postgres.connect(database.url, connections=connections) as pool:
        editions = PostgresEditions(pool)
        told = rows(daily_orders)
        published = publish(editions, [Told(row, section) for section, row in told], START, "test")
        assert not published.faults, published.faults
        adopted, _ = adopt_policy(editions, policy(**changes), START, "test")
        yield Market(PostgresBooks(pool, CELLS), published.edition, adopted, pool, told=told)
