"""Stories of sourcing: what was there, what came, and the numbers afterwards. Each ends in a check of all laws."""

from __future__ import annotations

from poolwise.flows import waking
from poolwise.flows.ports import Queue
from poolwise.flows.source import source_batch
from tests.flows.market import Market


def test_an_order_is_reserved_at_the_cheapest_node(market: Market) -> None:
    market.count("BOLT", "A", 10)
    market.count("BOLT", "B", 10)
    order = market.order("1", ("BOLT", 3))
    assert market.work() == 1
    assert (market.state(order), market.held(order)) == ("sourced", [("A", 3)])
    assert market.at("BOLT", "A") == {"available": 7, "reserved": 3}


def test_an_order_of_ten_over_four_four_and_two_gets_exactly_ten(market: Market) -> None:
    for node, units in (("A", 4), ("B", 4), ("C", 2)):
        market.count("BOLT", node, units)
    order = market.order("1", ("BOLT", 10))
    market.work()
    assert sorted(market.held(order)) == [("A", 4), ("B", 4), ("C", 2)]
    assert [market.at("BOLT", node) for node in "ABC"] == [{"reserved": 4}, {"reserved": 4}, {"reserved": 2}]


def test_the_same_item_twice_in_one_order_counts_together(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = market.order("1", ("BOLT", 3), ("BOLT", 3))
    market.work()
    assert (market.state(order), market.reserved(order)) == ("partly_backordered", 3)
    market.count("BOLT", "B", 1)
    market.count("BOLT", "C", 9)
    market.work()
    assert (market.state(order), market.reserved(order)) == ("sourced", 6)


def test_what_is_not_there_waits_and_is_served_when_it_comes(market: Market) -> None:
    market.count("BOLT", "A", 2)
    order = market.order("1", ("BOLT", 2), ("NUT", 1))
    market.work()
    assert (market.state(order), market.waiting(Queue.STOCK)) == ("partly_backordered", ["1"])
    market.count("NUT", "B", 1)
    assert market.waiting() == ["1"]
    assert market.work() == 1
    assert (market.state(order), market.held(order), market.record(order).attempt) == (
        "sourced", [("A", 2), ("B", 1)], 2,
    )  # fmt: skip


def test_whoever_waited_longest_is_served_first(market: Market) -> None:
    orders = [market.order(str(number), ("BOLT", 2)) for number in range(3)]
    market.work()
    market.count("BOLT", "A", 4)
    market.work()
    assert [market.state(order) for order in orders] == ["sourced", "sourced", "backordered"]


def test_demand_that_is_woken_wakes_who_waits_behind_it(market: Market, monkeypatch) -> None:
    monkeypatch.setattr(waking, "MOST_WOKEN", 2)
    orders = [market.order(str(number), ("BOLT", 1)) for number in range(7)]
    market.work()
    market.count("BOLT", "A", 6)
    market.work()
    assert [market.state(order) for order in orders] == ["sourced"] * 6 + ["backordered"]


def test_demand_that_is_promised_a_receipt_wakes_who_waits_behind_it(market: Market, monkeypatch) -> None:
    monkeypatch.setattr(waking, "MOST_WOKEN", 2)
    orders = [market.order(str(number), ("BOLT", 1)) for number in range(7)]
    market.work()
    market.expect("BOLT", "A", 6)
    market.work()
    assert [market.state(order) for order in orders] == ["sourced"] * 6 + ["backordered"]


def test_what_is_given_back_serves_what_it_is_a_part_of_or_replaces(market: Market) -> None:
    market.count("BOLT", "A", 1)
    market.count("NUT", "A", 2)
    market.count("SCREW", "A", 1)
    baskets = [market.basket(("BOLT", 1)), market.basket(("SCREW", 1))]
    orders = [market.order("1", ("KIT", 1)), market.order("2", ("NAIL", 1))]
    market.work()
    assert [market.state(order) for order in orders] == ["backordered", "backordered"]
    for basket in baskets:
        market.free(basket)
    market.work()
    assert [market.state(order) for order in orders] == ["sourced", "sourced"]


def test_a_part_that_is_left_over_serves_the_kit_behind(market: Market, monkeypatch) -> None:
    monkeypatch.setattr(waking, "MOST_WOKEN", 1)
    market.count("NUT", "A", 2)
    first, second = market.order("1", ("BOLT", 1)), market.order("2", ("KIT", 1))
    market.work()
    market.count("BOLT", "A", 2)
    market.work()
    assert (market.state(first), market.state(second)) == ("sourced", "sourced")


def test_a_count_of_nothing_new_wakes_nobody(market: Market) -> None:
    market.order("1", ("BOLT", 5))
    market.count("BOLT", "A", 0)
    market.work()
    market.count("BOLT", "A", 0)
    assert market.waiting() == []


def test_a_receipt_is_pledged_when_nothing_is_on_hand(market: Market) -> None:
    market.expect("BOLT", "A", 10)
    order = market.order("1", ("BOLT", 4))
    market.work()
    assert (market.state(order), market.record(order).lines[0].pledged) == ("sourced", 4)
    assert market.at("BOLT", "A") == {"expected": 6, "pledged": 4}


def test_a_receipt_is_never_pledged_twice(market: Market) -> None:
    market.expect("BOLT", "A", 5)
    orders = [market.order(str(number), ("BOLT", 3)) for number in range(3)]
    market.work(limit=1)
    assert [market.reserved(order) for order in orders] == [3, 2, 0]
    assert market.at("BOLT", "A") == {"pledged": 5}


def test_a_receipt_that_is_announced_serves_who_waits(market: Market) -> None:
    order = market.order("1", ("BOLT", 4))
    market.work()
    market.expect("BOLT", "B", 4)
    market.work()
    assert (market.state(order), market.record(order).lines[0].pledged) == ("sourced", 4)


def test_a_kit_waits_for_its_parts(market: Market) -> None:
    order = market.order("1", ("KIT", 2))
    market.work()
    market.count("BOLT", "A", 2)
    market.work()
    assert market.state(order) == "backordered"
    market.count("NUT", "A", 4)
    market.work()
    assert (market.state(order), market.at("NUT", "A")) == ("sourced", {"reserved": 4})


def test_a_substitute_serves_what_is_short(market: Market) -> None:
    market.count("SCREW", "A", 5)
    order = market.order("1", ("NAIL", 5))
    market.work()
    assert (market.state(order), market.at("SCREW", "A")) == ("sourced", {"reserved": 5})


def test_urgent_orders_come_first_then_the_oldest(market: Market) -> None:
    for number, priority in (("calm", 0), ("urgent", 9), ("later", 0), ("low", -5)):
        market.order(number, ("BOLT", 1), priority=priority)
    assert market.waiting() == ["urgent", "calm", "later", "low"]


def test_a_large_order_is_decided_alone(market: Market) -> None:
    market.count("BOLT", "A", 100)
    market.order("small", ("BOLT", 1))
    market.order("large", *[("BOLT", 1)] * 9, priority=5)
    market.order("other", ("BOLT", 1))
    batches = [source_batch(market.books, market.desk, 0, market.later(seconds=1), 500).decided for _ in range(3)]
    assert batches == [1, 2, 0]


def test_an_order_that_waits_for_the_wave_is_not_sourced_at_once(market: Market) -> None:
    market.count("BOLT", "A", 1)
    order = market.order("1", ("BOLT", 1), service_level="economy")
    assert (market.work(), market.state(order), market.waiting(Queue.WAVE)) == (0, "waiting", ["1"])


def test_a_ship_complete_order_waits_whole(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = market.order("1", ("BOLT", 5), ("NUT", 1), ship_complete=True)
    market.work()
    assert (market.state(order), market.reserved(order)) == ("backordered", 0)


def test_a_reservation_that_breaks_is_sourced_again(market: Market) -> None:
    market.count("BOLT", "A", 5)
    market.count("BOLT", "C", 5)
    order = market.order("1", ("BOLT", 5))
    market.work()
    market.count("BOLT", "A", 2)
    assert market.waiting() == ["1"]
    market.work()
    assert (market.state(order), sorted(market.held(order))) == ("sourced", [("A", 2), ("C", 3)])


def test_an_order_that_waits_and_breaks_is_sourced_as_a_whole(market: Market) -> None:
    """Its rest waits for stock when its reservation breaks: the demand of both is one."""
    market.count("BOLT", "A", 5)
    order = market.order("1", ("BOLT", 5), ("NUT", 2))
    market.work()
    market.count("BOLT", "A", 3)
    assert (market.waiting(), market.waiting(Queue.STOCK)) == (["1"], ["1"])
    market.work()
    assert market.state(order) == "partly_backordered"
    market.count("NUT", "A", 2)
    market.count("BOLT", "B", 2)
    market.work()
    assert (market.state(order), market.reserved(order)) == ("sourced", 7)
    assert market.waiting(Queue.STOCK) == []


def test_an_order_may_break_twice_before_it_is_decided_again(market: Market) -> None:
    market.count("BOLT", "A", 5)
    order = market.order("1", ("BOLT", 5))
    market.work()
    market.count("BOLT", "A", 3)
    market.count("BOLT", "A", 1)
    market.count("BOLT", "B", 4)
    market.work()
    assert (market.state(order), sorted(market.held(order))) == ("sourced", [("A", 1), ("B", 4)])


def test_stock_may_come_while_broken_demand_is_in_the_queue(market: Market) -> None:
    market.count("BOLT", "A", 2)
    order = market.order("1", ("BOLT", 4))
    market.work()
    market.count("BOLT", "A", 1)
    market.count("BOLT", "B", 9)
    market.work()
    assert (market.state(order), market.reserved(order)) == ("sourced", 4)


def test_decisions_are_told_in_the_feed_of_their_cell(market: Market) -> None:
    market.count("BOLT", "A", 1)
    order = market.order("1", ("BOLT", 1))
    market.work()
    with market.books.transaction() as transaction:
        decision = transaction.decision(order, 1)
    assert decision is not None
    assert (decision.cell, decision.edition, decision.policy_version) == (0, market.edition.hash, 1)


def test_facts_of_a_decision_name_only_capacity_that_matters(market: Market) -> None:
    """A slot with plenty of room is as good as an empty one: it is not stored."""
    market.count("BOLT", "A", 10)
    for number in range(3):
        market.order(str(number), ("BOLT", 1))
    market.work()
    last = market.order("last", ("BOLT", 1))
    market.work()
    with market.books.transaction() as transaction:
        decision = transaction.decision(last, 1)
    assert decision is not None
    assert len(decision.facts) < 40
    assert market.taken("A", market.now.date()) == 4


def test_stock_that_the_oldest_cannot_use_is_offered_to_everybody_behind_them(market: Market, monkeypatch) -> None:
    monkeypatch.setattr(waking, "MOST_WOKEN", 2)
    orders = [market.order(str(number), ("BOLT", 9), ship_complete=True) for number in range(7)]
    small = market.order("small", ("BOLT", 4))
    market.work()
    market.count("BOLT", "A", 4)
    market.work()
    assert [market.state(order) for order in orders] == ["backordered"] * 7
    assert (market.state(small), market.record(orders[0]).attempt) == ("sourced", 2)


def test_who_waits_for_something_rare_is_not_behind_who_waits_for_something_common(market: Market, monkeypatch) -> None:
    monkeypatch.setattr(waking, "MOST_WOKEN", 1)
    for number in range(3):
        market.order(str(number), ("BOLT", 9), ship_complete=True)
    rare = [market.order(f"rare-{number}", ("NUT", 9), ship_complete=True) for number in range(2)]
    last = market.order("last", ("NUT", 1))
    market.work()
    market.count("BOLT", "A", 1)
    market.count("NUT", "A", 1)
    market.work(limit=2)
    assert [market.state(order) for order in (*rare, last)] == ["backordered", "backordered", "sourced"]
