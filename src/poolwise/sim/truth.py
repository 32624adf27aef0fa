"""The simulated world as it truly is: what lies on shelves, who asked for what, what is under way.

It draws what happens next, and judges what Poolwise answers: a message has one effect however often and late it
comes, a basket is over when its time is, and once all mail has come, the books hold what the shelves hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from heapq import heappop, heappush
from random import Random
from typing import Final
from uuid import UUID

from poolwise.core.ledger import PositionKey
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
    StockMovement,
)
from poolwise.core.orders import Blocks, Hold
from poolwise.core.policy.terms import CustomerAct, Disposition
from poolwise.core.returns import ENDINGS
from poolwise.core.values import replace
from poolwise.flows import returns
from poolwise.flows.intake import Accepted, Rejected
from poolwise.flows.offers import OfferOf, Replied
from poolwise.flows.ports import Queue
from poolwise.flows.returns import Announced, Booked
from poolwise.flows.stock import Outcome, Result
from poolwise.flows.tracking import Wish
from poolwise.sim.hamlet import CHANNELS, DESK, DESK_NODE, ITEMS, KIT, ZONES
from poolwise.sim.stage import (
    Asked,
    Change,
    EndReturn,
    GiveBack,
    Held,
    Lifted,
    Mail,
    Reply,
    Sack,
    SetAside,
    Sweep,
    Wished,
    Work,
    Wrong,
)

START: Final = datetime(2101, 1, 3, tzinfo=UTC)
"""No real clock shows this."""

LONGEST_STEP_S: Final = 4 * 3_600
LONGEST_BASKET_S: Final = 2 * 86_400
MOST_TOGETHER: Final = 50
GONE: Final = (ReportKind.SHIPPED, ReportKind.DELIVERED, ReportKind.FAILED)
"""Reports of goods that have left."""

KINDS: Final = (
    ReportKind.SHIPPED, ReportKind.SHIPPED, ReportKind.DELIVERED, ReportKind.SHORT, ReportKind.DECLINED,
    ReportKind.FAILED, ReportKind.PICKED,
)  # fmt: skip

DASHES_OF_AN_ID: Final = 4
ASTRAY: Final = 0.1
CLAIMS: Final = 0.6
TWICE: Final = 0.2
"""How often a message comes twice."""


class Act(StrEnum):
    """What may happen next."""

    ORDER = "order"
    BASKET = "basket"
    GIVE_BACK = "give_back"
    ARRIVE = "arrive"
    LEAVE = "leave"
    CARRY = "carry"
    VANISH = "vanish"
    COUNT = "count"
    EXPECT = "expect"
    RECEIVE = "receive"
    DELIVER = "deliver"
    SOURCE = "source"
    WAVE = "wave"
    LOOK_AGAIN = "look_again"
    SWEEP = "sweep"
    REPORT = "report"
    CHANGE = "change"
    RETURN = "return"
    INSPECT = "inspect"
    END_RETURN = "end_return"
    REPLY = "reply"
    RULES = "rules"


WEIGHTS: Final = {
    Act.ORDER: 14, Act.BASKET: 5, Act.GIVE_BACK: 2, Act.ARRIVE: 14, Act.LEAVE: 3, Act.CARRY: 3, Act.VANISH: 2,
    Act.COUNT: 5, Act.EXPECT: 5, Act.RECEIVE: 5, Act.DELIVER: 22, Act.SOURCE: 14, Act.WAVE: 3, Act.LOOK_AGAIN: 2,
    Act.SWEEP: 6, Act.REPORT: 16, Act.CHANGE: 7, Act.RETURN: 12, Act.INSPECT: 16, Act.END_RETURN: 1, Act.REPLY: 6,
    Act.RULES: 1,
}  # fmt: skip
"""How often, of a hundred and some."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a history: what happens, and the number all its chance comes from."""

    act: Act
    chance: int


def history(seed: int, steps: int) -> list[Step]:
    """The steps of a seed."""
    random = Random(f"history {seed}")
    acts = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps)
    return [Step(act, random.getrandbits(48)) for act in acts]


@dataclass(slots=True)
class Inbound:
    """What a supplier has promised: in all, come so far, and as which statement."""

    notice: ReceiptNotice
    key: PositionKey
    arrived: int = 0


