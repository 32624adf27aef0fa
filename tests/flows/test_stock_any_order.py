"""Statements about stock may come in any order: the end is always the newest count and what happened after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from poolwise.core.counting import debt_key
from poolwise.core.ledger import Account, PositionKey, replay
from poolwise.flows.stock import book_counts, book_movements
from poolwise.store.memory import MemoryBooks
from tests.flows.stockroom import NOW, at, balances, clerk, counted, moved

ACCOUNTS = (Account.OUTSIDE, Account.AVAILABLE, Account.BLOCKED, Account.IN_TRANSIT)
ON_HAND = (Account.AVAILABLE, Account.BLOCKED)


@dataclass(frozen=True)
class Count:
    """What somebody counted on hand at node N."""

    minute: int
    quantity: int


@dataclass(frozen=True)
class Change:
    """What somebody reports to have moved at node N, or from there to node M."""

    minute: int
    id: str
    quantity: int
    source: Account
    target: Account
    to_node: str = ""


quantities = st.integers(1, 9)


@st.composite
def histories(draw: st.DrawFn, accounts: Sequence[Account] = ACCOUNTS) -> list[Count | Change]:
    """Statements with instants of their own, in the order in which they happened."""
    events: list[Count | Change] = []
    for minute in range(1, draw(st.integers(1, 9)) + 1):
        if draw(st.integers(0, 2)) == 0:
            events.append(Count(minute, draw(st.integers(0, 12))))
            continue
        source = draw(st.sampled_from(accounts))
        target = draw(st.sampled_from([account for account in accounts if account is not source]))
        events.append(Change(minute, f"m{minute}", draw(quantities), source, target))
    return events


def tell(events: Sequence[Count | Change], batches: Sequence[int] = ()) -> MemoryBooks:
    """Book the statements in the order given, each on its own."""
    books, who = MemoryBooks(), clerk()
    for place, event in enumerate(events):
        now = NOW.replace(microsecond=place)
        if isinstance(event, Count):
            book_counts(books, who, [counted(str(event.quantity), at(event.minute))], now)
        else:
            message = moved(
                event.id, str(event.quantity), event.source.value, event.target.value, at(event.minute), event.to_node
            )
            book_movements(books, who, [message], now)
    return books


def net(books: MemoryBooks, account: Account, node: str = "N") -> int:
    """What an account holds less what it owes."""
    key = debt_key(PositionKey("A", node, "P"), account)
    owed = balances(books, node=node, lot=key.lot).get(Account.IN_TRANSIT, 0)
    return balances(books, node=node).get(account, 0) - owed


def oracle(events: Sequence[Count | Change]) -> int:
    """On hand at N: the newest count and all later changes."""
    on_hand = 0
    for event in sorted(events, key=lambda event: event.minute):
        if isinstance(event, Count):
            on_hand = event.quantity
        else:
            there = event.target in ON_HAND and not event.to_node
            on_hand += event.quantity * (there - (event.source in ON_HAND))
    return on_hand


@given(histories().flatmap(lambda events: st.tuples(st.just(events), st.permutations(events))))
def test_the_end_is_the_newest_count_and_all_later_changes(told: tuple[list[Count | Change], list[Count | Change]]):
    happened, order = told
    books = tell(order)
    assert sum(net(books, account) for account in ON_HAND) == oracle(happened)


@given(histories((Account.OUTSIDE, Account.AVAILABLE)).flatmap(st.permutations))
def test_nothing_is_owed_while_there_is_stock(order: list[Count | Change]):
    books = tell(order)
    assert balances(books).get(Account.AVAILABLE, 0) == max(0, oracle(order))


@given(
    st.lists(
        st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS), quantities, st.booleans()), max_size=8
    ).flatmap(lambda changes: st.tuples(st.just(changes), st.permutations(range(len(changes)))))
)
def test_changes_alone_add_up_by_account_in_any_order(told: tuple[list[tuple[Account, Account, int, bool]], list[int]]):
    changes, order = told
    events = [
        Change(n, f"m{n}", quantity, source, target, "M" if leaves else "")
        for n, (source, target, quantity, leaves) in enumerate(changes)
        if source is not target and not (leaves and Account.OUTSIDE in (source, target))
    ]
    books = tell([event for n in order for event in events if event.minute == n])
    for account in (Account.AVAILABLE, Account.BLOCKED, Account.IN_TRANSIT):
        here = sum(e.quantity * ((e.target is account and not e.to_node) - (e.source is account)) for e in events)
        there = sum(e.quantity for e in events if e.target is account and e.to_node)
        assert net(books, account) == here
        assert net(books, account, "M") == there


@given(histories().flatmap(st.permutations))
def test_the_same_again_changes_nothing(order: list[Count | Change]):
    once, twice = tell(order), tell([event for event in order for _ in range(2)])
    for account in (Account.AVAILABLE, Account.BLOCKED, Account.IN_TRANSIT):
        assert net(once, account) == net(twice, account)


@given(histories().flatmap(st.permutations))
def test_the_journal_replays_to_the_balances(order: list[Count | Change]):
    shelves = tell(order).shelves
    for id_, found in shelves.positions.items():
        assert replay(found, [row.movement for row in shelves.journal[id_]]).balances == found.balances
