"""The laws that are visible in data, proven on one snapshot of the books: what is off is named, row by row.

`Evidence` fetches facts, pre-summed where that is cheap; the laws are here, once for both kinds of books. Evidence may
leave out what an earlier check has proven: positions that have not moved since, orders that have not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice, pairwise
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from poolwise.core.ledger import ACCOUNTS, Balances, Reservation
from poolwise.core.orders import OrderState, Progress, state_of
from poolwise.core.returns import Return, returned
from poolwise.core.sourcing.problem import Place
from poolwise.core.values import LARGEST_QUANTITY, Json
from poolwise.flows.ports import Decision, OrderRecord

MOST_FINDINGS: Final = 1_000
PERSONAL: Final = frozenset({"name", "street", "city", "postcode", "email", "phone"})
"""Fields of a person, which only the contact table may hold (law 17)."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A law that is broken: its number, the kind and key of the row that shows it, and how."""

    law: int
    kind: str
    key: str
    detail: str


class PositionRow(NamedTuple):
    """A position, and what an earlier check has proven of it (version 0 and nothing on it if none has)."""

    cell: int
    position: int
    balances: Balances
    version: int
    proven_version: int
    proven_balances: Balances


class MovementRow(NamedTuple):
    """A row of the journal; accounts by number."""

    cell: int
    position: int
    version: int
    source: int
    target: int
    quantity: int


class HeldRow(NamedTuple):
    """The accounts of a position that stand for receipts and reservations."""

    position: int
    expected: int
    pledged: int
    reserved: int


class OpenReservations(NamedTuple):
    """Units still set aside at a position, or of one receipt there."""

    position: int
    receipt: UUID | None
    units: int


class ReceiptRow(NamedTuple):
    """A receipt."""

    receipt: UUID
    position: int
    quantity: int
    pledged: int
    arrived: int
    cancelled: int


class ReservationRow(NamedTuple):
    """A reservation and how its units ended: consumed, freed, expired, broken.

    `released` tells whether a node works on its shipment; only an order's own reservations know.
    """

    owner: UUID
    no: int
    quantity: int
    endings: tuple[int, int, int, int]
    line_no: int
    line_quantity: int
    of_receipt: bool
    released: bool = False


class DecisionRow(NamedTuple):
    """What a decision names."""

    attempt: int
    edition: str
    policy: str
    policy_version: int


class OrderRow(NamedTuple):
    """An order with all that belongs to it.

    `asked` are its document's lines (number, quantity); `lines` the parts of each line, in the order of Progress;
    `queued` whether demand of it waits in a queue, or for a hold to be lifted; `incidents` how many there are;
    `took_over` whether it began with a basket, whose decision is its first attempt.
    """

    order: UUID
    state: str
    attempt: int
    asked: Sequence[tuple[int, int]]
    lines: Mapping[int, Sequence[int]]
    decisions: Sequence[DecisionRow]
    reservations: Sequence[ReservationRow]
    incidents: int
    queued: bool
    took_over: bool


class ReturnsRow(NamedTuple):
    """The returns of an order. `consumed` are the units that left by each of its reservations; `moved` what the journal
    says of a return at a position: units that came into blocked, and units that went out of it again.
    """

    order: UUID
    returns: Sequence[Return]
    consumed: Mapping[int, int]
    moved: Mapping[tuple[UUID, int], tuple[int, int]]


class SlotRow(NamedTuple):
    """A slot: what is taken, its limit, and the sum of the bookings."""

    node: str
    day: date
    slot: int
    taken: int
    limit: int | None
    booked: int


