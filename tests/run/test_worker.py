"""Of an order that nobody can decide: it is set aside, and holds up nobody."""

from __future__ import annotations

import pytest

from poolwise.core.sourcing import exact
from poolwise.core.values import Refused
from poolwise.flows import source
from poolwise.run.worker import Duties, Worker
from tests.flows.market import Market, in_memory


def worker_of(market: Market) -> Worker:
    return Worker(Duties(market.books, lambda: market.desk, lambda: market.later(seconds=1), (0,), 50, 1))


def test_an_order_that_cannot_be_decided_is_held_and_those_beside_it_are_sourced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    market = in_memory()
    market.count("BOLT", "A", 9)
    orders = [market.order(number, ("BOLT", 1)) for number in ("1", "POISON", "3", "4")]
    real = source.solve

    def solve(problem, atlas, prepared=None):
        if problem.demand.order.number == "POISON":
            raise exact.Undecidable(problem.demand.order)
        return real(problem, atlas, prepared)

    with monkeypatch.context() as poisoned:
        poisoned.setattr(source, "solve", solve)
        worker_of(market).run(until_idle=True)
        assert [market.state(order) for order in orders] == ["sourced", "received", "sourced", "sourced"]
        (held,) = market.record(orders[1]).holds
        assert (held.code, list(held.blocks)) == ("cannot_be_decided", ["sourcing"])
        assert market.incidents() == ["cannot_be_decided"]
        market.order("5", ("BOLT", 1))
        worker_of(market).run(until_idle=True)
    market.lift("POISON", "cannot_be_decided")
    worker_of(market).run(until_idle=True)
    assert market.state(orders[1]) == "sourced"
    assert market.findings() == []


def test_a_worker_waits_until_something_is_in_force() -> None:
    market = in_memory()
    market.count("BOLT", "A", 1)
    order = market.order("1", ("BOLT", 1))
    refusals = iter([Refused.one("nothing_in_force", "", "no network has been imported yet")] * 2)

    def desk():
        if (refused := next(refusals, None)) is not None:
            raise refused
        return market.desk

    Worker(Duties(market.books, desk, lambda: market.later(seconds=1), (0,), 50, 1)).run(until_idle=True)
    assert market.state(order) == "sourced"


@pytest.mark.parametrize("quantity", [900_000_000, 999_999_999])
def test_what_is_more_than_anybody_has_waits(quantity: int) -> None:
    market = in_memory()
    for node in "ABC":
        market.count("BOLT", node, 120)
    order = market.order("1", ("BOLT", quantity))
    market.work()
    assert market.state(order) in ("backordered", "partly_backordered")
    assert market.findings() == []
