"""Stories of goods that come back, on both kinds of books: announced, received, inspected, exchanged, in any order."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from poolwise.core.edition.rows import NodeRow, PoolRow, Section
from poolwise.core.messages import OrderLine, OrderMessage, ReturnedLine, ReturnReceipt, StockMovement
from poolwise.core.network import Node, NodeStatus, Pool
from poolwise.core.policy.terms import Disposition, ReturnTerms
from poolwise.core.returns import Return, ReturnLine, ReturnState, refunds, total_due, units_back, value_of
from poolwise.core.values import Conflict, replace
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import RETURN, Effects, ReturnRecord
from poolwise.flows.returns import Booked, book_receipt
from poolwise.flows.stock import book_movements
from poolwise.store.memory import MemoryBooks
from tests.flows.market import Market, policy


def sent(market: Market, *lines: tuple[str, int], number: str = "1", price: str | None = None) -> UUID:
    """An order of which all was delivered."""
    asked = tuple(OrderLine(item=item, quantity=str(units), unit_price=price) for item, units in lines)
    message = OrderMessage(channel="web", zone="Z", number=number, lines=asked, currency="EUR")
    order = market.accept(message)
    market.work()
    market.release()
    with market.books.transaction() as transaction:
        shipments = [each.shipment.no for each in transaction.shipments(order)]
    for no in shipments:
        market.report(number, "delivered", shipment=no)
    assert market.state(order) == "shipped"
    return order


def under(market: Market, **terms: object) -> None:
    """Another policy for returns, a pool for B-grade, and C is a store."""
    rows = [(Section.POOLS, PoolRow(Pool(code))) for code in ("Q", "OUTLET")]
    rows += [(Section.NODES, NodeRow(Node("C", kind="store")))]
    market.under(rows, policy(returns=ReturnTerms(**{"b_grade_pool": "OUTLET", **terms})))


def moved(market: Market, source: str, target: str) -> None:
    """A node tells of a BOLT that goes from one account to another."""
    at = market.later(seconds=1)
    said = StockMovement(id="m", item="BOLT", node="A", pool="P", quantity="1", source=source, target=target, at=at)
    book_movements(market.books, market.clerk, [said], at)


def booked(outcome: Booked | Rejected) -> str:
    """What became of a message that was not refused."""
    assert isinstance(outcome, Booked), outcome
    return outcome.outcome.value


def reasons(outcome: object) -> list[str]:
    """The fields and reasons of a refusal."""
    assert isinstance(outcome, Rejected), outcome
    return [f"{fault.field}: {fault.reason}" for fault in outcome.problems]


def test_what_comes_back_goes_to_the_pool_and_lot_it_left_from(market: Market) -> None:
    under(market)
    market.count("BOLT", "A", 3, pool="Q", lot="L1")
    order = sent(market, ("BOLT", 2))
    assert market.announce("RMA", (1, 2)) == "RMA"
    assert market.returned(order) == ["RMA announced"]
    assert booked(market.come_back("RMA", (1, 2))) == "booked"
    assert (market.at("BOLT", "A", "L1", "Q"), market.returned(order)) == (
        {"available": 1, "blocked": 2},
        ["RMA received"],
    )
    assert booked(market.inspect("RMA", (1, 2, "restock"))) == "booked"
    assert (market.at("BOLT", "A", "L1", "Q"), market.returned(order)) == ({"available": 3}, ["RMA closed"])


def test_each_unit_goes_where_it_is_said_to(market: Market) -> None:
    under(market)
    market.count("BOLT", "A", 4)
    order = sent(market, ("BOLT", 4))
    market.announce("RMA", (1, 4), node="C")
    market.come_back("RMA", (1, 4))
    assert market.at("BOLT", "C") == {"blocked": 4}
    told = [(1, 1, "restock"), (1, 1, "b_grade"), (1, 1, "scrap")]
    assert booked(market.inspect("RMA", *told)) == "booked"
    assert (market.at("BOLT", "C"), market.at("BOLT", "C", pool="OUTLET")) == (
        {"available": 1, "blocked": 1},
        {"available": 1},
    )
    assert market.returned(order) == ["RMA received"]
    market.inspect("RMA", (1, 1, "to_supplier"))
    assert (market.at("BOLT", "C"), market.returned(order)) == ({"available": 1}, ["RMA closed"])


def test_who_waits_gets_what_is_back_on_its_shelf(market: Market) -> None:
    market.count("BOLT", "A", 1)
    sent(market, ("BOLT", 1))
    other = market.order("2", ("BOLT", 1))
    market.work()
    market.announce("RMA", (1, 1))
    market.come_back("RMA", (1, 1))
    market.work()
    assert market.state(other) == "backordered"
    market.inspect("RMA", (1, 1, "restock"))
    market.work()
    assert (market.state(other), market.held(other)) == ("sourced", [("A", 1)])


def test_a_message_has_its_effect_once(market: Market) -> None:
    market.count("BOLT", "A", 2)
    order = sent(market, ("BOLT", 2))
    assert market.announce("RMA", (1, 2)) == "RMA"
    assert market.announce("RMA", (1, 2)) == "known RMA"
    for outcome in ("booked", "duplicate"):
        assert booked(market.come_back("RMA", (1, 2), id="r")) == outcome
    for outcome in ("booked", "duplicate"):
        assert booked(market.inspect("RMA", (1, 1, "restock"), id="i")) == outcome
    assert (market.at("BOLT", "A"), market.returned(order)) == ({"available": 1, "blocked": 1}, ["RMA received"])


def test_what_is_said_of_goods_before_they_come_waits_for_them(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sent(market, ("BOLT", 3))
    market.announce("RMA", (1, 3))
    assert booked(market.inspect("RMA", (1, 3, "restock"))) == "kept"
    assert (market.at("BOLT", "A"), market.returned(order)) == ({}, ["RMA announced"])
    market.come_back("RMA", (1, 2))
    assert (market.at("BOLT", "A"), market.returned(order)) == ({"available": 2}, ["RMA inspected"])
    market.come_back("RMA", (1, 1))
    assert (market.at("BOLT", "A"), market.returned(order)) == ({"available": 3}, ["RMA closed"])


@pytest.mark.parametrize("first", ["come_back", "inspect"])
def test_goods_that_nobody_announced_are_there(market: Market, first: str) -> None:
    market.count("BOLT", "A", 2)
    order = sent(market, ("BOLT", 2))
    if first == "inspect":
        assert booked(market.inspect("RMA", (1, 1, "restock"), order="1", node="A")) == "kept"
    market.come_back("RMA", (1, 1), order="1", node="A")
    if first == "come_back":
        market.inspect("RMA", (1, 1, "restock"))
    assert (market.at("BOLT", "A"), market.incidents()) == ({"available": 1}, ["return_unannounced"])
    assert market.announce("RMA", (1, 2)) == "RMA"
    assert market.returned(order) == ["RMA inspected"]


def test_more_than_was_announced_or_had_left_is_there_and_somebody_is_told(market: Market) -> None:
    market.count("BOLT", "A", 2)
    order = sent(market, ("BOLT", 2))
    market.announce("RMA", (1, 1))
    market.come_back("RMA", (1, 3))
    assert (market.at("BOLT", "A"), market.incidents()) == ({"blocked": 3}, ["return_beyond"])
    (found,) = market.record(order).returns
    assert [(part.reservation_no, part.quantity) for part in found.parts] == [(1, 2), (0, 1)]


def test_what_came_back_had_left_whatever_the_node_says_later(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sent(market, ("BOLT", 3))
    market.announce("RMA", (1, 2))
    market.come_back("RMA", (1, 2))
    market.report("1", "short", ("BOLT", 3))
    (line,) = market.record(order).lines
    assert (line.shipped, line.backordered) == (2, 1)


def test_a_return_that_is_over_takes_what_comes_all_the_same(market: Market) -> None:
    market.count("BOLT", "A", 2)
    order = sent(market, ("BOLT", 2))
    market.announce("RMA", (1, 2))
    assert booked(market.end("RMA", "cancelled")) == "booked"
    assert booked(market.end("RMA", "cancelled")) == "unchanged"
    assert market.returned(order) == ["RMA cancelled"]
    assert market.announce("OTHER", (1, 2)) == "OTHER"
    market.come_back("RMA", (1, 1))
    assert (market.incidents(), market.at("BOLT", "A")) == (["return_beyond"], {"blocked": 1})
    market.inspect("RMA", (1, 1, "scrap"))
    assert market.returned(order) == ["RMA closed", "OTHER announced"]
    assert reasons(market.end("RMA", "refused")) == ["state: it is closed already"]


def test_a_return_of_which_some_never_comes_is_closed(market: Market) -> None:
    market.count("BOLT", "A", 3)
    order = sent(market, ("BOLT", 3))
    market.announce("RMA", (1, 3))
    market.come_back("RMA", (1, 1))
    assert reasons(market.end("RMA", "cancelled")) == ["state: some of it has come; close it"]
    market.end("RMA", "closed")
    assert market.returned(order) == ["RMA received"]
    market.inspect("RMA", (1, 1, "restock"))
    assert market.returned(order) == ["RMA closed"]
    assert market.announce("NEXT", (1, 2)) == "NEXT"


def test_a_count_that_has_seen_the_goods_took_them_for_free_stock(market: Market) -> None:
    market.count("BOLT", "A", 2)
    sent(market, ("BOLT", 2))
    market.announce("RMA", (1, 2))
    came = market.later(minutes=5)
    market.count("BOLT", "A", 2)
    assert market.at("BOLT", "A") == {"available": 2}
    market.come_back("RMA", (1, 2), at=came)
    assert market.at("BOLT", "A") == {"blocked": 2}
    gone = market.later(minutes=5)
    market.count("BOLT", "A", 1)
    market.inspect("RMA", (1, 1, "scrap"), at=gone)
    moved(market, "outside", "available")
    # Nothing is owed to that count.
    assert market.at("BOLT", "A") == {"available": 1, "blocked": 1}


def test_a_count_that_has_seen_b_grade_where_it_went_has_counted_it(market: Market) -> None:
    under(market)
    market.count("BOLT", "A", 1)
    sent(market, ("BOLT", 1))
    market.announce("RMA", (1, 1))
    market.come_back("RMA", (1, 1))
    sorted_at = market.later(minutes=5)
    market.count("BOLT", "A", 1, pool="OUTLET")
    market.inspect("RMA", (1, 1, "b_grade"), at=sorted_at)
    assert (market.at("BOLT", "A"), market.at("BOLT", "A", pool="OUTLET")) == ({}, {"available": 1})


def test_goods_that_somebody_else_has_taken_are_owed(market: Market) -> None:
    market.count("BOLT", "A", 1)
    sent(market, ("BOLT", 1))
    market.announce("RMA", (1, 1))
    market.come_back("RMA", (1, 1))
    moved(market, "blocked", "available")
    market.inspect("RMA", (1, 1, "restock"))
    # The node told it twice: one unit is owed.
    assert market.at("BOLT", "A") == {"available": 2}


# --- what is refused


def test_all_that_is_wrong_with_an_announcement_is_said_at_once(market: Market) -> None:
    under(market, not_returnable=("NUT",))
    for item in ("BOLT", "NUT", "NAIL"):
        market.count(item, "A", 2)
    sent(market, ("BOLT", 2), ("NUT", 1), ("NAIL", 1))
    late = market.order("2", ("SCREW", 1))
    assert late
    found = market.announce("RMA", (1, 3), (2, 1), (4, 1), node="B")
    assert reasons(found) == [
        "lines[0]: BOLT of line 1: more than has left and is not back, or announced, already (more_than_shipped)",
        "lines[1]: NUT of line 2: it does not come back, says the policy (not_returnable)",
        "lines[2].line: the order has no line 4",
    ]
    assert reasons(market.announce("RMA", (1, 1), node="B")) == [
        "node: goods cannot be brought to 'B': it is not open, or of no kind that the policy allows"
    ]
    assert reasons(market.announce("R M A", (1, 1), order="9")) == [
        "number: is 1 to 100 letters, digits, dots, dashes and underscores",
        "order: there is no order '9'",
    ]
    assert reasons(market.announce("RMA", (1, 1), order="2")) == [
        "lines[0]: SCREW of line 1: nothing of it has left (not_shipped)"
    ]
    assert reasons(market.announce("RMA", (1, 1), customer="eve")) == ["order: there is no order '1' of customer 'eve'"]


def test_no_more_is_announced_than_has_left_and_is_not_back(market: Market) -> None:
    market.count("BOLT", "A", 3)
    sent(market, ("BOLT", 3))
    assert market.announce("R1", (1, 2)) == "R1"
    assert isinstance(market.announce("R2", (1, 2)), Rejected)
    assert market.announce("R2", (1, 1)) == "R2"
    market.come_back("R1", (1, 2))
    assert isinstance(market.announce("R3", (1, 1)), Rejected)


def test_a_number_is_of_one_return(market: Market) -> None:
    market.count("BOLT", "A", 4)
    sent(market, ("BOLT", 2))
    sent(market, ("BOLT", 1), number="2")
    market.announce("RMA", (1, 1))
    other = market.announce("RMA", (1, 1), order="2")
    assert isinstance(other, Rejected)
    assert other.code == "number_taken"
    again = market.announce("RMA", (1, 2))
    assert isinstance(again, Rejected)
    assert again.code == "number_taken"
    assert reasons(market.come_back("RMA", (1, 1), order="2")) == ["order: the return 'RMA' is of another order"]


def test_the_window_begins_with_delivery(market: Market) -> None:
    under(market, window_days=14)
    market.count("BOLT", "A", 2)
    market.order("1", ("BOLT", 1))
    market.work()
    market.release()
    market.report("1", "shipped")
    market.later(days=5)
    market.report("1", "delivered")
    market.later(days=14, seconds=-10)
    assert market.announce("RMA", (1, 1)) == "RMA"
    market.end("RMA", "cancelled")
    market.later(seconds=10)
    assert reasons(market.announce("R2", (1, 1))) == [
        "lines[0]: BOLT of line 1: the time to return it is over (window_over)"
    ]


@pytest.mark.parametrize(("terms", "chosen", "node"), [
    ({}, "", "A"), ({"to_node": "B"}, "", "B"), ({}, "C", "C"), ({"bring_to": ()}, "C", None), ({}, "A", "A"),
    ({"bring_to": ("depot",)}, "B", None), ({"to_node": "X"}, "", None),
])  # fmt: skip
def test_where_goods_go_to(market: Market, terms: dict[str, object], chosen: str, node: str | None) -> None:
    under(market, **terms)
    market.count("BOLT", "A", 1)
    order = sent(market, ("BOLT", 1))
    found = market.announce("RMA", (1, 1), node=chosen)
    if node is None:
        assert [fault.split(":")[0] for fault in reasons(found)] == ["node"]
    else:
        assert market.record(order).returns[0].node == node


def test_goods_do_not_go_to_a_node_that_is_closed(market: Market) -> None:
    market.count("BOLT", "A", 1)
    sent(market, ("BOLT", 1))
    market.under([(Section.NODES, NodeRow(Node("A", status=NodeStatus("suspended"))))])
    assert reasons(market.announce("RMA", (1, 1))) == ["node: the node that goods would go to is not open; name one"]


def test_all_that_is_wrong_with_what_is_told_is_said_at_once(market: Market) -> None:
    market.count("BOLT", "A", 1)
    sent(market, ("BOLT", 1))
    market.announce("RMA", (1, 1))
    found = market.inspect("RMA", (1, 1, "b_grade"), (2, 1, "scrap"), (1, 1, "burn"), (1, 0, "scrap"), node="X")
    assert [fault.split(":")[0] for fault in reasons(found)] == [
        "node", "lines[0].disposition", "lines[1].line", "lines[2].disposition", "lines[3].quantity",
    ]  # fmt: skip
    assert reasons(market.come_back("NOBODY", (1, 1))) == ["order: name the order: nobody has announced this return"]
    tomorrow = market.now + timedelta(days=1)
    assert reasons(market.come_back("RMA", (1, 1), at=tomorrow)) == ["at: is in the future"]


# --- kits and substitutes


def test_parts_of_a_kit_come_back_by_name(market: Market) -> None:
    market.count("BOLT", "A", 1)
    market.count("NUT", "A", 2)
    sent(market, ("KIT", 1))
    assert reasons(market.announce("RMA", (1, 1))) == ["lines[0].item: line 1 was served with BOLT, NUT: name one"]
    lines = (ReturnedLine(line=1, quantity="2", item="NUT"),)
    receipt = ReturnReceipt(id="x", number="RMA", at=market.now, lines=lines, order="1", node="A")
    assert booked(book_receipt(market.books, market.counter, receipt, market.now)) == "booked"
    assert market.at("NUT", "A") == {"blocked": 2}


# --- exchange and refund


def due(market: Market, order: UUID, place: int = 0) -> tuple[int | None, str]:
    """What is due for a return of an order, the first unless told otherwise."""
    record = market.record(order)
    scales = {code: item.scale for code, item in market.edition.catalog.items.items()}
    found = record.returns[place]
    replaced_by = None
    if found.exchange is not None:
        replacing = market.record(found.exchange.order)
        replaced_by = value_of(replacing.order.lines, scales, [line.cancelled for line in replacing.lines])
    amount, reason = total_due(found, refunds(found, record.returns, record.order.lines, scales), replaced_by)
    return (None if amount is None else amount.minor), reason


def test_what_is_refunded_depends_on_what_becomes_of_it(market: Market) -> None:
    under(market, refunds_ppm={Disposition.SCRAP: 0, Disposition.B_GRADE: 333_333})
    market.count("BOLT", "A", 4)
    order = sent(market, ("BOLT", 4), price="9.99")
    market.announce("RMA", (1, 4))
    market.come_back("RMA", (1, 4))
    assert due(market, order) == (None, "no unit that was shipped has its place yet")
    market.inspect("RMA", (1, 1, "restock"), (1, 1, "b_grade"), (1, 1, "scrap"))
    assert due(market, order) == (999 + 333, "")
    # The policy of the day on which it was looked at counts.
    under(market)
    market.inspect("RMA", (1, 1, "b_grade"))
    assert due(market, order) == (2 * 999 + 333, "")


def test_without_a_price_nobody_knows_what_is_due(market: Market) -> None:
    market.count("BOLT", "A", 1)
    order = sent(market, ("BOLT", 1))
    market.announce("RMA", (1, 1))
    market.come_back("RMA", (1, 1))
    market.inspect("RMA", (1, 1, "restock"))
    assert due(market, order) == (None, "line 1 has no unit price")


def test_of_a_kit_what_is_complete_is_refunded_as_its_worst_part(market: Market) -> None:
    under(market, refunds_ppm={Disposition.SCRAP: 0, Disposition.B_GRADE: 500_000})
    market.count("BOLT", "A", 3)
    market.count("NUT", "A", 6)
    order = sent(market, ("KIT", 3), price="10.00")
    said = {"order": "1", "node": "A"}
    market.come_back("RMA", (1, 2, "BOLT"), (1, 4, "NUT"), **said)
    market.inspect("RMA", (1, 2, "restock", "BOLT"), (1, 3, "restock", "NUT"))
    unknown = (None, "parts of KIT have no price of their own, and some are not back")
    assert due(market, order) == unknown
    assert units_back(market.record(order).returns, 1) == 2
    market.inspect("RMA", (1, 1, "b_grade", "NUT"))
    # Two bolts, and four nuts of which one is worth half.
    assert due(market, order) == (2_000 - 250, "")
    market.come_back("RMA", (1, 1, "BOLT"), **said)
    assert (units_back(market.record(order).returns, 1), due(market, order)) == (2, (1_750, ""))
    market.inspect("RMA", (1, 1, "scrap", "BOLT"))
    assert due(market, order) == unknown
    market.come_back("RMA", (1, 2, "NUT"), **said)
    market.inspect("RMA", (1, 2, "restock", "NUT"))
    # The third bolt is worth nothing, whatever nuts it has.
    assert (units_back(market.record(order).returns, 1), due(market, order)) == (3, (2_000, ""))


def test_a_kit_that_comes_back_in_two_returns_is_due_with_the_second(market: Market) -> None:
    market.count("BOLT", "A", 2)
    market.count("NUT", "A", 4)
    order = sent(market, ("KIT", 2), price="10.00")
    said = {"order": "1", "node": "A"}
    market.come_back("RMA", (1, 2, "BOLT"), (1, 2, "NUT"), **said)
    market.inspect("RMA", (1, 2, "restock", "BOLT"), (1, 2, "restock", "NUT"))
    unknown = (None, "parts of KIT have no price of their own, and some are not back")
    assert due(market, order) == unknown
    market.come_back("RMA-2", (1, 2, "NUT"), **said)
    assert due(market, order) == unknown
    market.inspect("RMA-2", (1, 2, "restock", "NUT"))
    assert [due(market, order, place) for place in (0, 1)] == [(1_000, ""), (1_000, "")]


def test_a_kit_in_parts_and_a_whole_one_come_back_each_as_what_it_is(market: Market) -> None:
    market.count("KIT", "A", 1)
    market.count("BOLT", "A", 1)
    market.count("NUT", "A", 2)
    order = sent(market, ("KIT", 2), price="10.00")
    market.come_back("RMA", (1, 1, "KIT"), order="1", node="A")
    market.inspect("RMA", (1, 1, "restock", "KIT"))
    assert (units_back(market.record(order).returns, 1), due(market, order)) == (1, (1_000, ""))


def exchange(item: str, units: int, price: str | None = None) -> OrderMessage:
    """The order that replaces what comes back."""
    lines = (OrderLine(item=item, quantity=str(units), unit_price=price),)
    return OrderMessage(channel="web", lines=lines, currency="EUR")


def test_an_exchange_is_an_order_that_stands_whatever_becomes_of_the_return(market: Market) -> None:
    market.count("BOLT", "A", 1)
    market.count("NUT", "B", 2)
    order = sent(market, ("BOLT", 1), price="10.00")
    assert market.announce("RMA", (1, 1), exchange=exchange("NUT", 2, "4.50")) == "RMA"
    market.work()
    (found,) = market.record(order).returns
    assert found.exchange is not None
    replacing = found.exchange.order
    assert (found.exchange.number, market.state(replacing), market.held(replacing)) == ("RMA-X", "sourced", [("B", 2)])
    assert due(market, order)[0] is None
    market.end("RMA", "cancelled")
    assert (market.state(replacing), due(market, order)) == ("sourced", (-900, ""))
    market.come_back("RMA", (1, 1))
    market.inspect("RMA", (1, 1, "restock"))
    assert (market.state(replacing), due(market, order)) == ("sourced", (100, ""))


def test_nobody_knows_what_is_due_when_what_replaces_it_was_changed(market: Market) -> None:
    market.count("BOLT", "A", 1)
    order = sent(market, ("BOLT", 1), price="10.00")
    market.announce("RMA", (1, 1), exchange=exchange("NUT", 2, "4.50"))
    market.come_back("RMA", (1, 1))
    market.inspect("RMA", (1, 1, "restock"))
    assert due(market, order) == (100, "")
    market.cancel("RMA-X", (1, 1))
    assert due(market, order) == (None, "RMA-X was changed since it was accepted")


def test_an_exchange_that_is_wrong_is_refused_with_the_return(market: Market) -> None:
    market.count("BOLT", "A", 1)
    order = sent(market, ("BOLT", 1))
    found = market.announce("RMA", (1, 2), exchange=exchange("UNICORN", 1))
    assert [fault.split(":")[0] for fault in reasons(found)] == ["lines[0]", "exchange.lines[0].item"]
    assert market.record(order).returns == ()


# --- planted bugs, and the contract of the books


def planted(market: Market, order: UUID, *, consumed: int | None = None, came: int | None = None) -> set[int]:
    """The laws that the check finds broken after a reservation, or a return, is other than it was."""
    if isinstance(market.books, MemoryBooks):
        shelves = market.books.shelves
        if consumed is not None:
            shelves.reservations[order, 1] = replace(shelves.reservations[order, 1], consumed=consumed)
        if came is not None:
            record = shelves.orders[order]
            (found,) = record.returns
            parts = (replace(found.parts[0], quantity=came), *found.parts[1:])
            shelves.orders[order] = replace(record, returns=(replace(found, parts=parts),))
    else:
        assert market.connections is not None
        with market.connections.connection() as connection:
            if consumed is not None:
                connection.execute("UPDATE reservation SET consumed = %s WHERE cell = 0 AND no = 1", (consumed,))
            if came is not None:
                statement = "UPDATE customer_return SET document = jsonb_set(document, '{parts,0,quantity}', %s::jsonb)"
                connection.execute(statement, (str(came),))
            connection.commit()
    return {found.law for found in market.findings() if found.kind == "return"}


@pytest.mark.parametrize(("bug", "law"), [({"consumed": 1}, {6}), ({"came": 1}, {1}), ({"came": 0}, {1, 6})])
def test_the_check_finds_returns_that_are_not_lawful(market: Market, bug: dict[str, int], law: set[int]) -> None:
    market.count("BOLT", "A", 2)
    order = sent(market, ("BOLT", 2))
    market.announce("RMA", (1, 2))
    market.come_back("RMA", (1, 2))
    market.inspect("RMA", (1, 1, "scrap"))
    assert planted(market, order) == set()
    assert planted(market, order, **bug) == law
    assert planted(market, order, consumed=2, came=2) == set()


def test_books_keep_returns_with_their_order_and_find_it_by_their_number(market: Market) -> None:
    order = market.order("1", ("BOLT", 1))
    market.work()
    first, second = (
        Return(UUID(int=n), f"R-{n}", "A", market.now, "p", 1, (ReturnLine(1, "BOLT", 1, "why"),)) for n in (1, 2)
    )
    with market.books.transaction() as transaction:
        transaction.record(Effects(at=market.now, returns=[ReturnRecord(0, order, second, is_new=True)]))
        transaction.record(Effects(at=market.now, returns=[ReturnRecord(0, order, first, is_new=True)]))
    assert market.record(order).returns == (first, second)
    ended = replace(first, ended=ReturnState.REFUSED, state=ReturnState.REFUSED)
    with market.books.transaction() as transaction:
        transaction.record(Effects(at=market.now, returns=[ReturnRecord(0, order, ended)]))
        assert transaction.order_numbered([RETURN + "R-1", "R-1", "1"]) == {RETURN + "R-1": order, "1": order}
    market.count("BOLT", "A", 1)
    market.work()
    # What else is recorded of an order leaves them alone.
    assert (market.record(order).returns, market.state(order)) == ((ended, second), "sourced")
    again = Effects(at=market.now, returns=[ReturnRecord(0, order, replace(second, id=UUID(int=3)), is_new=True)])
    with pytest.raises(Conflict), market.books.transaction() as transaction:
        transaction.record(again)
