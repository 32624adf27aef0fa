"""Policies as data: every fault is reported at once with its field, and what is written is read back the same."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolwise.core.network import Echelon
from poolwise.core.policy.expressions import FACTS, Expression, Failed, compile_expression
from poolwise.core.policy.language import content_hash, parse_policy, to_data
from poolwise.core.policy.terms import (
    Buffer,
    CostKind,
    LineSplit,
    Rule,
    RuleScope,
    SourcingPolicy,
    SubstitutionMode,
)
from poolwise.core.values import PlanAt, Rate, Refused, ServiceLevel

LEAST: dict[str, Any] = {"code": "p", "service_levels": {"standard": {}}}


def policy(**keys: object) -> dict[str, object]:
    return {**LEAST, **keys}


def with_rule(**keys: object) -> dict[str, object]:
    return policy(rules=[{"id": "r", "scope": "candidate", "when": "true", "exclude": True} | keys])


def order_rule(when: str) -> dict[str, object]:
    return policy(rules=[{"id": "r", "scope": "order", "when": when, "then": {"max_shipments": 2}}])


def faults(data: object) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as refused:
        parse_policy(data)
    assert refused.value.code == "policy_invalid"
    return [(fault.field, fault.reason) for fault in refused.value.problems]


REFUSED: list[tuple[object, str, str]] = [
    # shape
    (None, "", "a mapping of keys is expected"),
    ([], "", "is a list"),
    ({}, "code", "is required"),
    ({"code": "p"}, "service_levels", "is required"),
    (policy(service_levels={}), "service_levels", "is required"),
    (policy(version=3), "version", "given by the store"),
    (policy(max_shipment=3), "max_shipment", "did you mean max_shipments?"),
    (policy(qqq=3), "qqq", "not a known key"),
    (dict(LEAST) | {7: 1}, "7", "write it in quotes"),
    (policy(code=""), "code", "1 to 200 characters"),
    (policy(code=5), "code", "text is expected"),
    (policy(name="a\nb"), "name", "plain text"),
    # numbers
    (policy(split_cost=1.5), "split_cost", "in quotes: '1.5'"),
    (policy(split_cost="-1"), "split_cost", "must not be negative"),
    (policy(split_cost="1,5"), "split_cost", "not a plain decimal"),
    (policy(split_cost="NaN"), "split_cost", "not a plain decimal"),
    (policy(split_cost=10**4000), "split_cost", "not a plain decimal"),
    (policy(split_cost=10**5000), "split_cost", ""),
    (policy(split_cost=True), "split_cost", "decimal number is expected"),
    (policy(split_cost=None), "split_cost", "is nothing"),
    (policy(max_shipments=0), "max_shipments", "from 1 to 2,000"),
    (policy(max_shipments=True), "max_shipments", "whole number is expected"),
    (policy(max_shipments="3"), "max_shipments", "whole number is expected"),
    (policy(max_shipments=10**40), "max_shipments", "from 1 to"),
    (policy(horizon_days=-1), "horizon_days", "from 0 to 366"),
    (policy(stockout_target=-1), "stockout_target", "from 0"),
    (policy(ship_complete="yes"), "ship_complete", "true or false is expected"),
    (policy(line_split="sometimes"), "line_split", "never, when_short, always"),
    (policy(line_split="when_shrt"), "line_split", "did you mean when_short?"),
    (policy(line_split=["always"]), "line_split", "is a list"),
    # weights
    (policy(weights={"frieght": 1}), "weights.frieght", "did you mean freight?"),
    (policy(weights={"freight": 0.5}), "weights.freight", "in quotes: '0.5'"),
    (policy(weights={"freight": -1}), "weights.freight", "from 0"),
    (policy(weights={"freight": "0.0000001"}), "weights.freight", "more than 6 decimal places"),
    (policy(weights=[1]), "weights", "a mapping is expected"),
    # service levels
    (policy(service_levels={"fast": {"deliver_in_days": 2}}), "service_levels.fast.deliver_in_days", "did you mean"),
    (policy(service_levels={"fast": {"confidence": "1.5"}}), "service_levels.fast.confidence", "to 1"),
    (policy(service_levels={"fast": {"confidence": 0}}), "service_levels.fast.confidence", "from 0.000001"),
    (policy(service_levels={"fast": {"plan": "now"}}), "service_levels.fast.plan", "at_once"),
    (policy(service_levels={2: {}}), "service_levels.2", "text is expected"),
    # pools
    (policy(pool_order={"web": "a"}), "pool_order.web", "a list is expected"),
    (policy(pool_order={"web": ["a", 1]}), "pool_order.web[1]", "text is expected"),
    (policy(pool_order={"web": ["a", "a"]}), "pool_order.web", "names a twice"),
    (policy(only_listed_pools=True), "only_listed_pools", "closes every pool"),
    # buffers
    (policy(buffers={}), "buffers", "a list is expected"),
    (policy(buffers=[{"quantity": 1}]), "buffers[0].id", "is required"),
    (policy(buffers=[{"id": "b"}]), "buffers[0]", "withholds nothing"),
    (policy(buffers=[{"id": "b", "quantity": -1}]), "buffers[0].quantity", "from 0"),
    (policy(buffers=[{"id": "b", "quantity": 1, "closed": True}]), "buffers[0].quantity", "leave one of them out"),
    (policy(buffers=[{"id": "b", "quantity": 1, "echelon": "shop"}]), "buffers[0].echelon", "last_mile"),
    (policy(buffers=[{"id": "b", "quantity": 1}] * 2), "buffers[1].id", "already the id of buffers[0]"),
    # the shape of rules
    (with_rule(id=""), "rules[0].id", "1 to 200"),
    (with_rule(scope="line"), "rules[0].scope", "order, candidate"),
    (with_rule(when=True), "rules[0].when", "in quotes: 'true'"),
    (with_rule(when=""), "rules[0].when", "is empty"),
    (with_rule(exclude=False), "rules[0]", "does nothing"),
    (with_rule(penalty="1"), "rules[0]", "says exclude and penalty"),
    (with_rule(exclude=False, then={"max_shipments": 1}), "rules[0].then", "belongs to rules of scope order"),
    (with_rule(scope="order"), "rules[0].exclude", "belongs to rules of scope candidate"),
    (policy(rules=[{"id": "r", "scope": "order", "when": "true"}]), "rules[0]", "give then"),
    (with_rule(exclude=False, penalty=2.5), "rules[0].penalty", "an expression is expected"),
    (
        policy(rules=[{"id": "r", "scope": "order", "when": "true", "then": {"split_cost": 1.5}}]),
        "rules[0].then.split_cost",
        "in quotes",
    ),
    (
        policy(rules=[{"id": "r", "scope": "order", "when": "true", "then": {"horizon_days": 5}}]),
        "rules[0].then.horizon_days",
        "not a known key",
    ),
    # what rules say
    (with_rule(when="1 +"), "rules[0].when", "cannot be read"),
    (with_rule(when="(order.priority > 3"), "rules[0].when", "cannot be read"),
    (with_rule(when="order.channel = 'web'"), "rules[0].when", "write == to compare"),
    (with_rule(when="true && true"), "rules[0].when", "write and"),
    (with_rule(when="ordr.channel == 'web'"), "rules[0].when", "did you mean order.channel?"),
    (with_rule(when="order.chanel == 'web'"), "rules[0].when", "did you mean order.channel?"),
    (with_rule(when="channel == 'web'"), "rules[0].when", "not a fact"),
    (with_rule(when="order['channel'] == 'web'"), "rules[0].when", "'order' is not a fact"),
    (with_rule(when="len(order.facts) > 2"), "rules[0].when", "name of a fact"),
    (with_rule(when="$root.order.channel == 'web'"), "rules[0].when", "name the fact"),
    (with_rule(when="`a` == 'a'"), "rules[0].when", "quotes"),
    (with_rule(when="lane.hops in [0..2]"), "rules[0].when", "two comparisons"),
    (with_rule(when="lenn(order.channel) == 3"), "rules[0].when", "did you mean len?"),
    (with_rule(when="rand(3) == 1"), "rules[0].when", "chance"),
    (with_rule(when="d() > d('2026-01-01')"), "rules[0].when", "use date"),
    (with_rule(when="date('now') > date(order.date)"), "rules[0].when", "takes order.date"),
    (with_rule(when="year(order.facts.birthday) > 1990"), "rules[0].when", "takes order.date"),
    (with_rule(when="date('2026-13-01') > date(order.date)"), "rules[0].when", "takes order.date"),
    (with_rule(when="order.date.isToday()"), "rules[0].when", "order.date.isToday"),
    (with_rule(when="order.priority == '3'"), "rules[0].when", "never equal"),
    (with_rule(when="'3' != order.priority"), "rules[0].when", "never equal"),
    (with_rule(when="order.channel in [1, 2]"), "rules[0].when", "never in it"),
    (with_rule(when="node.capabilities == ['cold']"), "rules[0].when", "lists are never equal"),
    (with_rule(when="order.channel > 3"), "rules[0].when", "wrong type"),
    (with_rule(when="order.channel"), "rules[0].when", "not true or false"),
    (with_rule(when="order.facts.a + 1"), "rules[0].when", "cannot be worked out"),
    (with_rule(when="null"), "rules[0].when", "gives nothing"),
    (with_rule(when="1 / 0 == 1 / 0 ? null : null"), "rules[0].when", "gives nothing"),
    (with_rule(exclude=False, penalty="1 / 0"), "rules[0].penalty", "gives nothing"),
    (with_rule(exclude=False, penalty="node.code"), "rules[0].penalty", "not a number"),
    (with_rule(exclude=False, penalty="10 ^ 12"), "rules[0].penalty", "thousand million"),
    (with_rule(when="true or " * 400 + "true"), "rules[0].when", "longer than"),
    (with_rule(when="some([1], some([2], some([3], # > 1)))"), "rules[0].when", "more than 2"),
    (order_rule("node.kind == 'store'"), "rules[0].when", "scope order cannot read node.kind"),
]


@pytest.mark.parametrize(("data", "field", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_a_fault_is_refused_under_its_field_with_the_reason(data: object, field: str, reason: str) -> None:
    assert any(found == field and reason in said for found, said in faults(data)), faults(data)


def test_all_faults_are_reported_at_once() -> None:
    data = {"weights": {"frieght": 1}, "split_cost": 1.5, "rules": [{"id": "r", "when": "1 +"}], "oops": 1}

    assert {field for field, _ in faults(data)} == {
        "code", "weights.frieght", "split_cost", "rules[0].scope", "rules[0].when", "oops", "service_levels"
    }  # fmt: skip


def test_a_yaml_date_is_pointed_out() -> None:
    assert "write it in quotes" in faults(policy(code=date(2026, 9, 1)))[0][1]


ACCEPTED = [
    "order.channel in ['web', 'till'] and not (lane.hops > 0)",
    "order.value != null and order.value >= 1000.50",
    "order.facts.points > 100",
    "order.facts['loyalty tier'] == 'gold'",
    "startsWith(order.facts.tier, 'g') and order.facts.points > 3",
    "some(node.capabilities, # == 'hazmat')",
    "'cold' in node.capabilities",
    "date(order.date) >= date('2026-09-01') and monthOfYear(order.date) == 9",
    "order.requested != null and date(order.requested) - date(order.date) > 3 * 86400",
    'order.customer == "it\'s" or lower(node.country) == "de"',
    "lane.distance_km > 0 and 100 / lane.distance_km > 3",
    "(order.priority > 3) ? true : false",
]


@pytest.mark.parametrize("when", ACCEPTED)
def test_a_right_condition_is_accepted(when: str) -> None:
    parsed = parse_policy(with_rule(when=when))

    assert parsed.rules[0].when == when


def test_an_expression_reads_exactly_the_facts_it_names() -> None:
    text = "order.channel == 'node.code' and (lane . hops > 1 or order.facts.a.b == 3 or order.facts[\"c d\"] == 1)"

    compiled = compile_expression(text, RuleScope.CANDIDATE)

    assert isinstance(compiled, Expression)
    assert compiled.reads == ("order.channel", "lane.hops", "order.facts.a", "order.facts.c d")


@pytest.mark.parametrize("path", [path for path in FACTS if not path.endswith("*")])
def test_every_fact_can_be_read(path: str) -> None:
    scope = RuleScope.ORDER if path.startswith("order.") else RuleScope.CANDIDATE

    compiled = compile_expression(f"{path} != null", scope)

    assert isinstance(compiled, Expression)
    assert compiled.reads == (path,)


@pytest.mark.parametrize(
    ("text", "millionths"),
    [("0.1 + 0.2", 300_000), ("1 / 3", 333_333), ("2 / 3", 666_667), ("-0.0000005", -1), ("-34.23", -34_230_000)],
)
def test_a_penalty_is_exact_to_the_millionth(text: str, millionths: int) -> None:
    compiled = compile_expression(text, RuleScope.CANDIDATE)

    assert isinstance(compiled, Expression)
    assert compiled.amount("{}") == millionths


@given(st.text(alphabet="order.channel facts node lane()[]<>=!+-*/%^?:,'\"#&|0123456789 nullandtruein", max_size=40))
def test_no_text_breaks_the_language(text: str) -> None:
    compiled = compile_expression(text, RuleScope.CANDIDATE)

    if isinstance(compiled, Expression):
        assert isinstance(compiled.condition("{}"), bool | Failed)
        assert isinstance(compiled.amount("{}"), int | Failed)


# --- the round trip -----------------------------------------------------------------------------------------------

codes = st.text(alphabet="abcXYZ019-_. ", min_size=1, max_size=6).filter(lambda text: text == text.strip())
rates = st.builds(lambda number, places: Rate(number, places).reduced(), st.integers(0, 10**9), st.integers(0, 6))
texts = st.just("") | codes
buffers = st.builds(
    Buffer,
    id=codes,
    quantity=st.integers(0, 100),
    item=texts,
    node=texts,
    pool=texts,
    channel=texts,
    node_kind=texts,
    echelon=st.sampled_from(["", *(echelon.value for echelon in Echelon)]),
) | st.builds(Buffer, id=codes, closed=st.just(True), channel=texts)
grants = st.fixed_dictionaries(
    {},
    optional={
        "max_shipments": st.none() | st.integers(1, 9),
        "split_cost": rates.map(str),
        "ship_complete": st.booleans(),
        "line_split": st.sampled_from([mode.value for mode in LineSplit]),
    },
).filter(bool)
rules = st.builds(Rule, id=codes, scope=st.just(RuleScope.ORDER), when=st.just("true"), then=grants) | st.builds(
    Rule, id=codes, scope=st.just(RuleScope.CANDIDATE), when=st.just("lane.hops > 1"), exclude=st.just(True)
)
levels = st.builds(
    ServiceLevel,
    code=codes,
    deliver_within_days=st.none() | st.integers(0, 30),
    confidence_ppm=st.integers(1, 1_000_000),
    late_is_hard=st.booleans(),
    plan=st.sampled_from(PlanAt),
)
policies = st.builds(
    SourcingPolicy,
    code=codes,
    version=st.integers(0, 9),
    name=texts,
    weights_ppm=st.dictionaries(st.sampled_from(CostKind), st.integers(0, 10**7)),
    service_levels=st.lists(levels, min_size=1, max_size=3).map(lambda found: {level.code: level for level in found}),
    max_shipments=st.none() | st.integers(1, 9),
    split_cost=rates,
    substitution=st.sampled_from(SubstitutionMode),
    max_distance_km=st.none() | st.integers(1, 9_000),
    pool_order=st.dictionaries(codes, st.lists(codes, unique=True, max_size=3).map(tuple), max_size=2),
    buffers=st.lists(buffers, unique_by=lambda found: found.id, max_size=3).map(tuple),
    rules=st.lists(rules, unique_by=lambda found: found.id, max_size=3).map(tuple),
)


@settings(max_examples=100)
@given(policies)
def test_what_is_written_is_read_back_the_same(policy: SourcingPolicy) -> None:
    assert parse_policy(to_data(policy), policy.version) == policy


@given(policies)
def test_the_hash_is_of_the_content_alone(policy: SourcingPolicy) -> None:
    again = parse_policy(to_data(policy), policy.version + 1)

    assert content_hash(again) == content_hash(policy)


def test_another_content_has_another_hash() -> None:
    assert content_hash(parse_policy(LEAST)) != content_hash(parse_policy(policy(split_cost="0.01")))


def test_equal_decimals_are_equal_content() -> None:
    written = [content_hash(parse_policy(policy(split_cost=cost))) for cost in ("1.50", "1.5", "01.500")]

    assert len(set(written)) == 1
