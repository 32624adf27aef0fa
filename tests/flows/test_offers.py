"""Stories of offers, on both kinds of books: several nodes are asked, and the first that claims a shipment has it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from threading import Barrier, Thread
from uuid import UUID

import pytest

from poolwise.core.fulfilment import Stage
from poolwise.core.policy.terms import Offers
from poolwise.core.values import replace
from poolwise.flows.intake import Rejected
from poolwise.flows.offers import OfferOf, Replied, claim, decline
from poolwise.flows.ports import Event, Queue
from poolwise.flows.stock import Outcome
from poolwise.flows.wave import run_wave
from poolwise.store.check import findings
from poolwise.store.evidence import check_database
from poolwise.store.feed import PostgresFeed, sequence_once
from poolwise.store.memory import MemoryBooks
from poolwise.store.memory_evidence import MemoryEvidence
from poolwise.store.proof import verifier
from tests.conftest import Database
from tests.flows.interleaved import COMMIT, Operation
from tests.flows.market import CELLS, Market, in_memory, on_postgres
from tests.flows.test_planted_laws import Kept

STORES = Offers(nodes=("A", "B"), minutes=30, most=3)
NEW = 100_001
"""The first shipment of the second attempt."""


@pytest.fixture(params=["memory", "postgres"])
def market(request: pytest.FixtureRequest) -> Iterator[Market]:
    """Stores A and B are asked before anything is released to them; C is a depot, which is not."""
    if request.param == "memory":
        yield in_memory(offers=STORES)
        return
    with on_postgres(request.getfixturevalue("database"), offers=STORES) as found:
        yield found


@pytest.fixture(autouse=True)
def lawful(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every story ends in lawful books, and every newest decision recomputes and is verified (laws 8 and 15)."""
    market = request.getfixturevalue("market") if "market" in request.fixturenames else None
    yield
    if market is not None:
        prove(market)


def prove(market: Market) -> None:
    verify = verifier(Kept(market.desk.atlas), market.books)
    if isinstance(market.books, MemoryBooks):
        assert findings(MemoryEvidence(market.books.shelves), verify) == []
    else:
        assert market.connections is not None
        assert check_database(market.connections, CELLS, market.now, full=True, verify=verify).findings == ()


def offered(market: Market, *lines: tuple[str, int], everywhere: int = 9) -> UUID:
    """An order with the number 1, offered to whoever could send it."""
    for node in "ABC" if everywhere else ():
        for item, _ in lines:
            market.count(item, node, everywhere)
    order = market.order("1", *lines)
    market.work()
    market.release()
    return order


def claims(market: Market, order: str, node: str, shipment: int = 1) -> Replied | Rejected:
    """A node claims a shipment that was offered to it."""
    return claim(market.books, market.desk, OfferOf(order, shipment, node), market.later(seconds=1))


def declines(market: Market, order: str, node: str, shipment: int = 1) -> Replied | Rejected:
    """A node will not take what was offered to it."""
    return decline(market.books, market.desk, OfferOf(order, shipment, node), market.later(seconds=1))


def standing(market: Market, order: UUID) -> dict[int, tuple[str, ...]]:
    """The shipments of an order that are offered, and to whom."""
    with market.books.transaction() as transaction:
        shipments = transaction.shipments(order)
    return {each.shipment.no: each.offered_to for each in shipments if each.stage is Stage.OFFERED}


def parts(market: Market, order: UUID) -> dict[str, int]:
    """Where the units of all lines of an order stand."""
    names = ("reserved", "backordered", "released", "shipped", "cancelled")
    sums = {name: sum(getattr(line, name) for line in market.record(order).lines) for name in names}
    return {name: units for name, units in sums.items() if units}


def code(reply: Replied | Rejected) -> str:
    """The code of a refusal."""
    assert isinstance(reply, Rejected), reply
    return reply.code


def events(market: Market) -> list[Event]:
    """What was told of offers."""
    if isinstance(market.books, MemoryBooks):
        found = [event for _, event in market.books.shelves.outbox]
    else:
        assert market.connections is not None
        sequence_once(market.connections, 0, market.now, 1_000)
        found = [each.event for each in PostgresFeed(market.connections).after({0: 0}, 10_000)]
    return [event for event in found if event.type.startswith("offer.")]


