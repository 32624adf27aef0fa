"""The policies in the package, and the page that explains them: all of them are read, and the page is complete."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

import poolwise
from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import Lane, Network, Node, Pool, RateBand, RateCard, Zone
from poolwise.core.orders import Line
from poolwise.core.policy.evaluate import OrderFacts, compile_policy
from poolwise.core.policy.language import parse_policy, to_data
from poolwise.core.policy.terms import CostKind, SourcingPolicy
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.sourcing.exact import solve
from poolwise.core.sourcing.problem import Facts, Place, Problem, StockFact, shelves_of, whole_demand
from poolwise.core.values import Money, parse_rate
from tests.core.policy_page import PAGE, TABLES, replaced
from tests.core.test_policy_evaluate import facts, of_value, order

FOLDER = Path(poolwise.__file__).parent / "policies"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shipped(name: str) -> SourcingPolicy:
    return parse_policy(yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_is_read_and_given_back(name: str) -> None:
    policy = shipped(name)

    assert policy.code == name
    assert compile_policy(policy).policy is policy
    assert parse_policy(to_data(policy)) == policy


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_says_first_what_it_does(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", SHIPPED)
def test_under_a_shipped_policy_waiting_is_the_last_resort(name: str) -> None:
    policy = shipped(name)

    assert policy.backorder_cost_per_line.times(1) > 5 * policy.split_cost.times(1)
    assert policy.weights_ppm.get(CostKind.BACKORDER, 1) > 0


@pytest.mark.parametrize(
    ("tier", "value", "day", "shipments", "km"),
    [
        ("gold", 5, "2026-08-31", 5, None),
        ("silver", 1_000, "2026-08-31", 3, None),
        ("silver", 999, "2026-08-31", 1, None),
        ("bronze", 999, "2026-08-31", 1, 800),
        ("bronze", 999, "2026-09-01", 3, None),
        ("bronze", 999, "2026-09-30", 3, None),
        ("bronze", 999, "2026-10-01", 1, 800),
        ("other", 999, "2026-09-30", 1, None),
    ],
)
def test_customer_tiers_and_the_campaign(tier: str, value: int, day: str, shipments: int, km: int | None) -> None:
    ordered: dict[str, Any] = {"facts": {"tier": tier}, "lines": of_value(value), "received_at": at_noon(day)}

    terms = compile_policy(shipped("customer-tiers")).terms(facts(**ordered))

    assert (terms.max_shipments, terms.max_distance_km, terms.failed) == (shipments, km, "")


def at_noon(day: str) -> object:
    return yaml.safe_load(f"{day} 16:00:00+00:00")


# --- what the modes do, through the engine ------------------------------------------------------------------------

RATES = {
    name: RateCard(name, (RateBand(0, 10**15, fixed=parse_rate(price)),))
    for name, price in (("cheap", "1"), ("fair", "4"), ("dear", "9"))
}
NODES = ("NEAR", "FAR", "SHOP")


def world(**stock: str) -> tuple[Edition, Facts]:
    """Three nodes, near and dear, far and cheap, a shop in between; each has 9 of the items its keyword names."""
    nodes = {code: Node(code, kind="store" if code == "SHOP" else "distribution_centre") for code in NODES}
    lanes = {
        code: Lane(code, code, "Z", rate, distance_km=km)
        for code, rate, km in (("NEAR", "dear", 20), ("FAR", "cheap", 900), ("SHOP", "fair", 100))
    }
    network = Network(nodes=nodes, pools={"P": Pool("P")}, zones={"Z": Zone("Z")}, lanes=lanes, rates=RATES)
    places = [(node, item) for node in NODES for item in stock.get(node, "")]
    found = tuple(
        StockFact(Place(number, item, node, "P"), 9) for number, (node, item) in enumerate(places, 1)
    )  # fmt: skip
    catalog = Catalog({item: Item(item) for item in "AB"})
    return Edition("e", network, catalog), Facts(datetime(2026, 9, 1, 12, tzinfo=UTC), shelves=shelves_of(found))


def served(name: str, edition: Edition, found: Facts, **keys: Any) -> dict[str, str]:
    """Which node sends which item under a shipped policy; an item that waits is with nobody."""
    policy = compile_policy(shipped(name))
    lines = tuple(Line(no, item, 1, unit_price=Money(3_000, "EUR")) for no, item in enumerate("AB", 1))
    asked = order(lines=lines, **keys)
    terms = policy.terms(OrderFacts(asked, edition.network, edition.catalog))
    plan = solve(Problem(whole_demand(asked), edition, terms, found), Atlas(edition, policy))
    return {assignment.item: assignment.node for assignment in plan.assignments}


@pytest.mark.parametrize(
    ("name", "stock", "expected"),
    [
        ("default", {"NEAR": "AB", "FAR": "AB"}, "FAR FAR"),
        ("nearest-first", {"NEAR": "AB", "FAR": "AB", "SHOP": "AB"}, "NEAR NEAR"),
        ("nearest-first", {"NEAR": "A", "FAR": "AB", "SHOP": "B"}, "FAR FAR"),
        ("nearest-first", {"NEAR": "A", "FAR": "B"}, "NEAR FAR"),
        ("fewest-parcels", {"FAR": "A", "SHOP": "B", "NEAR": "AB"}, "NEAR NEAR"),
        ("lowest-landed-cost", {"FAR": "A", "SHOP": "B", "NEAR": "AB"}, "FAR SHOP"),
        ("ship-complete", {"FAR": "A", "SHOP": "B"}, ""),
        ("ship-complete", {"FAR": "A", "SHOP": "AB"}, "SHOP SHOP"),
        ("on-hand-first", {"FAR": "A", "NEAR": "B"}, "FAR NEAR"),
        ("ordered-list", {"SHOP": "AB", "NEAR": "AB"}, "NEAR NEAR"),
        ("ordered-list", {"SHOP": "AB", "NEAR": "A"}, "SHOP SHOP"),
        ("collection-point-first", {"SHOP": "AB", "FAR": "AB"}, "FAR FAR"),
        ("minimum-shipment", {"FAR": "A", "SHOP": "B", "NEAR": ""}, ""),
        ("customer-tiers", {"FAR": "A", "SHOP": "AB"}, "SHOP SHOP"),
    ],
)
def test_a_mode_chooses_as_it_says(name: str, stock: dict[str, str], expected: str) -> None:
    found = served(name, *world(**stock))

    assert " ".join(node for _, node in sorted(found.items())) == expected


@pytest.mark.parametrize(("at_the_shop", "expected"), [("AB", "SHOP SHOP"), ("A", "FAR FAR")])
def test_the_collection_point_comes_first_if_it_has_everything(at_the_shop: str, expected: str) -> None:
    found = served("collection-point-first", *world(SHOP=at_the_shop, FAR="AB"), facts={"collect_at": "SHOP"})

    assert " ".join(node for _, node in sorted(found.items())) == expected


# --- the page -----------------------------------------------------------------------------------------------------

TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_page_lists_every_key_and_fact_as_they_are() -> None:
    assert replaced(TEXT) == TEXT, "run: python -m tests.core.policy_page"


@pytest.mark.parametrize(
    ("owner", "keys"), [(owner, keys) for _, owner, keys in TABLES], ids=lambda part: str(part)[:40]
)
def test_every_field_of_a_policy_has_a_key(owner: type, keys: Any) -> None:
    given = {"version"} if owner is SourcingPolicy else {"code"} if owner.__name__ == "ServiceLevel" else set()

    assert {key.target for key in keys} == {field.name for field in fields(owner)} - given


def test_the_page_names_every_shipped_policy() -> None:
    assert re.findall(r"^\| `([a-z-]+)\.yaml`", TEXT, re.MULTILINE) == [
        "default",
        *(n for n in SHIPPED if n != "default"),
    ]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_policy_on_the_page_is_right(text: str) -> None:
    compile_policy(parse_policy(yaml.safe_load(text)))


def test_the_program_on_the_page_prints_what_the_page_says() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks("python")[0], str(PAGE), "exec"), {})  # noqa: S102 - an example is run to be checked

    assert printed.getvalue() == blocks("text")[0]