@dataclass(frozen=True, slots=True)
class PickList:
    """What a node has in hand: a shipment of an order, and what is to be sent, in the order in which it is picked.

    Of one that `is_over`, cancelled, it is what may go all the same. It may be collected, even where it lies.
    """

    order: str
    shipment: int
    parts: tuple[tuple[PositionKey, int], ...]
    is_over: bool = False
    collect_at: str = ""
    on_its_shelf: bool = False

    def left(self, kind: ReportKind) -> tuple[tuple[PositionKey, int], ...]:
        """What is no longer on its shelf when that is true of it."""
        stays = {ReportKind.READY, ReportKind.FAILED} if self.on_its_shelf else set()
        goes = kind in {*GONE, ReportKind.READY} - stays
        return self.parts if goes else ()


@dataclass(frozen=True, slots=True)
class Left:
    """What has left of a line of an order, as one item out of one pool."""

    order: str
    line: int
    item: str
    pool: str
    units: int


@dataclass(slots=True)
class Back:
    """Units that came back by a return to a shelf, and of them those that nobody has looked at."""

    number: str
    order: str
    line: int
    key: PositionKey
    units: int


@dataclass(slots=True)
class World:
    """The truth. `shelves` are base units by position; `unseen` what vanished there since it was counted last."""

    nodes: tuple[str, ...]
    now: datetime = START
    shelves: dict[PositionKey, int] = field(default_factory=dict)
    unseen: dict[PositionKey, int] = field(default_factory=dict)
    inbound: list[Inbound] = field(default_factory=list)
    orders: dict[str, UUID | None] = field(default_factory=dict)
    baskets: dict[UUID, datetime] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    returns: list[Back] = field(default_factory=list)
    returned: dict[tuple[str, int, str], int] = field(default_factory=dict)
    claimed: dict[tuple[str, int], str] = field(default_factory=dict)
    mail: list[tuple[datetime, int, Mail]] = field(default_factory=list)
    _sent: int = 0
    _divided: int = 0

    def next(self, step: Step) -> Asked | None:
        """What is asked of Poolwise in a step, after some time has passed; None where nothing is."""
        random = Random(step.chance)
        self.now += timedelta(seconds=random.randint(1, LONGEST_STEP_S) if random.random() < 0.3 else 1)
        return _ACTS[step.act](self, random)

    def sack(self) -> Sack:
        """The messages of one kind that come next, all at once; of one receipt only one notice.

        Of several the newest counts, and when what the others told of had come is not known any more.
        """
        found = [self._come()]
        while self.mail and len(found) < MOST_TOGETHER:
            following = self.mail[0][2]
            references = {mail.reference for mail in found if isinstance(mail, ReceiptNotice)}
            if type(following) is not type(found[0]) or getattr(following, "reference", "") in references:
                break
            found.append(self._come())
        return Sack(tuple(found))

    def judge(self, asked: Asked, answer: object, crashed: bool) -> None:
        """Raise Wrong when an answer cannot be true. After a crash the first message may have had its effect."""
        match asked, answer:
            case Sack(), list():
                for mail, own in zip(asked.mail, answer, strict=True):
                    self._judge(mail, own, crashed)
            case Change(wanted=OrderDivision() as wanted), str() if ", added [" in answer:
                self.orders[wanted.number] = UUID(answer.split()[0])
            case Change(wanted=Wished()), str() if ", added [" in answer and not answer.endswith(", added []"):
                raise Wrong(f"{asked} made more of an order: {answer}")
            case Reply(claims=True), Replied():
                offer = asked.offer
                if self.claimed.setdefault((offer.order, offer.shipment), offer.node) != offer.node:
                    raise Wrong(f"{offer.node} claims shipment {offer.shipment} of {offer.order}, and is not the first")
            case SetAside(), str() if answer.count("-") == DASHES_OF_AN_ID:
                self.baskets[UUID(answer)] = self.now + timedelta(seconds=asked.request.expires_in_seconds)

    def _judge(self, mail: Mail, answer: object, crashed: bool) -> None:
        match mail, answer:
            case OrderMessage(), Accepted():
                first = self.orders.get(mail.number)
                if first is not None and (answer.order != first or not answer.known):
                    raise Wrong(f"order {mail.number} was accepted twice (law 5)")
                if first is None and answer.known and not crashed:
                    raise Wrong(f"order {mail.number} came for the first time and was known")
                self.orders[mail.number] = answer.order
            case ((ShipmentReport() | StockMovement()), Result()):
                known = mail.id in self.told
                self.told.add(mail.id)
                # A report of what has happened already changes nothing; a movement always does.
                booked = {Outcome.BOOKED}
                if isinstance(mail, ShipmentReport):
                    booked |= {Outcome.UNCHANGED, Outcome.CANCELLED}
                right = {Outcome.DUPLICATE} if known else booked
                if answer.outcome not in (right | {Outcome.DUPLICATE} if crashed else right):
                    raise Wrong(f"{mail} came {'again' if known else 'first'}: {answer} (law 5)")
            case ((StockCount() | ReceiptNotice()), Result()):
                if answer.outcome is Outcome.REFUSED:
                    raise Wrong(f"{mail} was refused: {answer.faults}")
            case ((ReturnNotice() | ReturnReceipt() | ReturnInspection()), _):
                self._judge_return(mail, answer, crashed)
            case _:
                pass

    def _judge_return(
        self, mail: ReturnNotice | ReturnReceipt | ReturnInspection, answer: object, crashed: bool
    ) -> None:
        """An announcement may be refused; goods that are there never are."""
        match mail, answer:
            case ReturnNotice(), Announced():
                if answer.known != (f"return {mail.number}" in self.told) and not crashed:
                    raise Wrong(
                        f"return {mail.number} came {'for the first time' if answer.known else 'again'} (law 5)"
                    )
                self.told.add(f"return {mail.number}")
            case ReturnNotice(), Rejected():
                if f"return {mail.number}" in self.told:
                    raise Wrong(f"return {mail.number} was on record and is refused: {answer.problems} (law 5)")
            case ((ReturnReceipt() | ReturnInspection()), Booked()):
                known = mail.id in self.told
                self.told.add(mail.id)
                if (answer.outcome is returns.Outcome.DUPLICATE) is not known and not crashed:
                    raise Wrong(f"{mail} came {'again' if known else 'first'}: {answer} (law 5)")
            case ((ReturnReceipt() | ReturnInspection()), Rejected()):
                raise Wrong(f"{mail} was refused: {answer.problems}")
            case _:
                raise Wrong(f"{mail} is answered {answer}")

    def overdue(self) -> Iterator[UUID]:
        """Baskets whose time is over."""
        return (basket for basket, until in self.baskets.items() if until <= self.now)

    def on_hand(self, key: PositionKey) -> int:
        """What the books must hold of a position once all mail has come."""
        return self.shelves.get(key, 0) + self.unseen.get(key, 0)

    # --- what happens

    def _send(self, random: Random, mail: Mail, promptly: bool = False) -> None:
        """Put a message on its way: mostly at once, at times much later, at times twice."""
        for _ in range(1 + (random.random() < TWICE)):
            late = 0 if promptly else random.choice((0, 0, 30, 3_600, 20_000))
            self._sent += 1
            heappush(self.mail, (self.now + timedelta(seconds=random.randint(0, late)), self._sent, mail))

    def _order(self, random: Random) -> None:
        basket = random.choice([None, None, *self.baskets])
        number = f"S-{len(self.orders) + 1}"
        self.orders[number] = None
        zone = random.choice((*ZONES, ""))
        message = OrderMessage(
            number=number,
            channel=random.choice(CHANNELS),
            zone=zone,
            collect_at="" if zone else DESK_NODE,
            lines=_lines(random),
            service_level=random.choice(("standard", "standard", "standard", "express", "economy")),
            priority=random.choice((0, 0, 0, 9, -5)),
            ship_complete=random.random() < 0.15,
            max_shipments=random.choice((None, None, 1, 2)),
            reservation=basket,
        )
        self._send(random, message)

    def _basket(self, random: Random) -> SetAside:
        request = ReservationRequest(
            channel=random.choice(CHANNELS),
            zone=random.choice((*ZONES, DESK)),
            lines=_lines(random),
            expires_in_seconds=random.randint(1, LONGEST_BASKET_S),
            ship_complete=random.random() < 0.5,
        )
        return SetAside(request, f"basket-{random.getrandbits(60):x}")

    def _give_back(self, random: Random) -> GiveBack | None:
        return GiveBack(random.choice(list(self.baskets))) if self.baskets else None

    def _somewhere(self, random: Random) -> PositionKey:
        return PositionKey(random.choice(ITEMS), random.choice(self.nodes), random.choice("PPPQ"))

    def _move(self, random: Random, key: PositionKey, units: int, source: str, target: str, to_node: str = "") -> None:
        said = StockMovement(
            id=f"m-{random.getrandbits(60):x}",
            item=key.item,
            node=key.node,
            pool=key.pool,
            quantity=_text(key.item, units),
            source=source,
            target=target,
            at=self.now,
            to_node=to_node,
        )
        self._send(random, said)

    def _put(self, key: PositionKey, units: int) -> None:
        self.shelves[key] = self.shelves.get(key, 0) + units
        assert self.shelves[key] >= 0, "a shelf holds nothing less than nothing"

    def _arrive(self, random: Random) -> None:
        key, units = self._somewhere(random), random.choice((1, 2, 4, 9, 20))
        self._put(key, units)
        self._move(random, key, units, "outside", "available")

    def _taken(self, random: Random) -> tuple[PositionKey, int] | None:
        """Some units of a shelf that has any."""
        full = [key for key, units in self.shelves.items() if units]
        if not full:
            return None
        key = random.choice(full)
        units = random.randint(1, self.shelves[key])
        self._put(key, -units)
        return key, units

    def _leave(self, random: Random) -> None:
        taken = self._taken(random)
        if taken is not None:
            self._move(random, *taken, "available", "outside")

    def _carry(self, random: Random) -> None:
        taken = self._taken(random)
        if taken is not None:
            key, units = taken
            there = random.choice([node for node in self.nodes if node != key.node])
            self._put(replace(key, node=there), units)
            self._move(random, key, units, "available", "available", there)

    def _vanish(self, random: Random) -> None:
        """Nobody notices before somebody counts."""
        taken = self._taken(random)
        if taken is not None:
            self.unseen[taken[0]] = self.unseen.get(taken[0], 0) + taken[1]

    def _count(self, random: Random) -> None:
        key = random.choice([*self.shelves, self._somewhere(random)])
        self.unseen.pop(key, None)
        units = _text(key.item, self.shelves.get(key, 0))
        self._send(random, StockCount(item=key.item, node=key.node, pool=key.pool, quantity=units, as_of=self.now))

    def _expect(self, random: Random) -> None:
        """A supplier announces goods, or says that they come later, or not at all."""
        open_ = [each for each in self.inbound if not each.notice.cancelled]
        if open_ and random.random() < 0.4:
            found = random.choice(open_)
            slipped = found.notice.due_on + timedelta(days=random.randint(-2, 7))
            self._notify(random, found, replace(found.notice, due_on=slipped, cancelled=random.random() < 0.3))
            return
        key, units = self._somewhere(random), random.randint(1, 12)
        notice = ReceiptNotice(
            reference=f"PO-{len(self.inbound) + 1}",
            item=key.item,
            node=key.node,
            pool=key.pool,
            quantity=_text(key.item, units),
            due_on=(self.now + timedelta(days=random.randint(0, 10))).date(),
            announced=random.random() < 0.5,
        )
        self.inbound.append(Inbound(notice, key))
        self._notify(random, self.inbound[-1], notice)

    def _receive(self, random: Random) -> None:
        """Some of what a supplier promised comes, or more than that."""
        open_ = [each for each in self.inbound if not each.notice.cancelled]
        if open_:
            found = random.choice(open_)
            units = random.randint(1, 8)
            self._put(found.key, units)
            found.arrived += units
            arrived = _text(found.key.item, found.arrived)
            self._notify(random, found, replace(found.notice, arrived=arrived, arrived_at=self.now))

    def _notify(self, random: Random, found: Inbound, notice: ReceiptNotice) -> None:
        """Of what has come a notice tells only when the last of it came: these may not overtake each other."""
        found.notice = replace(notice, sequence=found.notice.sequence + 1)
        self._send(random, found.notice, promptly=found.arrived > 0)

    def _change(self, random: Random) -> Change | None:
        """Somebody wants something else of an order, whatever has become of it."""
        known = [number for number, order in self.orders.items() if order is not None]
        if not known:
            return None
        number, key = random.choice(known), f"change-{random.getrandbits(60):x}"
        line = LineChange(no=random.randint(1, 2), quantity=random.choice((None, "1", "1", "2")))
        match random.randrange(14):
            case 9 | 10:
                self._divided += 1
                return Change(OrderDivision(order=number, number=f"D-{self._divided}", lines=(line,)), key)
            case 11:
                return Change(OrderJoin(order=number, other=random.choice(known)), key)
            case 12 | 13:
                day = self.now.date() + timedelta(days=random.randint(-1, 9))
                act = random.choice((CustomerAct.CANCEL, CustomerAct.FEWER, CustomerAct.FEWER, CustomerAct.DAY))
                return Change(Wished(number, Wish(act, line.no, "1", day)), key)
            case 0 | 1:
                return Change(OrderCancellation(order=number, lines=(line,)), key)
            case 2:
                return Change(OrderCancellation(order=number), key)
            case 3 | 4:
                wanted = replace(line, quantity=str(random.randint(1, 6)))
                return Change(OrderAmendment(order=number, lines=(wanted,)), key)
            case 5:
                return Change(OrderAmendment(order=number, lines=(replace(line, item=random.choice(ITEMS)),)), key)
            case 6:
                more = OrderLine(item=random.choice((*ITEMS, KIT)), quantity="2")
                level = random.choice(("", "express", "economy"))
                zone = random.choice(("", *ZONES))
                return Change(OrderAmendment(order=number, add=(more,), service_level=level, zone=zone), key)
            case 7:
                blocks = tuple(random.sample(list(Blocks), random.randint(1, 2)))
                return Change(Held(number, Hold(random.choice(("fraud", "payment")), blocks)), key)
            case _:
                return Change(Lifted(number, random.choice(("fraud", "payment"))), key)

    def report(self, random: Random, picked: PickList) -> Sack:
        """What the node, or the carrier, makes of it: it sends what it has, and says what it has not."""
        self.now += timedelta(seconds=1)
        at_the_desk = (ReportKind.READY, ReportKind.READY, ReportKind.ARRIVED, ReportKind.FAILED)
        kind = random.choice((*KINDS, *at_the_desk) if picked.collect_at else KINDS)
        lines: list[tuple[str, int]] = []
        wanted: dict[PositionKey, int] = {}
        for key, units in picked.left(kind):
            wanted[key] = wanted.get(key, 0) + units
        missing = [(key.item, units - self.shelves.get(key, 0)) for key, units in wanted.items()]
        missing = [(item, units) for item, units in missing if units > 0]
        if wanted and picked.is_over and (missing or len({key.item for key in wanted}) < len(wanted)):
            # It is not where anybody would look for it.
            kind = ReportKind.PICKED
        elif missing:
            kind, lines = ReportKind.SHORT, missing[:1]
        elif kind is ReportKind.SHORT and picked.parts:
            key, units = random.choice(picked.parts)
            lines = [(key.item, random.randint(1, units))]
        elif kind is ReportKind.SHORT:
            kind = ReportKind.DECLINED
        for key, units in picked.left(kind):
            self._put(key, -units)
        said = ShipmentReport(
            id=f"r-{random.getrandbits(60):x}",
            order=picked.order,
            shipment=picked.shipment,
            kind=kind,
            at=self.now,
            lines=tuple(ReportLine(item=item, quantity=_text(item, units)) for item, units in lines),
            node=picked.collect_at if kind is ReportKind.ARRIVED else "",
        )
        if random.random() < TWICE:
            self._send(random, said)
        return Sack((said,))

    def come_back(self, random: Random, left: Left) -> None:
        """A customer brings goods back, or more of them than there were; mostly it was announced, at times later."""
        self.now += timedelta(seconds=1)
        before = self.returned.get((left.order, left.line, left.item), 0)
        most = left.units - before + (random.random() < 0.1)
        if most <= 0:
            return
        units = random.randint(1, most)
        self.returned[left.order, left.line, left.item] = before + units
        node = random.choice(self.nodes)
        back = Back(
            f"RMA-{len(self.returns) + 1}", left.order, left.line, PositionKey(left.item, node, left.pool), units
        )
        self.returns.append(back)
        self._put(back.key, units)
        announced = units + random.choice((0, 0, 0, -1, 1))
        line = ReturnedLine(line=left.line, quantity=_text(left.item, units), item=left.item)
        if announced and random.random() < 0.8:
            lines = (replace(line, quantity=_text(left.item, announced)),)
            self._send(
                random, ReturnNotice(number=back.number, order=back.order, lines=lines, exchange=_exchange(random))
            )
        said = ReturnReceipt(
            id=f"b-{random.getrandbits(60):x}",
            number=back.number,
            at=self.now,
            lines=(line,),
            order=back.order,
            node=node,
        )
        self._send(random, said)

    def _inspect(self, random: Random) -> None:
        """Somebody looks at goods that came back, if they are still where they were put."""
        waiting = [back for back in self.returns if back.units and self.shelves.get(back.key)]
        if not waiting:
            return
        back = random.choice(waiting)
        units = random.randint(1, min(back.units, self.shelves[back.key]))
        disposition = random.choice(list(Disposition))
        back.units -= units
        if disposition is not Disposition.RESTOCK:
            self._put(back.key, -units)
        if disposition is Disposition.B_GRADE:
            self._put(replace(back.key, pool="Q"), units)
        line = DisposedLine(
            line=back.line,
            quantity=_text(back.key.item, units),
            disposition=disposition.value,
            item=back.key.item,
            supplier="ACME" if disposition is Disposition.TO_SUPPLIER else "",
        )
        said = ReturnInspection(
            id=f"i-{random.getrandbits(60):x}",
            number=back.number,
            at=self.now,
            lines=(line,),
            order=back.order,
            node=back.key.node,
        )
        self._send(random, said)

    def _end_return(self, random: Random) -> EndReturn | None:
        if not self.returns:
            return None
        return EndReturn(random.choice(self.returns).number, random.choice(sorted(ENDINGS)))

    def reply(self, random: Random, offers: Sequence[OfferOf]) -> Reply:
        """A node makes up its mind; at times about what it was never offered, or another has."""
        self.now += timedelta(seconds=1)
        offer = random.choice(offers)
        if random.random() < ASTRAY:
            offer = replace(offer, node=random.choice(self.nodes))
        return Reply(offer, random.random() < CLAIMS)

    def _deliver(self, _: Random) -> Sack | None:
        """The next message comes."""
        return Sack((self._come(),)) if self.mail else None

    def _come(self) -> Mail:
        come = heappop(self.mail)
        self.now = max(self.now, come[0])
        return come[2]


