"""Scenario 19: why this node? Every candidate with its code or its costs, the stock of then, and what would flip it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.scenarios.stage import Stage, csv, held, network, stock


@pytest.mark.parametrize(("near", "far", "wanted", "lacking"), [("5.00", "7.50", 4, 3), ("3.20", "11.05", 9, 1)])
def test_every_candidate_is_there_with_its_code_or_its_costs(
    stage: Stage, near: str, far: str, wanted: int, lacking: int
) -> None:
    files = network({"CHEAP": "1", "NEAR": near, "FAR": far, "SHUT": 1, "RULED": 1, "SHY": 1, "CLOSED": 1})
    files["nodes.csv"] = csv(
        [
            {"node": node, "kind": kind, "status": status, "cost_per_line": "0.40"}
            for node, kind, status in (
                ("CHEAP", "dc", "active"), ("NEAR", "dc", "active"), ("FAR", "dc", "active"),
                ("SHUT", "dc", "suspended"), ("RULED", "store", "active"), ("SHY", "dc", "active"),
                ("CLOSED", "dc", "active"),
            )
        ]
    )  # fmt: skip
    files["pools.csv"] = "pool,channels\nP,\nTILL,till\n"
    files["policy.yaml"] += (
        "weights: {handling: 2}\nline_split: never\n"
        "buffers: [{id: shy, node: SHY, quantity: 30}]\n"
        "rules: [{id: no-stores, scope: candidate, when: \"node.kind == 'store'\", exclude: true}]\n"
    )
    counts = stock(
        ("A", "CHEAP", wanted - lacking), *((("A", node, 25)) for node in ("NEAR", "FAR", "SHUT", "RULED", "SHY"))
    )
    till = stock(("A", "CLOSED", 25), pool="TILL")
    stage.bring({**files, "stock.csv": [*counts, *till]})

    order = stage.order([{"item": "A", "quantity": str(wanted)}])
    assert held(order) == {("A", "NEAR"): wanted}
    # Whatever happens later: the stock of the decision is what is explained.
    stage.bring({"stock.csv": csv([{**row, "quantity": 99, "sequence": 2} for row in counts])})
    why = stage.why(order)

    by_node = {candidate["node"]: candidate for candidate in why["candidates"]}
    assert {node: candidate["reason"] for node, candidate in by_node.items()} == {
        "CHEAP": "inventory", "NEAR": None, "FAR": None, "SHUT": "suspended", "RULED": "excluded_by_rule",
        "SHY": "buffer", "CLOSED": "pool_not_open_to_channel",
    }  # fmt: skip
    assert "no-stores" in by_node["RULED"]["detail"]
    assert "shy" in by_node["SHY"]["detail"]
    assert (by_node["CHEAP"]["available"], by_node["NEAR"]["taken"]) == (str(wanted - lacking), str(wanted))
    for node, freight in (("NEAR", near), ("FAR", far)):
        parts = {part["kind"]: Decimal(part["amount"]) for part in by_node[node]["costs"]}
        assert parts == {"freight": Decimal(freight), "handling": Decimal("0.80")}
        assert Decimal(by_node[node]["cost"]) == sum(parts.values())
    assert (why["policy"], why["policy_version"], len(why["edition"])) == ("default", 1, 64)
    assert (why["dearer"]["node"], Decimal(why["dearer"]["margin"])) == ("NEAR", Decimal(far) - Decimal(near))
    assert why["dearer"]["nodes"] == ["FAR"]
    assert (why["stocked"]["node"], why["stocked"]["units"]) == ("CHEAP", str(lacking))
    assert Decimal(why["stocked"]["margin"]) == Decimal(near) - 1


def test_a_change_of_policy_does_not_change_what_was_decided_before(stage: Stage) -> None:
    files = network({"N": 5, "M": 6})
    stage.bring({**files, "stock.csv": stock(("A", "N", 9), ("A", "M", 9))})
    order = stage.order([{"item": "A", "quantity": "1"}])

    changed = (
        files["policy.yaml"] + "rules: [{id: not-n, scope: candidate, when: \"node.code == 'N'\", exclude: true}]\n"
    )
    stage.bring({"policy.yaml": changed})
    later = stage.order([{"item": "A", "quantity": "1"}])

    assert (held(order), held(later)) == ({("A", "N"): 1}, {("A", "M"): 1})
    assert [stage.why(each)["policy_version"] for each in (order, later)] == [1, 2]
