"""Applying a policy: terms of an order, verdicts on candidates, buffers - and that remembering changes nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.core.catalog import Catalog, Item
from poolwise.core.network import Echelon, Lane, Network, Node, Transit, Zone
from poolwise.core.orders import Line, Order
from poolwise.core.policy.evaluate import (
    PASS,
    CompiledPolicy,
    OrderFacts,
    RouteFacts,
    Verdict,
    Withheld,
    compile_policy,
    route_facts,
)
from poolwise.core.policy.language import parse_policy
from poolwise.core.policy.terms import Buffer, LineSplit, Rule, RuleScope, SourcingPolicy
from poolwise.core.values import Json, Money, Rate, Refused, ServiceLevel

NETWORK = Network(
    zones={"Z": Zone("Z", time_zone="America/New_York")}, exchange={"USD": ((date(2026, 1, 1), Rate(2)),)}
)
CATALOG = Catalog({"I": Item("I", weight_ug=10**9), "CUT": Item("CUT", scale=3, weight_ug=2 * 10**9)})
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
STORE = Node("S-1", kind="store", echelon=Echelon.LAST_MILE, country="DE", capabilities=frozenset({"cold"}))
CENTRE = Node("DC-1")


def order(**keys: Any) -> Order:
    facts: dict[str, Json] = keys.pop("facts", {})
    lines = keys.pop("lines", (Line(1, "I", 1, unit_price=Money(12_055, "EUR")),))
    return Order(
        UUID(int=1), "1", 0, keys.pop("received_at", NOON), keys.pop("channel", "web"), "Z", lines,
        facts=tuple(facts.items()), **keys,
    )  # fmt: skip


def facts(**keys: Any) -> OrderFacts:
    return OrderFacts(order(**keys), NETWORK, CATALOG)


def compiled(**keys: object) -> CompiledPolicy:
    return compile_policy(parse_policy({"code": "p", "service_levels": {"standard": {}}, **keys}))


def order_rule(name: str, when: str, **then: object) -> dict[str, object]:
    return {"id": name, "scope": "order", "when": when, "then": then}


def route(node: Node = STORE, km: int = 500, days: int = 2) -> RouteFacts:
    lane = Lane(
        "L", node.code, "Z", "R", carrier="C", service="ground", distance_km=km, transit=Transit(((days, 10**6),))
    )
    return route_facts(node, (lane,), 950_000)


def verdict(policy: CompiledPolicy, found: OrderFacts, seen: RouteFacts) -> Verdict:
    judge = policy.judge_for(found)
    return PASS if judge is None else judge(seen)


# --- terms --------------------------------------------------------------------------------------------------------

TIERS = compiled(
    max_shipments=1,
    rules=[
        order_rule("gold", "order.facts.tier == 'gold'", max_shipments=5),
        order_rule("silver", "order.facts.tier == 'silver' and order.value >= 1000", max_shipments=3),
        order_rule(
            "bronze", "order.facts.tier == 'bronze'", max_distance_km=800, split_cost="7.25", line_split="always"
        ),
    ],
)


def of_value(euros: int) -> tuple[Line, ...]:
    return (Line(1, "I", 1, unit_price=Money(euros * 100, "EUR")),)


@pytest.mark.parametrize(
    ("tier", "euros", "shipments"), [("gold", 1, 5), ("silver", 1_000, 3), ("silver", 999, 1), ("bronze", 5_000, 1)]
)
def test_rules_about_orders_grant_terms(tier: str, euros: int, shipments: int) -> None:
    terms = TIERS.terms(facts(facts={"tier": tier}, lines=of_value(euros)))

    assert terms.max_shipments == shipments
    assert terms.fired == ((tier,) if shipments > 1 or tier == "bronze" else ())


def test_what_a_rule_grants_has_the_types_of_the_terms() -> None:
    terms = TIERS.terms(facts(facts={"tier": "bronze"}))

    assert (terms.max_distance_km, terms.split_cost, terms.line_split) == (800, Rate(725, 2), LineSplit.ALWAYS)


def test_later_rules_replace_earlier_ones() -> None:
    policy = compiled(rules=[order_rule("a", "true", max_shipments=5), order_rule("b", "true", max_shipments=None)])

    assert policy.terms(facts()).max_shipments is None
    assert policy.terms(facts()).fired == ("a", "b")


@pytest.mark.parametrize(
    ("said", "wanted", "granted"), [(3, None, 3), (3, 2, 2), (3, 5, 3), (None, 2, 2), (None, None, None)]
)
def test_the_order_tightens_and_never_loosens(said: int | None, wanted: int | None, granted: int | None) -> None:
    policy = compiled(max_shipments=said, ship_complete=said == 3)

    terms = policy.terms(facts(max_shipments=wanted, ship_complete=wanted == 2))

    assert terms.max_shipments == granted
    assert terms.ship_complete == (said == 3 or wanted == 2)


def test_equal_facts_give_the_same_terms_object() -> None:
    assert TIERS.terms(facts(facts={"tier": "gold"})) is TIERS.terms(facts(facts={"tier": "gold"}, customer="other"))


def test_an_unknown_service_level_excludes_every_candidate() -> None:
    policy = compiled()
    unknown = facts(service_level="teleport")

    assert "no service level 'teleport'" in policy.terms(unknown).failed
    assert verdict(policy, unknown, route()).excluded_by == "service_level"


def test_a_rule_about_orders_that_cannot_be_worked_out_excludes_every_candidate() -> None:
    no_price = facts(facts={"tier": "silver"}, lines=(Line(1, "I", 1),))

    found = verdict(TIERS, no_price, route())

    assert found.excluded_by == "silver"
    assert "condition" in found.failure
    assert TIERS.terms(no_price).failed.startswith("silver: ")


# --- facts --------------------------------------------------------------------------------------------------------

TRUE_OF_ORDER = [
    ("order.value == 120.55", {}),
    ("order.value == 241.10", {"lines": (Line(1, "I", 1, unit_price=Money(12_055, "USD")),)}),
    ("order.value == 5.50", {"lines": (Line(1, "CUT", 5_500, unit_price=Money(100, "EUR")),)}),
    ("order.value == null", {"lines": (Line(1, "I", 1, unit_price=Money(100, "XXX")),)}),
    ("order.value == null", {"lines": (Line(1, "I", 1), *of_value(5))}),
    ("order.weight_kg == 2.2", {"lines": (Line(1, "CUT", 600), Line(2, "I", 1))}),
    ("order.weight_kg == 0.5", {"lines": (Line(1, "I", 7, weight_ug=5 * 10**8),)}),
    ("order.lines == 2", {"lines": (Line(1, "I", 1), Line(2, "I", 1))}),
    ("order.date == '2026-08-31'", {"received_at": datetime(2026, 9, 1, 3, tzinfo=UTC)}),
    ("date(order.date) < date('2026-09-01')", {"received_at": datetime(2026, 9, 1, 3, tzinfo=UTC)}),
    ("order.requested == null", {}),
    ("order.requested == '2026-09-09'", {"requested_date": date(2026, 9, 9)}),
    ("order.customer == 'it\"s' and order.priority == 4", {"customer": 'it"s', "priority": 4}),
    ("order.facts.gift == true", {"facts": {"gift": True}}),
    ("order.facts.gift == 1", {"facts": {"gift": 1}}),
    ("order.facts.shop.floor == 2", {"facts": {"shop": {"floor": 2}}}),
    ("'b' in order.facts.wishes", {"facts": {"wishes": ["a", "b"]}}),
    ("order.facts.gift == null", {}),
]


@pytest.mark.parametrize(("when", "keys"), TRUE_OF_ORDER)
def test_a_fact_of_the_order_is_what_it_says(when: str, keys: dict[str, object]) -> None:
    policy = compiled(rules=[order_rule("r", when, max_shipments=1)])

    terms = policy.terms(facts(**keys))

    assert (terms.fired, terms.failed) == (("r",), "")


TRUE_OF_ROUTE = [
    "node.code == 'S-1' and node.kind == 'store' and node.echelon == 'last_mile' and node.country == 'DE'",
    "'cold' in node.capabilities and node.partner == ''",
    "lane.carrier == 'C' and lane.service == 'ground' and lane.distance_km == 500",
    "lane.transit_days == 2 and lane.hops == 0 and order.channel == 'web'",
]


@pytest.mark.parametrize("when", TRUE_OF_ROUTE)
def test_a_fact_of_the_candidate_is_what_it_says(when: str) -> None:
    policy = compiled(rules=[{"id": "r", "scope": "candidate", "when": when, "exclude": True}])

    assert verdict(policy, facts(), route()) == Verdict("r", 0, ("r",), "")


# --- verdicts -----------------------------------------------------------------------------------------------------


def candidate_rule(name: str, when: str, penalty: str = "") -> Rule:
    return Rule(name, RuleScope.CANDIDATE, when, exclude=not penalty, penalty=penalty)


def with_rules(*rules: Rule) -> CompiledPolicy:
    return compile_policy(SourcingPolicy("p", 1, service_levels={"standard": ServiceLevel("standard")}, rules=rules))


def test_penalties_add_up_until_a_rule_excludes() -> None:
    policy = with_rules(
        candidate_rule("far", "true", "lane.distance_km * 0.001"),
        candidate_rule("shop", "node.kind == 'store'", "2.5"),
        candidate_rule("too-far", "lane.distance_km > 800"),
        candidate_rule("never-asked", "true", "99"),
    )

    assert verdict(policy, facts(), route(CENTRE, 900)) == Verdict("too-far", 0, ("far", "too-far"), "")
    assert verdict(policy, facts(), route(STORE, 100)) == Verdict(None, 101_600_000, ("far", "shop", "never-asked"), "")


def test_a_condition_that_yields_nothing_eliminates_and_says_so() -> None:
    policy = with_rules(candidate_rule("points", "order.facts.points > 3"))

    found = verdict(policy, facts(), route())

    assert found.excluded_by == "points"
    assert found.failure.startswith("its condition cannot be worked out")


def test_a_penalty_that_yields_nothing_eliminates_and_says_so() -> None:
    policy = with_rules(candidate_rule("ratio", "true", "1 / lane.distance_km"))

    assert verdict(policy, facts(), route(km=0)).failure.startswith("its penalty gives nothing")
    assert verdict(policy, facts(), route(km=10)).penalty == 100_000


def test_without_rules_about_candidates_there_is_no_judge() -> None:
    assert with_rules().judge_for(facts()) is None


def test_rules_made_in_code_are_checked_too() -> None:
    with pytest.raises(Refused, match=r"rules\[1\].when: .*not a fact"):
        with_rules(candidate_rule("a", "true"), candidate_rule("b", "oder.channel == 'web'"))


seen_routes = st.builds(route, st.sampled_from([STORE, CENTRE]), st.integers(0, 3), st.integers(0, 2))
seen_orders = st.builds(
    facts,
    channel=st.sampled_from(["web", "till"]),
    priority=st.integers(0, 2),
    facts=st.dictionaries(
        st.sampled_from(["a", "b"]), st.sampled_from([None, True, 1, "1", "true", [1], {"x": 1}]), max_size=2
    ),
)
MIXED = (
    candidate_rule("a", "order.facts.a == 1"),
    candidate_rule("b", "order.facts.b == true and lane.hops == 0", "order.priority + 0.5"),
    candidate_rule("c", "node.kind == 'store' and order.channel == 'till'"),
    candidate_rule("d", "lane.distance_km > 1", "lane.transit_days / lane.distance_km"),
    candidate_rule("e", "order.facts.a > 'x'"),
)
REMEMBERING = with_rules(*MIXED)


@given(seen_orders, seen_routes)
def test_what_is_remembered_is_what_would_be_found(found: OrderFacts, seen: RouteFacts) -> None:
    assert verdict(REMEMBERING, found, seen) == verdict(with_rules(*MIXED), found, seen)
    assert REMEMBERING.terms(found) == with_rules(*MIXED).terms(found)


def test_memory_is_limited_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolwise.core.policy.evaluate.MOST_KINDS_OF_ORDER", 3)
    policy = with_rules(candidate_rule("p", "true", "order.priority"))

    found = [verdict(policy, facts(priority=number), route()).penalty for number in [*range(10), *range(10)]]

    assert found == [number * 1_000_000 for number in [*range(10), *range(10)]]
    assert len(policy.verdicts) <= 3


# --- buffers ------------------------------------------------------------------------------------------------------

SCENARIO_5 = (
    Buffer("network", 2),
    Buffer("store-web", 3, node_kind="store", channel="web"),
    Buffer("store-till", 0, node_kind="store", channel="till"),
    Buffer("no-marketplace", closed=True, channel="marketplace"),
)


@pytest.mark.parametrize(
    ("channel", "withheld"),
    [
        ("web", Withheld(3, False, ("store-web",))),
        ("till", Withheld(0, False, ("store-till",))),
        ("marketplace", Withheld(0, True, ("no-marketplace",))),
        ("phone", Withheld(2, False, ("network",))),
    ],
)
def test_the_most_specific_buffer_wins_and_is_named(channel: str, withheld: Withheld) -> None:
    policy = compile_policy(SourcingPolicy("p", 1, buffers=SCENARIO_5))

    assert policy.buffer("I", STORE, "common", channel) == withheld


SELECTORS: list[dict[str, Any]] = [
    {"item": "I"},
    {"node": "S-1"},
    {"pool": "P"},
    {"channel": "web"},
    {"node_kind": "store"},
    {"echelon": "last_mile"},
]


@pytest.mark.parametrize(("first", "second"), list(pairwise(SELECTORS)))
def test_between_equally_specific_buffers_the_earlier_selector_wins(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    policy = compile_policy(SourcingPolicy("p", 1, buffers=(Buffer("a", **second), Buffer("z", **first))))

    assert policy.buffer("I", STORE, "P", "web").buffers == ("z",)


def test_stacked_buffers_add_up_and_a_closed_one_closes() -> None:
    policy = compile_policy(SourcingPolicy("p", 1, buffers=SCENARIO_5, stackable_buffers=True))

    assert policy.buffer("I", STORE, "common", "web").quantity == 5
    assert policy.buffer("I", STORE, "common", "marketplace").closed


some = st.sampled_from
buffers = st.builds(
    Buffer,
    id=st.text("abcdef", min_size=3, max_size=3),
    quantity=st.integers(0, 9),
    item=some(["", "I", "J"]),
    node=some(["", "S-1", "DC-1"]),
    pool=some(["", "P", "Q"]),
    channel=some(["", "web", "till"]),
    node_kind=some(["", "store", "distribution_centre"]),
    echelon=some(["", "regional", "last_mile"]),
    closed=st.booleans(),
)


def brute_force(policy: SourcingPolicy, item: str, node: Node, pool: str, channel: str) -> Withheld:
    """The documented rule, read aloud: number of selectors named, then item, node, pool, channel, kind, echelon, id."""
    here = {"item": item, "node": node.code, "pool": pool, "channel": channel, "node_kind": node.kind,
            "echelon": str(node.echelon)}  # fmt: skip
    matching = [b for b in policy.buffers if all(getattr(b, name) in ("", value) for name, value in here.items())]
    named = {b.id: [bool(getattr(b, name)) for name in here] for b in matching}
    matching.sort(key=lambda b: b.id)
    matching.sort(key=lambda b: (sum(named[b.id]), named[b.id]), reverse=True)
    if not policy.stackable_buffers:
        matching = matching[:1]
    closed = any(b.closed for b in matching)
    return Withheld(0 if closed else sum(b.quantity for b in matching), closed, tuple(b.id for b in matching))


@given(
    st.lists(buffers, max_size=8, unique_by=lambda found: found.id),
    st.booleans(),
    some(["I", "J", "K"]),
    some([STORE, CENTRE]),
    some(["P", "Q", "R"]),
    some(["web", "till", "phone"]),
)
def test_buffers_equal_brute_force(
    found: list[Buffer], stacked: bool, item: str, node: Node, pool: str, channel: str
) -> None:
    policy = SourcingPolicy("p", 1, buffers=tuple(found), stackable_buffers=stacked)
    compiled_policy = compile_policy(policy)

    assert compiled_policy.buffer(item, node, pool, channel) == brute_force(policy, item, node, pool, channel)
    assert compiled_policy.buffer(item, node, pool, channel) is compiled_policy.buffer(item, node, pool, channel)