def _lines(random: Random) -> tuple[OrderLine, ...]:
    items = random.choices((*ITEMS, KIT), k=random.choice((1, 1, 1, 2, 2, 3)))
    together = random.choice(("", "", "", "g"))
    return tuple(
        OrderLine(item=item, quantity=_text(item, random.randint(1, 4)), substitutes=random.random() < 0.8,
                  together=together)
        for item in items
    )  # fmt: skip


def _exchange(random: Random) -> OrderMessage | None:
    """What shall replace goods that come back."""
    return OrderMessage(channel="", lines=_lines(random)) if random.random() < 0.2 else None


def _text(item: str, units: int) -> str:
    """Base units as a sender writes them."""
    return f"{units // 10}.{units % 10}" if item == "WIRE" else str(units)


_ACTS: Final[dict[Act, Callable[[World, Random], Asked | None]]] = {
    Act.ORDER: World._order,
    Act.BASKET: World._basket,
    Act.GIVE_BACK: World._give_back,
    Act.ARRIVE: World._arrive,
    Act.LEAVE: World._leave,
    Act.CARRY: World._carry,
    Act.VANISH: World._vanish,
    Act.COUNT: World._count,
    Act.EXPECT: World._expect,
    Act.RECEIVE: World._receive,
    Act.DELIVER: World._deliver,
    Act.SOURCE: lambda _world, random: Work(Queue.ONCE, random.choice((1, 2, 500))),
    Act.WAVE: lambda _world, _random: Work(Queue.WAVE, 500),
    Act.LOOK_AGAIN: lambda _world, _random: Work(Queue.STOCK, 500),
    Act.SWEEP: lambda _world, _random: Sweep(),
    Act.REPORT: lambda _world, _random: None,
    Act.CHANGE: World._change,
    Act.RETURN: lambda _world, _random: None,
    Act.INSPECT: World._inspect,
    Act.END_RETURN: World._end_return,
    Act.REPLY: lambda _world, _random: None,
    Act.RULES: lambda _world, _random: None,
}