def kinds(market: Market) -> list[str]:
    """Kinds of these events."""
    return [event.type for event in events(market)]


def test_a_shipment_from_a_store_is_offered_to_all_that_could_send_it(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    assert (standing(market, order), market.stages(order)) == ({1: ("A", "B")}, ["A offered"])
    assert (market.state(order), parts(market, order)) == ("sourced", {"reserved": 3})
    assert market.at("BOLT", "A") == {"available": 6, "reserved": 3}
    assert [event.data["nodes"] for event in events(market)] == [["A", "B"]]


def test_what_a_depot_sends_is_released(market: Market) -> None:
    market.count("BOLT", "C", 3)
    order = offered(market, ("BOLT", 3), everywhere=0)
    assert market.stages(order) == ["C released"]


def test_a_store_that_cannot_send_all_of_it_is_not_asked(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 2)
    order = offered(market, ("BOLT", 3), everywhere=0)
    assert standing(market, order) == {1: ("A",)}


def test_the_store_that_was_planned_claims_it(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    assert claims(market, "1", "A") == Replied(1)
    assert (market.stages(order), parts(market, order)) == (["A released"], {"released": 3})
    assert code(claims(market, "1", "B")) == "offer_taken"
    # Once more is no second claim, and it is too late to decline the offer.
    assert claims(market, "1", "A") == Replied(1)
    assert code(declines(market, "1", "A")) == "offer_taken"
    assert kinds(market) == ["offer.made", "offer.claimed"]


def test_another_store_claims_it_and_has_it_at_once(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    assert claims(market, "1", "B") == Replied(NEW)
    assert market.stages(order) == ["A cancelled", "B released"]
    assert (parts(market, order), market.held(order)) == ({"released": 3}, [("B", 3)])
    assert (market.at("BOLT", "A"), market.at("BOLT", "B")) == ({"available": 9}, {"available": 6, "reserved": 3})
    assert (market.record(order).attempt, market.record(order).declined) == (2, ())
    assert [code(claims(market, "1", node)) for node in "AC"] == ["offer_taken", "offer_invalid"]
    assert market.work() == 0
    market.report("1", "shipped", shipment=NEW)
    assert (market.state(order), market.at("BOLT", "B")) == ("shipped", {"available": 6})
    assert kinds(market) == ["offer.made", "offer.claimed"]


def test_what_the_loser_has_in_hand_goes_back_and_what_it_sent_is_gone(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    claims(market, "1", "B")
    assert market.report("1", "picked") is Outcome.CANCELLED
    market.report("1", "shipped")
    assert (market.at("BOLT", "A"), market.incidents()) == ({"available": 6}, ["sent_beyond"])
    assert parts(market, order) == {"released": 3}


def test_a_claim_fails_whose_stock_is_gone_and_nothing_else_changes(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.count("BOLT", "B", 2)
    assert code(claims(market, "1", "B")) == "not_available"
    assert (standing(market, order), parts(market, order)) == ({1: ("A",)}, {"reserved": 3})
    assert (market.record(order).attempt, market.record(order).declined) == (1, ())
    assert code(claims(market, "1", "B")) == "offer_invalid"
    assert claims(market, "1", "A") == Replied(1)
    assert kinds(market) == ["offer.made", "offer.withdrawn", "offer.claimed"]


def test_when_time_is_over_all_who_were_asked_have_declined(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.later(minutes=29, seconds=59)
    assert (market.expire(), market.stages(order)) == (0, ["A offered"])
    market.later(seconds=1)
    assert market.expire() == 1
    assert code(claims(market, "1", "B")) == "offer_over"
    assert (market.stages(order), market.record(order).declined) == (["A cancelled"], ("A", "B"))
    assert market.at("BOLT", "A") == {"available": 9}
    market.work()
    assert market.held(order) == [("C", 3)]
    market.release()
    assert market.stages(order) == ["A cancelled", "C released"]
    assert (kinds(market), market.incidents()) == (["offer.made", "offer.expired"], [])


def test_a_claim_after_its_time_is_refused_though_nobody_has_swept(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.later(minutes=30)
    assert code(claims(market, "1", "A")) == "offer_over"
    assert market.stages(order) == ["A offered"]


def test_when_all_have_declined_it_is_sourced_again_at_once(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    assert declines(market, "1", "A") == Replied(1)
    assert (standing(market, order), market.record(order).declined) == ({1: ("B",)}, ("A",))
    assert [code(claims(market, "1", "A")), code(declines(market, "1", "A"))] == ["offer_over"] * 2
    assert market.expire() == 0
    declines(market, "1", "B")
    assert market.expire() == 1
    market.work()
    assert (market.held(order), market.record(order).declined) == ([("C", 3)], ("A", "B"))
    assert code(declines(market, "1", "B")) == "offer_over"
    assert kinds(market) == ["offer.made", "offer.declined", "offer.declined", "offer.expired"]


def test_who_has_declined_loses_nothing_of_what_another_claims(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    declines(market, "1", "A")
    assert claims(market, "1", "B") == Replied(NEW)
    assert market.stages(order) == ["A cancelled", "B released"]


def test_each_of_several_offered_shipments_has_its_time(market: Market) -> None:
    market.count("BOLT", "A", 1)
    market.count("NUT", "B", 1)
    market.count("BOLT", "C", 1)
    order = offered(market, ("BOLT", 1), ("NUT", 1), everywhere=0)
    assert standing(market, order) == {1: ("A",), 2: ("B",)}
    market.later(minutes=10)
    assert claims(market, "1", "B", shipment=2) == Replied(2)
    market.later(minutes=20)
    assert market.expire() == 1
    assert market.stages(order) == ["A cancelled", "B released"]
    market.work()
    assert sorted(market.held(order)) == [("B", 1), ("C", 1)]


def test_what_is_sourced_later_does_not_change_the_time_of_an_offer(market: Market) -> None:
    market.count("BOLT", "A", 1)
    order = offered(market, ("BOLT", 1), ("NUT", 1), everywhere=0)
    market.later(minutes=20)
    market.count("NUT", "B", 1)
    market.work()
    market.expire()
    assert standing(market, order) == {1: ("A",)}
    market.later(minutes=10)
    market.expire()
    assert market.stages(order) == ["A cancelled", "B planned"]
    market.later(minutes=20)
    market.expire()
    assert standing(market, order) == {NEW: ("B",)}


def test_an_order_that_is_held_is_not_offered_and_what_is_offered_cannot_be_claimed(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.hold("1", "release")
    assert [code(claims(market, "1", node)) for node in "AB"] == ["order_held"] * 2
    market.later(minutes=30)
    market.expire()
    # Nobody is blamed for it.
    assert (market.stages(order), market.record(order).declined) == (["A planned"], ())
    assert code(claims(market, "1", "B")) == "offer_over"
    assert kinds(market) == ["offer.made", "offer.withdrawn"]


def test_an_order_that_is_let_go_in_time_can_be_claimed_still(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.hold("1", "release")
    market.lift("1")
    market.expire()
    assert claims(market, "1", "B") == Replied(NEW)
    assert market.stages(order) == ["A cancelled", "B released"]


def test_what_was_withdrawn_is_offered_again_when_the_order_is_let_go(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.hold("1", "release")
    market.later(minutes=30)
    market.expire()
    market.lift("1")
    market.expire()
    assert standing(market, order) == {1: ("A", "B")}
    assert kinds(market) == ["offer.made", "offer.withdrawn", "offer.made"]


def test_nobody_claims_elsewhere_what_may_not_be_sourced(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.hold("1", "sourcing")
    assert code(claims(market, "1", "B")) == "order_held"
    assert claims(market, "1", "A") == Replied(1)
    assert market.stages(order) == ["A released"]


def test_an_order_that_is_cancelled_is_offered_no_more(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.cancel("1")
    assert (market.state(order), market.at("BOLT", "A")) == ("cancelled", {"available": 9})
    assert [code(claims(market, "1", node)) for node in "AB"] == ["offer_over"] * 2
    market.later(minutes=30)
    market.expire()
    assert market.stages(order) == ["A cancelled"]


def test_what_is_offered_goes_to_no_other_order_and_is_in_nobodys_hands(market: Market) -> None:
    offered(market, ("BOLT", 3))
    market.order("3", ("BOLT", 1))
    told = [market.divide("1", "2", (1, 1)), market.join("3", "1")]
    assert [(each.code, each.problems[0].reason) for each in told if isinstance(each, Rejected)] == [
        ("too_late", "at most 0 of the line can go: 3 are offered to nodes"),
        ("too_late", "line 1 of order '1' is offered to nodes"),
    ]


def test_of_what_is_cancelled_in_part_the_rest_is_claimed(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.cancel("1", (1, 1))
    assert claims(market, "1", "B") == Replied(NEW)
    assert (market.held(order), parts(market, order)) == ([("B", 2)], {"released": 2, "cancelled": 1})


def test_of_what_is_wanted_in_addition_only_the_offered_part_is_claimed(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.amend("1", (1, 5))
    assert claims(market, "1", "B") == Replied(NEW)
    assert parts(market, order) == {"released": 3, "backordered": 2}
    market.work()
    assert sorted(market.held(order)) == [("A", 2), ("B", 3)]


@pytest.mark.parametrize(("kind", "stage"), [("picked", "picked"), ("shipped", "shipped"), ("delivered", "delivered")])
def test_a_store_that_has_begun_has_it(market: Market, kind: str, stage: str) -> None:
    order = offered(market, ("BOLT", 3))
    assert market.report("1", kind) is Outcome.BOOKED
    assert market.stages(order) == [f"A {stage}"]
    assert code(claims(market, "1", "B")) == "offer_taken"


def test_a_store_that_finds_only_a_part_of_what_was_offered_has_that(market: Market) -> None:
    order = offered(market, ("BOLT", 3), ("NUT", 1))
    market.report("1", "short", ("BOLT", 1))
    assert (market.stages(order), parts(market, order)) == (["A released"], {"released": 3, "backordered": 1})
    assert market.at("BOLT", "A") == {"available": 6, "reserved": 2, "blocked": 1}
    market.work()
    market.release()
    # The rest is offered without that store.
    assert standing(market, order) == {NEW: ("B",)}


def test_a_kit_of_which_a_part_is_not_found_comes_from_elsewhere_as_a_whole(market: Market) -> None:
    for node in "ABC":
        market.count("BOLT", node, 2)
        market.count("NUT", node, 4)
    order = offered(market, ("KIT", 1), ("BOLT", 1), everywhere=0)
    market.report("1", "short", ("NUT", 1))
    assert (market.stages(order), parts(market, order)) == (["A released"], {"released": 1, "backordered": 1})
    market.work()
    assert sorted(market.held(order)) == [("A", 1), ("B", 1), ("B", 2)]


def test_a_kit_is_claimed_by_a_store_that_has_its_parts(market: Market) -> None:
    for node in "AB":
        market.count("BOLT", node, 2)
        market.count("NUT", node, 4)
    order = offered(market, ("KIT", 2), everywhere=0)
    assert claims(market, "1", "B") == Replied(NEW)
    assert (market.held(order), market.at("NUT", "A")) == ([("B", 2), ("B", 4)], {"available": 4})


def test_stock_that_is_counted_away_ends_the_offer(market: Market) -> None:
    order = offered(market, ("BOLT", 3))
    market.count("BOLT", "A", 0)
    assert code(claims(market, "1", "B")) == "offer_over"
    market.work()
    assert market.held(order) == [("B", 3)]


def test_a_claim_wakes_who_waits_for_what_the_other_keeps(market: Market) -> None:
    market.count("BOLT", "A", 3)
    market.count("BOLT", "B", 3)
    order = offered(market, ("BOLT", 3), everywhere=0)
    market.count("BOLT", "B", 3)
    other = market.order("2", ("BOLT", 6))
    market.work()
    assert (market.state(other), market.reserved(other)) == ("partly_backordered", 3)
    assert code(claims(market, "1", "B")) == "not_available"
    declines(market, "1", "A")
    market.expire()
    market.work()
    assert (market.reserved(other), market.state(order)) == (6, "backordered")


def test_no_wave_plans_anew_what_is_offered(market: Market) -> None:
    market.count("BOLT", "B", 3)
    order = market.order("1", ("BOLT", 3), service_level="economy")
    run_wave(market.books, market.desk, 0, market.later(seconds=1))
    assert market.waiting(Queue.WAVE) == ["1"]
    market.release()
    assert standing(market, order) == {1: ("B",)}
    market.count("BOLT", "A", 3)
    run_wave(market.books, market.desk, 0, market.later(seconds=1))
    assert standing(market, order) == {1: ("B",)}


def test_baskets_that_are_due_with_an_offer_expire_too(market: Market) -> None:
    offered(market, ("BOLT", 3))
    basket = market.basket(("BOLT", 1), seconds=60)
    market.later(minutes=30)
    assert [market.expire(), market.expire()] == [2, 0]
    assert market.held(basket) == []


@pytest.mark.parametrize(
    ("order", "shipment", "node"), [("ghost", 1, "A"), ("1", 2, "A"), ("1", 1, "C"), ("1", 1, "ghost")]
)
def test_what_was_never_offered_cannot_be_claimed_or_declined(
    market: Market, order: str, shipment: int, node: str
) -> None:
    mine = offered(market, ("BOLT", 3))
    assert [code(claims(market, order, node, shipment)), code(declines(market, order, node, shipment))] == [
        "offer_invalid"] * 2  # fmt: skip
    assert standing(market, mine) == {1: ("A", "B")}


def test_most_limits_whom_it_is_offered_to_the_cheapest_first(market: Market) -> None:
    market.under(policy=replace(market.policy, offers=Offers(most=2)))
    order = offered(market, ("BOLT", 3))
    assert standing(market, order) == {1: ("A", "B")}


# --- at the same time


def test_of_two_claims_at_the_same_time_exactly_one_wins(database: Database) -> None:
    with on_postgres(database, offers=STORES) as market:
        for trial in range(20):
            order = _claimed_at_once(market, trial)
            stages = [stage for stage in market.stages(order) if stage.endswith("released")]
            assert len(stages) == 1
        prove(market)


def _claimed_at_once(market: Market, trial: int) -> UUID:
    number = f"at once {trial}"
    for node in "AB":
        market.count("BOLT", node, 900)
    order = market.order(number, ("BOLT", 3))
    market.work()
    market.release()
    together, replies = Barrier(2), dict[str, Replied | Rejected]()

    def run(node: str) -> None:
        together.wait()
        replies[node] = claim(market.books, market.desk, OfferOf(number, 1, node), market.now + timedelta(seconds=1))

    threads = [Thread(target=run, args=(node,)) for node in "AB"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [node for node, reply in replies.items() if isinstance(reply, Replied)]
    (lost,) = set("AB") - set(won)
    assert (len(won), code(replies[lost])) == (1, "offer_taken")
    return order


@pytest.mark.parametrize(("first", "second"), [("A", "B"), ("B", "A"), ("B", "time"), ("time", "B")])
def test_a_claim_that_is_stopped_before_its_commit_is_waited_for(database: Database, first: str, second: str) -> None:
    with on_postgres(database, offers=STORES, connections=6) as market:
        order = offered(market, ("BOLT", 3))
        replies = dict[str, object]()

        def work(who: str) -> Operation:
            at = market.now + timedelta(minutes=30 if who == "time" else 10)
            return Operation(market, lambda books: replies.update({who: _act(market, books, who, at)}))

        one, other = work(first).begin(), work(second)
        assert one.go_to(COMMIT)
        other.begin().finish()
        one.finish()
        other.end()
        market.later(minutes=30)
        market.expire()
        wins = {"A": ["A released"], "B": ["A cancelled", "B released"], "time": ["A cancelled"]}
        assert market.stages(order) == wins[first]
        if second != "time":
            assert code(replies[second]) == ("offer_over" if first == "time" else "offer_taken")  # type: ignore[arg-type]  # a reply
        prove(market)


def _act(market: Market, books: object, who: str, at: object) -> object:
    from poolwise.flows.timers import run_timers

    if who == "time":
        return run_timers(books, market.desk, CELLS[0], at, 10)  # type: ignore[arg-type]  # gated books
    return claim(books, market.desk, OfferOf("1", 1, who), at)  # type: ignore[arg-type]  # gated books
