"""The simulator: a random network lives through a history, step by step, and every law is looked at after each step.

What is asked goes through the very flows, on memory books and, where wanted, in step on PostgreSQL: both must answer
alike, record the same and hold the same rows. Messages come late, twice and out of order, processes die between any
two steps of a recording and are started again. The rows touched are checked after each step, everything every hundred
steps and at the end, when all mail has come and the books must hold what is truly there. Equal seeds give equal
journals. A history that fails is made as short as it can be by leaving steps out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Final, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from poolwise.core.counting import IN_DEBT, debt_key
from poolwise.core.edition.build import Edition, edition_of
from poolwise.core.edition.checks import check
from poolwise.core.edition.rows import Row, Section, key_of
from poolwise.core.fulfilment import Stage as ShipmentStage
from poolwise.core.ledger import Account, PositionKey
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import Undecidable
from poolwise.core.values import Conflict
from poolwise.flows.breaking import stands_alone
from poolwise.flows.offers import OfferOf
from poolwise.flows.ports import Books as BooksPort
from poolwise.flows.ports import Queue, Transaction
from poolwise.sim import hamlet
from poolwise.sim.hamlet import Told
from poolwise.sim.stage import CELL, Asked, Failpoint, Stage, Sweep, Work, Wrong
from poolwise.sim.truth import START, Act, Left, PickList, Step, World
from poolwise.store.check import Finding, Verify, findings
from poolwise.store.memory import MemoryBooks
from poolwise.store.memory_evidence import MemoryEvidence, Rows
from poolwise.store.proof import Recomputed, verifier
from poolwise.store.steps import Access
from poolwise.store.steps import Step as Recording

EVERYTHING_EVERY: Final = 100
CRASHES: Final = 0.12
STANDING: Final = 0.8
"""How often nodes reply to offers that stand."""
DRAINED: Final = 0.3
"""How often everybody who waits is decided in the end; that costs as much as all steps before."""

CRASH_AT: Final = (*Recording, *Access)
MOST_TRIES: Final = 400
"""Shorter histories that are tried before the shortest so far is told."""
AFTER: Final = timedelta(days=30)
MOST_ROUNDS: Final = 1_000
MOST_REPLIES: Final = 20
MOST_CLAIMED: Final = 500


class Books(StrEnum):
    """On which books a history is lived."""

    MEMORY = "memory"
    POSTGRES = "postgres"
    BOTH = "both"


class Second(Protocol):
    """Another kind of books beside those in memory: made, told what is in force, checked."""

    def books(self, failpoint: Failpoint) -> BooksPort:
        """Books that hold nothing yet."""

    def put_in_force(self, rows: Sequence[Told], policy: SourcingPolicy, edition: str) -> None:
        """An edition and a policy version are published."""

    def findings(self, verify: Verify) -> Iterable[Finding]:
        """What the check of everything finds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a history: how much happened, the digest of the journal, and what is wrong, after which step."""

    steps: int
    orders: int
    decided: int
    crashes: int
    journal: str
    wrong: str = ""
    at: int = 0


def simulate(seed: int, steps: Sequence[Step], second: Second | None = None, *, memory: bool = True) -> Outcome:
    """Live through a history of a seed's network, on memory books unless told otherwise, and on a second kind."""
    return _Simulation(seed, second, memory).live(steps)


