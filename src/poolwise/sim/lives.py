"""The lives of orders in the generated world: people order, change their minds and send back; nodes pick, and do not
find; carriers bring, late at times; suppliers deliver.

Everything is told to Poolwise as the partners of a company tell it, through the flows, at the time of a clock that is
handed in. Equal seeds and instants give equal lives.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import partial
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

from poolwise.core.edition.rows import NodeRow, Section
from poolwise.core.fulfilment import IN_HAND
from poolwise.core.ledger import Account
from poolwise.core.messages import (
    DisposedLine,
    OrderCancellation,
    ReceiptNotice,
    ReportKind,
    ReportLine,
    ReportParcel,
    ReturnedLine,
    ReturnInspection,
    ReturnNotice,
    ReturnReceipt,
    ShipmentReport,
    StockCount,
)
from poolwise.core.network import Node
from poolwise.core.orders import Blocks, Hold
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import MILLION, base_to_text
from poolwise.flows import change, returns
from poolwise.flows.execute import book_report
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Accepted, Counter, Rejected, accept
from poolwise.flows.ports import Books, ShipmentRecord
from poolwise.flows.receipts import book_receipts
from poolwise.flows.stock import Result, book_counts
from poolwise.flows.tallying import Clerk
from poolwise.flows.views import Feed
from poolwise.sim.demand import Demand
from poolwise.sim.places import WEB
from poolwise.sim.world import World

CANCELLED, HELD, SHORT, DECLINED, FAILED, RETURNED, SCRAPPED, LATE_SUPPLY = 3, 4, 3, 1, 2, 7, 25, 15
"""Of a hundred: orders, orders, shipments, shipments, deliveries, deliveries, returned goods, inbound deliveries."""

BUSY: Final = (1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 13, 13, 12, 11, 11, 12, 13, 14, 16, 18, 17, 12, 6, 3)
"""How busy each hour of a day is, compared with others."""

REASONS: Final = ("too small", "not as shown", "broken")
REORDERED: Final = 4
"""A supplier is asked for an item when so many units of it were ordered."""

EVENTS_AT_ONCE: Final = 500
MOST_IN_A_STEP: Final = 200


@dataclass(frozen=True, slots=True)
class Means:
    """What is handed in: the books, the feed of what happens, who makes ids, and the rules in force."""

    books: Books
    feed: Feed
    ids: Ids
    rules: Callable[[], Atlas]


Act = Callable[[datetime], object]


@dataclass(slots=True)
class Lives:
    """Orders as they come at `a_day` a day, and what becomes of them."""

    world: World
    means: Means
    a_day: int
    done: Tally[str] = field(default_factory=Tally)
    demand: Demand = field(init=False)
    _random: Random = field(init=False)
    _acts: list[tuple[datetime, int, Act]] = field(default_factory=list)
    _place: dict[int, int] = field(default_factory=dict)
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _until: datetime | None = None
    _owed: float = 0.0
    _sold: Tally[str] = field(default_factory=Tally)
    _centres: list[Node] = field(init=False)

    def __post_init__(self) -> None:
        """Everything that is on its way when the world begins comes in."""
        self._random = Random(self.world.seed ^ 0x11FE)
        self.demand = Demand(self.world)
        nodes = [row.node for row in self.world.rows[Section.NODES] if isinstance(row, NodeRow)]
        self._centres = [node for node in nodes if node.kind == "distribution_centre"]
        for notice in self.world.receipts:
            self._expect(notice)

    def step(self, now: datetime) -> int:
        """Let happen what happens until an instant, in order; how many things that were."""
        before = self.done.total()
        self._order(now)
        self._read()
        while self._acts and self._acts[0][0] <= now:
            _, _, act = heapq.heappop(self._acts)
            act(now)
        return self.done.total() - before

    # What people do

    def _order(self, now: datetime) -> None:
        since, self._until = self._until or now, now
        self._owed += self.a_day * (now - since).total_seconds() / 86_400 * BUSY[now.hour] * 24 / sum(BUSY)
        count = min(int(self._owed), MOST_IN_A_STEP)
        self._owed -= count
        if not count:
            return
        orders = list(self.demand.orders(count, now))
        for outcome, order in zip(accept(self.means.books, self._counter("shop"), orders, now), orders, strict=True):
            assert isinstance(outcome, Accepted), outcome
            self.done["ordered"] += 1
            self._sold.update(line.item for line in order.lines if line.item in self._items)
            if self._of_100(CANCELLED):
                self._at(now + self._minutes(5, 25), partial(self._cancel, outcome.number))
            elif self._of_100(HELD):
                self._hold(outcome.number, now)
        self._reorder(now)

    def _cancel(self, number: str, now: datetime) -> None:
        message = OrderCancellation(order=number, reason="changed their mind")
        self._did("cancelled", change.cancel(self.means.books, self._counter("customer care"), message, now))

    def _hold(self, number: str, now: datetime) -> None:
        held = Hold("fraud", (Blocks.RELEASE,))
        desk = self._counter("fraud desk")
        self._did("held", change.hold(self.means.books, desk, number, held, "to be looked at", now, None))
        self._at(
            now + self._minutes(90, 480),
            lambda at: self._did("let go", change.lift(self.means.books, desk, number, "fraud", "is fine", at, None)),
        )

    def _send_back(self, number: str, order: str, now: datetime) -> None:
        lines = (
            ReturnedLine(line=1, quantity="1", reason=self._random.choice(("too small", "not as shown", "broken"))),
        )
        notice = ReturnNotice(number=number, order=order, lines=lines)
        counter = self._counter("shop")
        if not self._did("announced back", returns.announce(self.means.books, counter, notice, now)):
            return
        comes = now + timedelta(days=self._random.randint(2, 5), hours=self._random.randint(0, 6))

        def come(at: datetime) -> None:
            receipt = ReturnReceipt(id=self._id(), number=number, at=at, lines=lines)
            self._did("came back", returns.book_receipt(self.means.books, self._counter("wms"), receipt, at))

        def look(at: datetime) -> None:
            what = "scrap" if self._of_100(SCRAPPED) else "restock"
            told = ReturnInspection(
                id=self._id(), number=number, at=at, lines=(DisposedLine(line=1, quantity="1", disposition=what),)
            )
            self._did("inspected", returns.book_inspection(self.means.books, self._counter("wms"), told, at))

        self._at(comes, come)
        self._at(comes + self._minutes(60, 1_500), look)

    # What nodes and carriers do

    def _read(self) -> None:
        """Nodes read what is released to them."""
        while events := self.means.feed.after(self._place, EVENTS_AT_ONCE):
            for each in events:
                self._place[each.cell] = each.number
                if each.event.type == "shipment.released":
                    number, no = str(each.event.data["order"]), int(str(each.event.data["shipment"]))
                    self._at(each.at + self._minutes(20, 240), partial(self._pick, number, no))

    def _pick(self, order: str, no: int, now: datetime) -> None:
        units = self._in_hand(order, no)
        if units is None:
            return
        record, goods = units
        if self._of_100(DECLINED):
            self._report(order, no, ReportKind.DECLINED, now)
            return
        if self._of_100(SHORT):
            item, _ = goods[0]
            if self._report(order, no, ReportKind.SHORT, now, lines=(ReportLine(item=item, quantity="1"),)):
                self._at(now + self._minutes(30, 600), partial(self._look_for, item, record.shipment.node))
            if self._in_hand(order, no) is None:
                return
        self._report(order, no, ReportKind.PICKED, now)
        self._at(now + self._minutes(20, 180), partial(self._ship, order, no))

    def _ship(self, order: str, no: int, now: datetime) -> None:
        units = self._in_hand(order, no)
        if units is None:
            return
        record, goods = units
        lines = tuple(ReportLine(item=item, quantity=quantity) for item, quantity in goods)
        parcel = ReportParcel(tracking=f"PW{self._random.randrange(10**11):011}EU", lines=lines)
        if self._report(order, no, ReportKind.SHIPPED, now, parcels=(parcel,)):
            comes = self._arrival(record, now)
            if self._of_100(FAILED):
                self._at(comes, partial(self._report, order, no, ReportKind.FAILED))
                comes += timedelta(days=self._random.randint(1, 3))
            self._at(comes, partial(self._deliver, order, no))

    def _deliver(self, order: str, no: int, now: datetime) -> None:
        if self._report(order, no, ReportKind.DELIVERED, now) and self._of_100(RETURNED):
            number = f"RMA-{order}-{no}"
            back = now + timedelta(days=self._random.randint(1, 6), hours=self._random.randint(0, 9))
            self._at(back, partial(self._send_back, number, order))

    def _arrival(self, record: ShipmentRecord, now: datetime) -> datetime:
        """When a carrier is at the door: after as many days as its lanes take by chance, in the hours of delivery."""
        network = self.means.rules().edition.network
        lanes = [network.lanes[code] for code in record.shipment.lanes if code in network.lanes]
        zone = ZoneInfo(network.nodes[record.shipment.node].time_zone)
        today = now.astimezone(zone).date()
        day = network.arrival_along(lanes, today, self._random.randrange(1, MILLION)) if lanes else today
        minutes = self._random.randint(8 * 60, 19 * 60)
        at = datetime.combine(day or today, time.min, zone) + timedelta(minutes=minutes)
        return max(at, now + timedelta(minutes=30))

    def _in_hand(self, order: str, no: int) -> tuple[ShipmentRecord, list[tuple[str, str]]] | None:
        """A shipment that its node works on, with what is to be sent; None where that is nothing."""
        with self.means.books.transaction() as transaction:
            id_ = transaction.order_numbered([order]).get(order)
            if id_ is None:
                return None
            record = next((each for each in transaction.shipments(id_) if each.shipment.no == no), None)
            held = [part for part in transaction.reservations(id_) if part.shipment_no == no and part.open]
            places = transaction.positions({part.position for part in held})
        if record is None or record.stage not in IN_HAND or not held:
            return None
        units: Tally[str] = Tally()
        for part in held:
            units[places[part.position].key.item] += part.open
        items = self.means.rules().edition.catalog.items
        return record, [(item, base_to_text(count, items[item].scale)) for item, count in units.items()]

    def _report(
        self,
        order: str,
        no: int,
        kind: ReportKind,
        now: datetime,
        lines: tuple[ReportLine, ...] = (),
        parcels: tuple[ReportParcel, ...] = (),
    ) -> bool:
        report = ShipmentReport(
            id=self._id(), order=order, shipment=no, kind=kind, at=now, lines=lines, parcels=parcels
        )
        teller = "carrier" if kind in (ReportKind.DELIVERED, ReportKind.FAILED) else "wms"
        clerk = Clerk(self.means.rules().edition, self.means.ids, teller)
        return self._did(kind.value, book_report(self.means.books, clerk, report, now))

    def _look_for(self, item: str, node: str, now: datetime) -> None:
        """Somebody counts: what was not found is not there."""
        catalog = self.means.rules().edition.catalog
        with self.means.books.transaction() as transaction:
            places = [each for each in transaction.positions_of([item]).values() if each.key.node == node]
        counts = [
            StockCount(
                item=item,
                node=node,
                pool=each.key.pool,
                lot=each.key.lot,
                quantity=base_to_text(each.on_hand - each.balance(Account.BLOCKED), catalog.items[item].scale),
                as_of=now,
            )
            for each in places
            if each.balance(Account.BLOCKED)
        ]
        if counts:
            clerk = Clerk(self.means.rules().edition, self.means.ids, "wms")
            self._did("counted", *book_counts(self.means.books, clerk, counts, now))

    # What suppliers do

    def _reorder(self, now: datetime) -> None:
        """What sold is ordered again, from time to time."""
        notices = []
        for item, sold in self._sold.items():
            if sold >= REORDERED:
                node = self._random.choice(self._centres)
                due = now.date() + timedelta(days=self._random.randint(2, 8))
                notices.append(
                    ReceiptNotice(
                        reference=f"PO-{next(self._count):06}-1", item=item, node=node.code, pool=WEB,
                        quantity=str(sold * 2), due_on=due, announced=self._of_100(60), sequence=1,
                    )
                )  # fmt: skip
        for notice in notices:
            self._sold[notice.item] = 0
            self._expect(notice)
        self._receive("expected", notices, now)

    def _expect(self, notice: ReceiptNotice) -> None:
        """It comes on its day, or, told only then, some days later."""
        comes = datetime.combine(notice.due_on, time(6), ZoneInfo("UTC")) + self._minutes(0, 480)
        if not self._of_100(LATE_SUPPLY):
            self._at(comes, partial(self._come, notice, 2, notice.due_on))
            return
        days = self._random.randint(1, 5)
        later = notice.due_on + timedelta(days=days)

        def put_off(at: datetime) -> None:
            told = ReceiptNotice(
                reference=notice.reference, item=notice.item, node=notice.node, pool=notice.pool, lot=notice.lot,
                quantity=notice.quantity, due_on=later, announced=True, sequence=2,
            )  # fmt: skip
            self._receive("put off", [told], at)

        self._at(comes, put_off)
        self._at(comes + timedelta(days=days), partial(self._come, notice, 3, later))

    def _come(self, notice: ReceiptNotice, sequence: int, due_on: date, now: datetime) -> None:
        told = ReceiptNotice(
            reference=notice.reference, item=notice.item, node=notice.node, pool=notice.pool, lot=notice.lot,
            quantity=notice.quantity, arrived=notice.quantity, due_on=due_on, announced=True, sequence=sequence,
            arrived_at=now,
        )  # fmt: skip
        self._receive("arrived", [told], now)

    def _receive(self, what: str, notices: Sequence[ReceiptNotice], now: datetime) -> None:
        if notices:
            clerk = Clerk(self.means.rules().edition, self.means.ids, "erp")
            self._did(what, *book_receipts(self.means.books, clerk, notices, now))

    # Chance and time

    @property
    def _items(self) -> set[str]:
        return set(self.means.rules().edition.catalog.items)

    def _counter(self, party: str) -> Counter:
        atlas = self.means.rules()
        return Counter(atlas.edition, atlas.policy.policy, self.means.ids, party)

    def _did(self, what: str, *told: change.Changed | returns.Announced | returns.Booked | Result | Rejected) -> bool:
        """Count what was done, and what was refused, such as a cancellation that came too late."""
        refused = sum(isinstance(each, Rejected) or (isinstance(each, Result) and bool(each.faults)) for each in told)
        self.done[what] += len(told) - refused
        self.done[f"{what}, refused"] += refused
        return not refused

    def _at(self, at: datetime, act: Act) -> None:
        heapq.heappush(self._acts, (at, next(self._count), act))

    def _id(self) -> str:
        return f"life-{next(self._count)}"

    def _minutes(self, least: int, most: int) -> timedelta:
        return timedelta(minutes=self._random.randint(least, most))

    def _of_100(self, times: int) -> bool:
        return self._random.randrange(100) < times
