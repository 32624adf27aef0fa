"""Answers from columns are those from facts: `Outlook.totals` is what `Outlook.offers` says, added up."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from uuid import UUID

import numpy as np
import pytest

from poolwise.core.availability import BETWEEN, Coming, Outlook, Shelves
from poolwise.core.network import Echelon, Network, Node, NodeStatus, Pool
from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import Buffer, SourcingPolicy
from poolwise.core.sourcing.problem import Place, ReceiptFact, StockFact
from poolwise.core.totals import Totals, by_echelon, by_node, by_pool

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


def columns(stock: list[StockFact], receipts: list[ReceiptFact]) -> tuple[Shelves, Coming]:
    """The facts as the database gives them."""
    places = [fact.place for fact in stock]
    lots = [(place.position, place.expires_on.toordinal()) for place in places if place.expires_on is not None]
    shelves = Shelves(
        [place.item for place in places],
        [place.node + BETWEEN + place.pool for place in places],
        np.array([place.position for place in places], np.int64),
        np.array([fact.available for fact in stock], np.int64),
        *np.array(lots, np.int64).reshape(len(lots), 2).T,
    )
    coming = Coming(
        np.array([fact.place.position for fact in receipts], np.int64),
        np.array([fact.due_on.toordinal() for fact in receipts], np.int64),
        np.array([fact.open for fact in receipts], np.int64),
    )
    return shelves, coming


@pytest.mark.parametrize("seed", range(200))
def test_columns_and_facts_give_the_same_answer(seed: int) -> None:
    outlook, stock, receipts = world(Random(seed))
    items = [*ITEMS, "nothing of it"]

    def holds(node: str, pool: str) -> bool:
        return node != "N2" or pool == "P1"

    offered = outlook.offers(DAY, stock, receipts)
    inside = [offer for offer in offered if holds(offer.gate.node, offer.gate.pool)]
    added = outlook.totals(DAY, items, *columns(stock, receipts))
    for found, due in (
        (added, Totals.of(DAY, items, offered)),
        (added.within(holds), Totals.of(DAY, items, inside)),
    ):
        for item in items:
            assert found.of_item(item) == due.of_item(item)
            for heading in (by_node, by_pool, by_echelon):
                assert found.parts(item, heading) == due.parts(item, heading)
        for wanted in (dict.fromkeys(ITEMS, 3), {"A": 1}, dict.fromkeys(items, 1)):
            assert found.basket(wanted) == due.basket(wanted)
