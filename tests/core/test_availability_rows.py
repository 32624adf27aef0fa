"""Answers from rows are those from facts: `Outlook.sums` adds up to what `Outlook.offers` says."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from uuid import UUID

import pytest

from poolwise.core.availability import Outlook, added_up, basket, by_echelon, by_node, by_pool, sorted_out
from poolwise.core.network import Echelon, Network, Node, NodeStatus, Pool
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import Buffer, SourcingPolicy
from poolwise.core.sourcing.problem import Place, ReceiptFact, StockFact

DAY = date(2026, 1, 12)
ITEMS = ("A", "B", "C")


def world(random: Random) -> tuple[Outlook, list[StockFact], list[ReceiptFact]]:
    """Nodes and pools of which some are closed, buffers of all kinds, lots with and without expiry, and receipts."""
    nodes = {
        code: Node(
            code,
            echelon=random.choice(list(Echelon)),
            status=random.choice([NodeStatus.ACTIVE, NodeStatus.ACTIVE, NodeStatus.SUSPENDED]),
        )
        for code in ("N1", "N2", "N3", "N4")
    }
    pools = {
        code: Pool(code, channels=frozenset(random.choice([(), ("web",), ("shop",)])), protection=random.randint(0, 3))
        for code in ("P1", "P2")
    }
    buffers = tuple(
        Buffer(
            f"b{place}",
            quantity=random.randint(0, 4),
            item=random.choice(["", "A"]),
            node=random.choice(["", "N1"]),
            closed=random.random() < 0.1,
        )
        for place in range(random.randint(0, 3))
    )
    policy = SourcingPolicy("p", 1, buffers=buffers, on_hand_only=random.random() < 0.2)
    stock, receipts = [], []
    for item in ITEMS:
        for node in nodes:
            for pool in pools:
                for lot in random.choice([(), ("",), ("",), ("", "L")]):
                    expires_on = random.choice([None, None, DAY + timedelta(days=random.randint(-1, 4))])
                    place = Place(len(stock) + 1, item, node, pool, lot, expires_on)
                    stock.append(StockFact(place, random.randint(0, 9)))
                    for _ in range(random.choice([0, 0, 1, 2])):
                        due = DAY + timedelta(days=random.randint(-2, 5))
                        receipts.append(ReceiptFact(UUID(int=len(receipts) + 1), place, due, random.randint(1, 6)))
    random.shuffle(stock)
    return Outlook(Network(nodes=nodes, pools=pools), compile_policy(policy), "web"), stock, receipts


@pytest.mark.parametrize("seed", range(200))
def test_rows_and_facts_give_the_same_answer(seed: int) -> None:
    outlook, stock, receipts = world(Random(seed))
    offered = sorted_out(outlook.offers(DAY, stock, receipts))

    shelves = [(p.item, p.position, p.node, p.pool, units, p.expires_on) for p, units in stock]
    summed = outlook.sums(DAY, shelves, [(fact.place.position, fact.due_on, fact.open) for fact in receipts])

    assert summed.keys() == offered.keys()
    for item, sums in summed.items():
        assert added_up(sums) == added_up(offered[item])
        for heading in (by_node, by_pool, by_echelon):
            assert heading(sums) == heading(offered[item])
    wanted = dict.fromkeys(ITEMS, 3)
    assert basket(summed, wanted) == basket(offered, wanted)