def shortest(seed: int, steps: Sequence[Step], second: Callable[[], Second | None]) -> list[Step]:
    """The shortest history found that fails too, by leaving out ever smaller pieces of one that does."""
    found = list(steps)
    piece, tries = max(1, len(found) // 2), 0
    while piece and tries < MOST_TRIES:
        first, shorter = 0, False
        while first < len(found) and tries < MOST_TRIES:
            without = found[:first] + found[first + piece :]
            tries += 1
            if simulate(seed, without, second()).wrong:
                found, shorter = without, True
            else:
                first += piece
        piece = piece if shorter and piece == 1 else piece // 2
    return found


def told(seed: int, steps: Sequence[Step], second: Second | None = None) -> list[str]:
    """A history in words, a line for each thing that is asked and one for its answer, then what is wrong."""
    lines = [f"seed {seed}, the shortest history found that fails has {len(steps)} steps:"]
    outcome = _Simulation(seed, second, tell=lines.append).live(steps)
    return [*lines, f"after step {outcome.at}: {outcome.wrong}"]


class _Simulation:
    """A network under way."""

    def __init__(
        self, seed: int, second: Second | None, memory: bool = True, tell: Callable[[str], None] | None = None
    ) -> None:
        assert memory or second is not None, "it is lived on some books"
        self._tell = tell
        random = Random(f"network {seed}")
        self._rows = {(section, key_of(row)): row for section, row in hamlet.rows_of(random)}
        self._policy = hamlet.policy_of(random, 1)
        self._atlases: dict[tuple[str, int], Atlas] = {}
        self._second = second
        self._world = World(tuple(sorted(key for section, key in self._rows if section is Section.NODES)))
        atlas = self._in_force(None)
        self._memory: MemoryBooks | None = None
        self._recomputed: dict[tuple[UUID, int], Recomputed] = {}
        self._stages = [Stage("memory", self._in_memory, atlas, START)] if memory else []
        if second is not None:
            self._stages.append(Stage("PostgreSQL", second.books, atlas, START))
        self._decided = self._crashes = 0
        self._told = (0, 0)

    def _in_memory(self, failpoint: Failpoint) -> BooksPort:
        self._memory = MemoryBooks(failpoint)
        return self._memory

    def live(self, steps: Sequence[Step]) -> Outcome:
        """All steps, then the end: the mail comes, whoever waits may be decided, and all is held against the truth."""
        done, wrong = 0, ""
        try:
            for step in steps:
                self._step(step)
                done += 1
                if done % EVERYTHING_EVERY == 0:
                    self._check_everything()
            self._end(steps[-1].chance if steps else 0)
        except Wrong as found:
            wrong = str(found)
        except (AssertionError, Conflict, KeyError, ValueError, TypeError, Undecidable) as bug:
            wrong = f"{type(bug).__name__}: {bug} {bug.__cause__ or ''}".rstrip()
        journal = self._stages[0].seen.journal.hex()[:16]
        return Outcome(len(steps), len(self._world.orders), self._decided, self._crashes, journal, wrong, done)

    # --- a step

    def _step(self, step: Step) -> None:
        if step.act is Act.RULES:
            self._world.now += timedelta(seconds=1)
            self._change_rules(Random(step.chance))
            return
        asked = self._world.next(step)
        if step.act is Act.REPORT:
            picked = self._pick(Random(step.chance + 2))
            asked = None if picked is None else self._world.report(Random(step.chance + 3), picked)
        if step.act is Act.RETURN and (left := self._left(Random(step.chance + 2))) is not None:
            self._world.come_back(Random(step.chance + 3), left)
        if step.act is Act.REPLY:
            offers = self._offers(Random(step.chance + 2).random() < STANDING)
            asked = self._world.reply(Random(step.chance + 3), offers) if offers else None
        if asked is not None:
            chance = Random(step.chance + 1)
            self._perform(asked, step.chance, _crash(chance))

    def _pick(self, random: Random) -> PickList | None:
        """A shipment that somebody works on, as its node would be told."""
        known = [order for order in self._world.orders.values() if order is not None]
        if not known:
            return None
        with self._stages[0].plain.transaction() as transaction:
            order = random.choice(known)
            shipments = transaction.shipments(order)
            if not shipments:
                return None
            chosen = random.choice(shipments)
            no = chosen.shipment.no
            parts = [part for part in transaction.reservations(order) if part.shipment_no == no]
            places = transaction.positions({part.position for part in parts})
            number = transaction.orders([order])[order].order.number
        # What was cancelled may go all the same: nobody had told the node in time.
        units = [
            (part.freed if stands_alone(part) else 0) if chosen.stage is ShipmentStage.CANCELLED else part.open
            for part in parts
        ]
        on_hand = [(part, held) for part, held in zip(parts, units, strict=True) if part.receipt is None and held]
        picked = tuple((places[part.position].key, held) for part, held in on_hand)
        is_over = chosen.stage is ShipmentStage.CANCELLED
        return PickList(number, no, picked, is_over, chosen.collect_at, chosen.waits_on_its_shelf)

    def _left(self, random: Random) -> Left | None:
        """What has left of a line as one item from one pool, as the customer who has it would say."""
        known = [order for order in self._world.orders.values() if order is not None]
        with self._stages[0].plain.transaction() as transaction:
            for order in random.sample(known, len(known)):
                parts = [part for part in transaction.reservations(order) if part.receipt is None]
                units: dict[tuple[int, str], int] = {}
                pools: dict[tuple[int, str], set[str]] = {}
                places = transaction.positions({part.position for part in parts})
                for part in parts:
                    key = places[part.position].key
                    line = (part.line_no, key.item)
                    units[line] = units.get(line, 0) + part.consumed
                    pools.setdefault(line, set()).add(key.pool)
                left = [line for line, gone in units.items() if gone and len(pools[line]) == 1]
                if left:
                    no, item = random.choice(left)
                    number = transaction.orders([order])[order].order.number
                    return Left(number, no, item, min(pools[no, item]), units[no, item])
        return None

    def _offers(self, standing: bool) -> list[OfferOf]:
        """All that is offered, or was."""
        found: list[OfferOf] = []
        with self._stages[0].plain.transaction() as transaction:
            for number, order in self._world.orders.items():
                for each in transaction.shipments(order) if order is not None else ():
                    if each.stage is ShipmentStage.OFFERED or not standing:
                        found += [OfferOf(number, each.shipment.no, node) for node in each.offered_to]
        return found

    def _perform(self, asked: Asked, chance: int, crash_at: str = "") -> object:
        now = self._world.now
        if self._tell is not None:
            self._tell(f"{now:%d %b %H:%M:%S} {asked}{crash_at and f', with a crash after {crash_at}'}")
        answers = [stage.perform(asked, now, chance, crash_at) for stage in self._stages]
        answer, crashed = answers[0]
        if self._tell is not None:
            self._tell(f"{'':16}{answer}")
        for other in answers[1:]:
            if other != answers[0]:
                raise Wrong(f"memory answers {answers[0]}, PostgreSQL {other}")
        self._crashes += crashed
        self._decided += len(getattr(answer, "orders", ()))
        self._world.judge(asked, answer, crashed)
        self._check_touched(asked)
        return answer

    def _change_rules(self, random: Random) -> None:
        if random.random() < 0.4:
            self._policy = hamlet.policy_of(random, self._policy.version + 1)
            told: list[Told] = []
        else:
            told = [hamlet.changed(random, [(section, row) for (section, _), row in self._rows.items()])]
        atlas = self._in_force(told)
        for stage in self._stages:
            stage.under(atlas)

    def _in_force(self, told: Sequence[Told] | None) -> Atlas:
        """The rules with some rows anew, or for the first time."""
        self._rows |= {(section, key_of(row)): row for section, row in told or ()}
        edition = _edition(self._rows)
        atlas = Atlas(edition, compile_policy(self._policy))
        self._atlases[edition.hash, self._policy.version] = atlas
        if self._second is not None:
            rows = [(section, row) for (section, _), row in self._rows.items()]
            self._second.put_in_force(rows if told is None else told, self._policy, edition.hash)
        return atlas

    def atlas(self, edition: str, _policy: str, version: int) -> Atlas:
        """What was in force: the simulation is its own library."""
        return self._atlases[edition, version]

    # --- what is looked at

    def _check_touched(self, asked: Asked) -> None:
        seen = self._stages[0].seen
        for stage in self._stages:
            if stage.seen.wrong:
                raise Wrong(f"{stage.name}: {stage.seen.wrong[0]}")
            if stage.seen.journal != seen.journal:
                raise Wrong("memory and PostgreSQL record differently")
        if self._memory is not None:
            only = Rows(seen.positions, seen.owners, seen.slots, *self._told)
            self._told = (len(self._memory.shelves.outbox), len(self._memory.shelves.audit))
            self._raise_first(self._in_shelves(self._memory, only), "memory")
        if isinstance(asked, Sweep):
            self._check_overdue()
            self._check_offers()
            self._check_released()
        if len(self._stages) > 1 and (seen.positions or seen.owners or seen.receipts):
            self._compare(seen.positions, seen.owners, seen.receipts)

    def _in_shelves(self, memory: MemoryBooks, only: Rows | None = None) -> list[Finding]:
        """What the check of the laws finds in memory: all of it, or with some rows only these, their plans too."""
        policies = {(self._policy.code, version) for _, version in self._atlases}
        evidence = MemoryEvidence(memory.shelves, {edition for edition, _ in self._atlases}, policies, only)
        return findings(evidence, None if only is None else verifier(self, memory, self._recomputed))

    def _raise_first(self, found: Iterable[Finding], whose: str) -> None:
        for finding in found:
            raise Wrong(f"{whose}: law {finding.law}, {finding.kind} {finding.key}: {finding.detail}")

    def _check_overdue(self) -> None:
        """Law 6, and no basket is older than its time: the timers have just gone off."""
        for stage in self._stages:
            with stage.plain.transaction() as transaction:
                for basket in self._world.overdue():
                    if any(part.open for part in transaction.reservations(basket)):
                        raise Wrong(f"{stage.name}: basket {basket} is held after its time (law 6)")

    def _check_offers(self) -> None:
        """Nothing is offered after its time: the timers have just gone off."""
        for stage in self._stages:
            with stage.plain.transaction() as transaction:
                for order in [order for order in self._world.orders.values() if order is not None]:
                    for each in transaction.shipments(order):
                        until = each.offered_until
                        is_late = until is not None and until <= self._world.now
                        if each.stage is ShipmentStage.OFFERED and is_late:
                            raise Wrong(
                                f"{stage.name}: shipment {each.shipment.no} of {order} is offered after {until}"
                            )

    def _check_released(self) -> None:
        """No node works on what does not leave today: it might be planned anew until then."""
        for stage in self._stages:
            with stage.plain.transaction() as transaction:
                for owner, no in sorted(stage.seen.released):
                    record = next(each for each in transaction.shipments(owner) if each.shipment.no == no)
                    node = stage.desk.atlas.edition.network.nodes[record.shipment.node]
                    today = self._world.now.astimezone(ZoneInfo(node.time_zone)).date()
                    if today < record.shipment.ship_on:
                        raise Wrong(f"{stage.name}: shipment {no} of {owner} is released on {today}, too early")

    def _compare(
        self, positions: Iterable[int], owners: Iterable[UUID], receipts: Iterable[UUID], whole: bool = False
    ) -> None:
        """Both must hold the same: of what was touched the rows that matter most, in the end all."""
        rows = []
        for stage in self._stages:
            with stage.plain.transaction() as transaction:
                rows.append(_rows_of(transaction, sorted(positions), sorted(owners), sorted(receipts), whole))
        for (name, one), (_, other) in zip(*rows, strict=True):
            if one != other:
                raise Wrong(f"memory holds {name} {one}, PostgreSQL {other}")

    def _check_everything(self) -> None:
        if self._memory is not None:
            self._raise_first(self._in_shelves(self._memory), "memory")
        if self._second is not None:
            self._raise_first(self._second.findings(verifier(self, self._stages[-1].plain)), "PostgreSQL")
        if self._memory is not None and self._second is not None:
            shelves = self._memory.shelves
            self._compare(list(shelves.positions), list(shelves.orders), list(shelves.receipts), whole=True)
            queues = [_queues(stage.plain, self._world.now + AFTER) for stage in self._stages]
            if queues[0] != queues[1]:
                raise Wrong("memory and PostgreSQL have not the same queues")

    # --- the end

    def _end(self, chance: int) -> None:
        random = Random(chance)
        world = self._world
        while world.mail:
            world.now += timedelta(seconds=1)
            self._perform(world.sack(), random.getrandbits(48))
        if random.random() < DRAINED:
            for asked in (Work(Queue.ONCE, 500), Work(Queue.WAVE, 500), Work(Queue.ONCE, 500)):
                world.now += timedelta(seconds=1)
                self._until_nothing(asked, random)
        world.now += AFTER
        self._until_nothing(Sweep(), random)
        self._settle(random)
        self._check_everything()
        self._check_truth()

    def _settle(self, random: Random) -> None:
        """Nodes reply to what is offered, or let its time pass, until nothing is, or there were replies enough."""
        world = self._world
        for _ in range(MOST_REPLIES):
            offers = self._offers(standing=True)
            if not offers:
                return
            reply = world.reply(random, offers)
            self._perform(reply, random.getrandbits(48), _crash(random))
            if random.random() < 0.3:
                world.now += timedelta(hours=random.choice((0, 1, 12, 36)))
                self._until_nothing(Sweep(), random)
                self._until_nothing(Work(Queue.ONCE, 500), random)

    def _until_nothing(self, asked: Asked, random: Random) -> None:
        for _ in range(MOST_ROUNDS):
            answer = self._perform(asked, random.getrandbits(48))
            # What is counted first is what was done: decisions, claims, timers.
            amount = answer if isinstance(answer, int) else sum(getattr(answer, name, 0) for name in _AMOUNTS)
            if not amount:
                return
        raise Wrong(f"{asked} never comes to an end")

    def _check_truth(self) -> None:
        """Every message has had its effect: no order is lost, and what lies on the shelves is what the books hold."""
        for stage in self._stages:
            with stage.plain.transaction() as transaction:
                numbers = transaction.order_numbered(self._world.orders)
                for number, order in self._world.orders.items():
                    if order is not None and numbers.get(number) != order:
                        raise Wrong(f"{stage.name}: order {number} was accepted and is not there (law 7)")
                for key in sorted({*self._world.shelves, *self._world.unseen}):
                    held, true = _on_hand(transaction, key), self._world.on_hand(key)
                    if held != true:
                        raise Wrong(f"{stage.name}: {held} of {key} on hand, but {true} are there")


def _crash(chance: Random) -> str:
    """Where a process dies, if it does."""
    return chance.choice(CRASH_AT).value if chance.random() < CRASHES else ""


_AMOUNTS: Final = ("decided", "returned", "planned")


def _edition(rows: dict[tuple[Section, str], Row]) -> Edition:
    by_section: dict[Section, dict[str, Row]] = {section: {} for section in Section}
    for (section, key), row in rows.items():
        by_section[section][key] = row
    checked = check(by_section, START.date())
    assert all(fault.warning for fault in checked.faults), checked.faults
    return edition_of(checked)[0]


def _rows_of(
    transaction: Transaction,
    positions: Sequence[int],
    owners: Sequence[UUID],
    receipts: Sequence[UUID],
    whole: bool,
) -> Iterator[tuple[str, object]]:
    """What the books hold of some keys, by name."""
    if positions:
        yield "positions", transaction.positions(positions)
    orders = transaction.orders(owners) if owners else {}
    yield "orders", orders
    if receipts:
        yield "receipts", transaction.receipts(receipts)
    if whole:
        yield "marks", transaction.count_marks(positions)
    for owner in owners:
        yield "reservations", transaction.reservations(owner)
        if whole:
            yield "shipments", transaction.shipments(owner)
        if whole and owner in orders:
            yield "decision", transaction.decision(owner, orders[owner].attempt)


class _Look(Exception):
    """Takes a look into a queue back."""


def _queues(books: BooksPort, at: datetime) -> list[object]:
    """Whoever waits to be sourced, and the timers, in the order in which they would be taken."""
    found: list[object] = []
    with suppress(_Look), books.transaction() as transaction:
        for queue in (Queue.ONCE, Queue.WAVE):
            while claimed := transaction.claim(CELL, queue, at, MOST_CLAIMED):
                found.append(claimed)
        found.append(transaction.due(CELL, at, MOST_CLAIMED))
        raise _Look
    return found


def _on_hand(transaction: Transaction, key: PositionKey) -> int:
    debts = [debt_key(key, account).id() for account in IN_DEBT]
    found = transaction.positions([key.id(), *debts])
    here = found[key.id()].on_hand if key.id() in found else 0
    return here - sum(found[id_].balance(Account.IN_TRANSIT) for id_ in debts[:2] if id_ in found)