class Stored(NamedTuple):
    """A document that must not hold a person: where it is, and what it says."""

    kind: str
    key: str
    document: Json


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A stored decision with what came of it, for the verifier of law 15.

    `places` are those of its reservations and of its facts (of an order of a wave only the former), and others.
    """

    record: OrderRecord
    decision: Decision
    reservations: tuple[Reservation, ...]
    places: Mapping[int, Place]


Verify = Callable[[StoredPlan], Iterable[str]]
"""Answers which hard constraints a stored plan breaks."""


class Evidence(Protocol):
    """One snapshot. Positions and movements come in the order of (cell, position, version)."""

    def positions(self) -> Iterator[PositionRow]:
        """Positions that have moved since they were proven."""

    def movements(self) -> Iterator[MovementRow]:
        """The journal since positions were proven."""

    def held(self) -> Iterator[HeldRow]:
        """All positions with something expected, pledged or reserved."""

    def open_reservations(self) -> Iterator[OpenReservations]:
        """Sums over all reservations with open units."""

    def receipts(self) -> Iterator[ReceiptRow]:
        """Receipts with open or pledged units, or changed since."""

    def reservations(self) -> Iterator[ReservationRow]:
        """Reservations made since."""

    def orders(self) -> Iterator[OrderRow]:
        """Orders that changed since."""

    def returns(self) -> Iterator[ReturnsRow]:
        """Orders with returns that changed since."""

    def ownerless(self) -> Iterator[tuple[str, str]]:
        """Kind and key of decisions and reservations whose owner is neither an order nor guarded."""

    def editions(self) -> Collection[str] | None:
        """Hashes of the editions on record; None where the books keep none."""

    def policies(self) -> Collection[tuple[str, int]] | None:
        """Codes and versions of the policies on record; None where the books keep none."""

    def slots(self) -> Iterator[SlotRow]:
        """Slots of the days that may have changed since."""

    def documents(self) -> Iterator[Stored]:
        """Events, audit rows and order facts written since."""

    def plans(self) -> Iterator[StoredPlan]:
        """The newest decision of each order that changed since."""


def findings(evidence: Evidence, verify: Verify | None = None) -> list[Finding]:
    """What is off, sorted; at most MOST_FINDINGS. Plans are verified only if everything else is in order."""
    laws = (ledger, holdings, endings, orders, returns, strangers, capacity, persons)
    found = list(islice((finding for law in laws for finding in law(evidence)), MOST_FINDINGS))
    if not found and verify is not None:
        found = list(islice(plans(evidence, verify), MOST_FINDINGS))
    return sorted(found)


def ledger(evidence: Evidence) -> Iterator[Finding]:
    """Laws 1, 3 and 11: balances are lawful, and the journal gives exactly them, movement by movement."""
    journal = evidence.movements()
    movement = next(journal, None)
    for row in evidence.positions():
        yield from _lawful(row)
        key = (row.cell, row.position)
        while movement is not None and movement[:2] < key:
            yield Finding(3, "movement", f"{movement.position}/{movement.version}", "its position is not there")
            movement = next(journal, None)
        balances, version = list(row.proven_balances), row.proven_version
        while movement is not None and movement[:2] == key:
            yield from _follows(movement, version, balances)
            version = movement.version
            balances[movement.source] -= movement.quantity
            balances[movement.target] += movement.quantity
            movement = next(journal, None)
        if version != row.version:
            yield Finding(3, "position", str(row.position), f"version {row.version}, but its journal ends at {version}")
        if tuple(balances) != row.balances:
            yield Finding(
                3, "position", str(row.position), f"balances {row.balances}, but its journal gives {balances}"
            )
    while movement is not None:
        yield Finding(3, "movement", f"{movement.position}/{movement.version}", "its position is not there")
        movement = next(journal, None)


def _lawful(row: PositionRow) -> Iterator[Finding]:
    if sum(row.balances) != 0:
        yield Finding(1, "position", str(row.position), f"balances {row.balances} sum to {sum(row.balances)}")
    if min(row.balances[1:]) < 0:
        yield Finding(1, "position", str(row.position), f"an account is negative: {row.balances}")


def _follows(movement: MovementRow, version: int, balances: Sequence[int]) -> Iterator[Finding]:
    """Whether a movement may follow a version with these balances."""
    key = f"{movement.position}/{movement.version}"
    if movement.version != version + 1:
        yield Finding(3, "movement", key, f"version {movement.version} follows {version}")
    if not 0 < movement.quantity <= LARGEST_QUANTITY:
        yield Finding(11, "movement", key, f"moves {movement.quantity} units")
    if movement.source != 0 and balances[movement.source] < movement.quantity:
        account = ACCOUNTS[movement.source]
        yield Finding(1, "movement", key, f"takes {movement.quantity} of {balances[movement.source]} {account}")


def holdings(evidence: Evidence) -> Iterator[Finding]:
    """Law 2: reserved is the open reservations on stock; pledged those on receipts; expected the open receipts."""
    expected: dict[int, int] = {}
    pledged: dict[int, int] = {}
    reserved: dict[int, int] = {}
    of_receipts: dict[UUID, int] = {}
    for group in evidence.open_reservations():
        sums = reserved if group.receipt is None else pledged
        sums[group.position] = sums.get(group.position, 0) + group.units
        if group.receipt is not None:
            of_receipts[group.receipt] = of_receipts.get(group.receipt, 0) + group.units
    for receipt in evidence.receipts():
        yield from _pledged(receipt, of_receipts.pop(receipt.receipt, 0))
        is_open = receipt.quantity - receipt.pledged - receipt.arrived - receipt.cancelled
        expected[receipt.position] = expected.get(receipt.position, 0) + is_open
    for id_, units in sorted(of_receipts.items()):
        yield Finding(2, "receipt", str(id_), f"{units} reserved of a receipt with nothing pledged")
    for row in evidence.held():
        claims = (
            ("expected", row.expected, expected, "open receipts"),
            ("pledged", row.pledged, pledged, "reservations on receipts"),
            ("reserved", row.reserved, reserved, "open reservations"),
        )
        for account, balance, sums, whose in claims:
            claimed = sums.pop(row.position, 0)
            if balance != claimed:
                yield Finding(2, "position", str(row.position), f"{balance} {account}, but {claimed} in {whose}")
    for account, sums in (("expected", expected), ("pledged", pledged), ("reserved", reserved)):
        for position, units in sorted(sums.items()):
            if units:
                yield Finding(2, "position", str(position), f"0 {account}, but {units} are claimed")


def _pledged(row: ReceiptRow, reserved: int) -> Iterator[Finding]:
    """Law 2: a receipt holds what is taken of it, and what is pledged is reserved by somebody."""
    taken = row.pledged + row.arrived + row.cancelled
    if min(row.pledged, row.arrived, row.cancelled) < 0 or taken > row.quantity:
        yield Finding(2, "receipt", str(row.receipt), f"{taken} taken of {row.quantity}")
    if reserved != row.pledged:
        yield Finding(2, "receipt", str(row.receipt), f"{row.pledged} pledged, but {reserved} reserved")


def endings(evidence: Evidence) -> Iterator[Finding]:
    """Law 6: no unit of a reservation ends twice."""
    for row in evidence.reservations():
        if min(row.endings) < 0 or sum(row.endings) > row.quantity or row.quantity <= 0:
            key = f"{row.owner}/{row.no}"
            yield Finding(6, "reservation", key, f"endings {row.endings} of {row.quantity} units")


def orders(evidence: Evidence) -> Iterator[Finding]:
    """Laws 3, 4, 7, 9, 10, 13 and 19 for each order."""
    editions, policies = evidence.editions(), evidence.policies()
    for row in evidence.orders():
        yield from _conserved(row)
        yield from _decided(row, editions, policies)
        broken = any(reservation.endings[3] for reservation in row.reservations)
        backordered = any(parts[4] for parts in row.lines.values())
        if broken and backordered and not row.incidents:
            yield Finding(9, "order", str(row.order), "a broken reservation left a backorder without an incident")
        if backordered and not (row.decisions or broken or row.took_over):
            yield Finding(19, "order", str(row.order), "demand was left short without a decision that says why")
        waits = backordered or any(parts[1] for parts in row.lines.values())
        if waits and not row.queued:
            yield Finding(7, "order", str(row.order), "demand that waits is in no queue")


def _conserved(row: OrderRow) -> Iterator[Finding]:
    """Law 13, and law 11 for what was asked."""
    key = str(row.order)
    for no, quantity in row.asked:
        parts = row.lines.get(no)
        if parts is None:
            yield Finding(13, "order_line", f"{key}/{no}", "the line of the document has no row")
        elif min(parts) < 0 or sum(parts[1:]) != parts[0]:
            yield Finding(13, "order_line", f"{key}/{no}", f"{parts[0]} ordered, but {tuple(parts[1:])}")
        elif parts[0] != quantity:
            yield Finding(11, "order_line", f"{key}/{no}", f"{quantity} asked for, but {parts[0]} ordered")
        else:
            yield from _reserved(row, no, parts)
            yield from _executed(row, no, parts)
    for no in sorted(set(row.lines) - {no for no, _ in row.asked}):
        yield Finding(13, "order_line", f"{key}/{no}", "a line that nobody asked for")
    if any(min(parts) < 0 or sum(parts[1:]) != parts[0] for parts in row.lines.values()):
        return
    lines = tuple(Progress(*row.lines[no]) for no, _ in row.asked if no in row.lines)
    state = state_of(lines)
    also = {OrderState.RECEIVED: OrderState.WAITING, OrderState.SOURCED: OrderState.BASKET}.get(state)
    if len(lines) == len(row.asked) and row.state not in (state, also):
        yield Finding(13, "order", key, f"its state is {row.state}, but its lines are {state}")


def _reserved(row: OrderRow, no: int, parts: Sequence[int]) -> Iterator[Finding]:
    """A line of which no reservation has ended holds as much as is reserved for it."""
    own = [reservation for reservation in row.reservations if reservation.line_no == no]
    if any(sum(reservation.endings) for reservation in own):
        return
    on_stock = sum(reservation.line_quantity for reservation in own if not reservation.of_receipt)
    on_receipts = sum(reservation.line_quantity for reservation in own if reservation.of_receipt)
    _, _, reserved, pledged, _, released, shipped, _ = parts
    if (on_stock, on_receipts) != (reserved + released + shipped, pledged):
        detail = f"{reserved} reserved and {pledged} pledged, but reservations of {on_stock} and {on_receipts}"
        yield Finding(13, "order_line", f"{row.order}/{no}", detail)


def _executed(row: OrderRow, no: int, parts: Sequence[int]) -> Iterator[Finding]:
    """What nodes work on, and what has left, is what is reserved in their shipments, and was."""
    own = [held for held in row.reservations if held.line_no == no and not held.of_receipt]
    in_hand = sum(
        held.line_quantity * (held.quantity - sum(held.endings)) // held.quantity for held in own if held.released
    )
    gone = sum(held.line_quantity * held.endings[0] // held.quantity for held in own)
    _, _, _, _, _, released, shipped, _ = parts
    of_basket = row.state in (OrderState.BASKET, OrderState.CANCELLED)
    if not of_basket and (in_hand, gone) != (released, shipped):
        detail = f"{released} released and {shipped} shipped, but {in_hand} in released shipments and {gone} consumed"
        yield Finding(13, "order_line", f"{row.order}/{no}", detail)


def _decided(
    row: OrderRow, editions: Collection[str] | None, policies: Collection[tuple[str, int]] | None
) -> Iterator[Finding]:
    """Laws 3, 4 and 10: one decision for each attempt, under an edition and a policy version that are on record."""
    attempts = sorted(decision.attempt for decision in row.decisions)
    key = str(row.order)
    for attempt in range(2 if row.took_over else 1, row.attempt + 1):
        if attempt not in attempts:
            yield Finding(4, "decision", f"{key}/{attempt}", "the order has this attempt, but no decision of it")
    for attempt, following in pairwise(attempts):
        if attempt == following:
            yield Finding(3, "decision", f"{key}/{attempt}", "decided twice")
    for decision in row.decisions:
        name = f"{key}/{decision.attempt}"
        if decision.attempt > row.attempt:
            yield Finding(4, "decision", name, f"the order is at attempt {row.attempt} only")
        if editions is not None and decision.edition not in editions:
            yield Finding(10, "decision", name, f"edition {decision.edition} is not on record")
        if policies is not None and (decision.policy, decision.policy_version) not in policies:
            yield Finding(10, "decision", name, f"policy {decision.policy} {decision.policy_version} is not on record")


def returns(evidence: Evidence) -> Iterator[Finding]:
    """Laws 1 and 6: no more comes back of a reservation than has left, and the journal says what each return holds."""
    for row in evidence.returns():
        back = returned(row.returns)
        for no, units in sorted(back.items()):
            if units > row.consumed.get(no, 0):
                left = row.consumed.get(no, 0)
                yield Finding(6, "return", f"{row.order}/{no}", f"{units} came back of {left} that had left")
        for found in row.returns:
            yield from _returned(row, found)


def _returned(row: ReturnsRow, found: Return) -> Iterator[Finding]:
    held: dict[int, tuple[int, int]] = {}
    for part in found.parts:
        came, went = held.get(part.key.id(), (0, 0))
        held[part.key.id()] = came + part.quantity, went + part.quantity - part.held
        if part.held < 0:
            yield Finding(6, "return", found.number, f"{-part.held} more were disposed of than came")
    journal = {position: moved for (return_, position), moved in row.moved.items() if return_ == found.id}
    for position in sorted({*held, *journal}):
        told, moved = held.get(position, (0, 0)), journal.get(position, (0, 0))
        if told != moved:
            detail = (
                f"{told[0]} came and {told[1]} went on at {position}, but its journal says {moved[0]} and {moved[1]}"
            )
            yield Finding(1, "return", found.number, detail)


def strangers(evidence: Evidence) -> Iterator[Finding]:
    """Law 4: what was decided or reserved belongs to somebody who committed with it."""
    for kind, key in evidence.ownerless():
        yield Finding(4, kind, key, "its owner is not there")


def capacity(evidence: Evidence) -> Iterator[Finding]:
    """Law 14: what is taken of a slot is the sum of its bookings, between zero and the limit."""
    for row in evidence.slots():
        key = f"{row.node}/{row.day}/{row.slot}"
        if row.taken != row.booked:
            yield Finding(14, "capacity", key, f"{row.taken} taken, but {row.booked} booked")
        if row.taken < 0 or (row.limit is not None and row.taken > row.limit):
            yield Finding(14, "capacity", key, f"{row.taken} taken of {row.limit}")


def persons(evidence: Evidence) -> Iterator[Finding]:
    """Law 17: nothing but a contact holds personal data."""
    for stored in evidence.documents():
        for name in sorted(personal_fields(stored.document)):
            yield Finding(17, stored.kind, stored.key, f"holds the personal field '{name}'")


def personal_fields(document: Json) -> set[str]:
    """Names of personal fields with something in them, anywhere in a document."""
    found: set[str] = set()
    left = [document]
    while left:
        match left.pop():
            case dict() as fields:
                found.update(name for name, value in fields.items() if name in PERSONAL and value not in ("", None))
                left += [value for value in fields.values() if isinstance(value, dict | list)]
            case list() as values:
                left += [value for value in values if isinstance(value, dict | list)]
            case _:
                pass
    return found


def plans(evidence: Evidence, verify: Verify) -> Iterator[Finding]:
    """Law 15, by a verifier that shares no code with the engines."""
    for plan in evidence.plans():
        for broken in verify(plan):
            yield Finding(15, "decision", f"{plan.decision.owner}/{plan.decision.attempt}", broken)
