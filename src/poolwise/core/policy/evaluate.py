"""Applying a policy: the terms its rules grant an order, their verdict on a candidate, the stock it withholds.

A policy is compiled once per version (`compile_policy`). Every answer is remembered under exactly the facts that the
rules read, so that rules cost something only where they look at something new. Keeps law 19: a rule that cannot be
worked out eliminates (a rule about orders: every candidate of that order) and says so; it never passes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from poolwise.core.catalog import Catalog
from poolwise.core.network import Lane, Network, Node
from poolwise.core.orders import Order
from poolwise.core.policy.expressions import CUSTOM, Expression, Failed, compile_expression, facts_json
from poolwise.core.policy.language import POLICY_INVALID, granted_by
from poolwise.core.policy.terms import Buffer, Rule, RuleScope, SourcingPolicy, Terms
from poolwise.core.values import Cost, Fault, Quantity, Rate, Refused, ServiceLevel, divide_rounded

MOST_REMEMBERED: Final = 65_536
MOST_KINDS_OF_ORDER: Final = 1_024
MOST_ITEMS_OF_A_PLACE: Final = 512
"""Limits of what a compiled policy remembers; at a limit it forgets all of that kind and starts again."""


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What rules may read of an order; nothing is worked out unless a rule reads it."""

    order: Order
    network: Network
    catalog: Catalog

    def day(self) -> date:
        """The day the order was received, where it goes to."""
        zone = self.network.zones.get(self.order.zone)
        return self.order.received_at.astimezone(ZoneInfo(zone.time_zone) if zone else UTC).date()

    def value(self) -> Cost | None:
        """Value of all lines in millionths of the costing currency; None where a price or a rate is unknown."""
        value, day = 0, self.day()
        for line in self.order.lines:
            price = self.network.in_costing_currency(line.unit_price, day) if line.unit_price else None
            if price is None:
                return None
            value += divide_rounded(price * line.quantity, 10 ** self.catalog.items[line.item].scale)
        return value

    def weight_ug(self) -> int:
        """Weight of all lines in micrograms: the declared one, else the item's."""
        items = self.catalog.items
        return sum(
            items[line.item].weight_of(line.quantity) if line.weight_ug is None else line.weight_ug
            for line in self.order.lines
        )


class RouteFacts(NamedTuple):
    """What rules may read of a candidate: its origin node, and the lanes from there to the customer. Hashable."""

    code: str
    kind: str
    echelon: str
    country: str
    capabilities: tuple[str, ...]
    partner: str
    carrier: str
    service: str
    distance_km: int
    transit_days: int
    hops: int


def route_facts(node: Node, lanes: Sequence[Lane], confidence_ppm: int) -> RouteFacts:
    """The facts of a route over `lanes`, the last one to the customer, at a quantile of their transit times.

    They change only with the edition: make them once per route and confidence.
    """
    return RouteFacts(
        node.code,
        node.kind,
        node.echelon.value,
        node.country,
        tuple(sorted(node.capabilities)),
        node.partner,
        lanes[-1].carrier,
        lanes[-1].service,
        sum(lane.distance_km for lane in lanes),
        sum(lane.transit.quantile(confidence_ppm) for lane in lanes),
        len(lanes) - 1,
    )


class Verdict(NamedTuple):
    """What the rules say of a candidate.

    `excluded_by` is the id of the rule that eliminates it, `failure` why that rule could not be worked out, where
    that is the reason. `penalty` is per shipment, in millionths, not yet weighted. `fired` are the ids of all rules
    that applied, in their order.
    """

    excluded_by: str | None = None
    penalty: Cost = 0
    fired: tuple[str, ...] = ()
    failure: str = ""


PASS: Final = Verdict()


class Withheld(NamedTuple):
    """What buffers keep back of an item at a node in a pool from a channel, and which of them."""

    quantity: Quantity = 0
    closed: bool = False
    buffers: tuple[str, ...] = ()


NOTHING_WITHHELD: Final = Withheld()

_Value = TypeVar("_Value")


def _remember(memory: dict[Hashable, _Value], key: Hashable, value: _Value, most: int = MOST_REMEMBERED) -> _Value:
    if len(memory) >= most:
        memory.clear()
    memory[key] = value
    return value


# --- facts as the rules see them ----------------------------------------------------------------------------------

_ROUTE_PLACES: Final[Mapping[str, int]] = {
    ("node." if name in RouteFacts._fields[:6] else "lane.") + name: place
    for place, name in enumerate(RouteFacts._fields)
}

_ORDER_READERS: Final[Mapping[str, Callable[[OrderFacts], Hashable]]] = {
    "order.channel": lambda facts: facts.order.channel,
    "order.customer": lambda facts: facts.order.customer,
    "order.priority": lambda facts: facts.order.priority,
    "order.service_level": lambda facts: facts.order.service_level,
    "order.value": lambda facts: facts.value(),
    "order.lines": lambda facts: len(facts.order.lines),
    "order.weight_kg": lambda facts: facts.weight_ug(),
    "order.requested": lambda facts: facts.order.requested_date,
    "order.date": lambda facts: facts.day(),
}

_PLACES: Final = {"order.value": 6, "order.weight_kg": 9}
"""Decimal places of the facts that are kept as integers of a smaller unit."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A value that is JSON text already."""

    json: str


def _reader(path: str) -> Callable[[OrderFacts], Hashable]:
    """How a fact of an order is looked up."""
    if not path.startswith(CUSTOM):
        return _ORDER_READERS[path]
    name = path[len(CUSTOM) :]

    def read(facts: OrderFacts) -> Hashable:
        for key, value in facts.order.facts:
            if key == name:
                # As JSON, because to a dictionary 1 and true are the same key.
                return value if isinstance(value, str) else _Encoded(json.dumps(value, sort_keys=True))
        return None

    return read


def _encoded(path: str, value: object) -> str:
    """A fact as JSON; an exact number as its digits."""
    match value:
        case _Encoded():
            return value.json
        case int() if path in _PLACES:
            return str(Rate(value, _PLACES[path]))
        case date():
            return f'"{value.isoformat()}"'
        case _:
            return json.dumps(value)


# --- compiled rules -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _CompiledRule:
    """A rule, its expressions, and what it found for the facts it reads: nothing, a penalty, or a failure."""

    rule: Rule
    when: Expression
    penalty: Expression | None
    then: Mapping[str, object]
    order_reads: tuple[str, ...]
    readers: tuple[Callable[[OrderFacts], Hashable], ...]
    route_reads: tuple[str, ...]
    found: dict[Hashable, Cost | None | Failed] = field(default_factory=dict)

    def outcome(self, facts: OrderFacts, route: RouteFacts | None) -> Cost | None | Failed:
        """None where the condition does not hold; else the penalty, 0 where the rule has none; or a failure."""
        of_order = tuple([read(facts) for read in self.readers])
        of_route = () if route is None else tuple([route[_ROUTE_PLACES[path]] for path in self.route_reads])
        key = (of_order, of_route)
        if key in self.found:
            return self.found[key]
        seen = zip((*self.order_reads, *self.route_reads), (*of_order, *of_route), strict=True)
        values = [(path, _encoded(path, value)) for path, value in seen]
        return _remember(self.found, key, self._evaluate(facts_json(values)))

    def _evaluate(self, facts: str) -> Cost | None | Failed:
        holds = self.when.condition(facts)
        if isinstance(holds, Failed):
            return Failed(f"its condition {holds.reason}")
        if not holds:
            return None
        if self.penalty is None:
            return 0
        amount = self.penalty.amount(facts)
        return Failed(f"its penalty {amount.reason}") if isinstance(amount, Failed) else amount


class _Refusal(NamedTuple):
    """The rule about orders (or the term) that could not be settled for an order, and why."""

    rule: str
    reason: str


RouteKey = Callable[[RouteFacts], Hashable]


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """One version of a policy with its rules compiled, and what it remembers of their answers.

    Made by `compile_policy`, once per process and version. What it remembers never changes an answer.
    """

    policy: SourcingPolicy
    order_rules: tuple[_CompiledRule, ...]
    candidate_rules: tuple[_CompiledRule, ...]
    order_readers: tuple[Callable[[OrderFacts], Hashable], ...]
    candidate_readers: tuple[Callable[[OrderFacts], Hashable], ...]
    route_key: RouteKey
    buffers_by_item: Mapping[str, tuple[Buffer, ...]]
    granted: dict[Hashable, tuple[Terms, _Refusal | None]] = field(default_factory=dict)
    verdicts: dict[Hashable, dict[Hashable, Verdict]] = field(default_factory=dict)
    withheld: dict[Hashable, BuffersAt] = field(default_factory=dict)

    def terms(self, facts: OrderFacts) -> Terms:
        """What the policy grants the order: its rules about orders in turn, later ones replacing earlier ones.

        The order's own constraints tighten the result and never loosen it. Equal facts give the same object. Where a
        rule cannot be worked out, or the service level is unknown, `failed` says so, and every candidate is excluded.
        """
        return _granted(self, facts)[0]

    def judge_for(self, facts: OrderFacts) -> Judge | None:
        """The rules about candidates for one order, to be called with each route; None where no rule says anything."""
        refusal = _granted(self, facts)[1]
        if refusal is not None:
            return Judge((), facts, _all_alike, {None: Verdict(excluded_by=refusal.rule, failure=refusal.reason)})
        if not self.candidate_rules:
            return None
        key = tuple([read(facts) for read in self.candidate_readers])
        known = self.verdicts.get(key)
        if known is None:
            known = _remember(self.verdicts, key, {}, MOST_KINDS_OF_ORDER)
        return Judge(self.candidate_rules, facts, self.route_key, known)

    def buffers_at(self, node: Node, pool: str, channel: str) -> BuffersAt:
        """The buffers at a node in a pool for a channel; ask it `of(item)`."""
        key = (node.code, node.kind, node.echelon.value, pool, channel)
        found = self.withheld.get(key)
        return found if found is not None else _remember(self.withheld, key, BuffersAt(self, node, pool, channel))

    def buffer(self, item: str, node: Node, pool: str, channel: str) -> Withheld:
        """What buffers withhold of an item at a node in a pool from a channel.

        The most specific buffer wins and is named, as `Buffer` says; where the policy stacks them, all that match add
        up, and one that is closed closes.
        """
        return self.buffers_at(node, pool, channel).of(item)


def compile_policy(policy: SourcingPolicy) -> CompiledPolicy:
    """The policy with its rules compiled. Raises Refused("policy_invalid") with every fault of every rule."""
    faults: list[Fault] = []
    rules = [_compiled(rule, f"rules[{place}]", faults) for place, rule in enumerate(policy.rules)]
    if faults:
        raise Refused(POLICY_INVALID, faults)
    compiled = [rule for rule in rules if rule is not None]
    about_orders = tuple(rule for rule in compiled if rule.rule.scope is RuleScope.ORDER)
    about_candidates = tuple(rule for rule in compiled if rule.rule.scope is RuleScope.CANDIDATE)
    by_item: dict[str, list[Buffer]] = {}
    for buffer_ in sorted(policy.buffers, key=_precedence):
        by_item.setdefault(buffer_.item, []).append(buffer_)
    return CompiledPolicy(
        policy=policy,
        order_rules=about_orders,
        candidate_rules=about_candidates,
        order_readers=_readers(about_orders),
        candidate_readers=_readers(about_candidates),
        route_key=_route_key(about_candidates),
        buffers_by_item={item: tuple(buffers) for item, buffers in by_item.items()},
    )


def _compiled(rule: Rule, path: str, faults: list[Fault]) -> _CompiledRule | None:
    when = compile_expression(rule.when, rule.scope)
    penalty = compile_expression(rule.penalty, rule.scope) if rule.penalty else None
    for name, compiled in (("when", when), ("penalty", penalty)):
        if isinstance(compiled, list):
            faults += [Fault(f"{path}.{name}", reason) for reason in compiled]
    then: Mapping[str, object] = {}
    try:
        then = granted_by(rule)
    except Refused as refused:
        faults += [Fault(f"{path}.{fault.field}", fault.reason) for fault in refused.problems]
    if isinstance(when, list) or isinstance(penalty, list):
        return None
    reads = tuple(dict.fromkeys(when.reads + (penalty.reads if penalty else ())))
    of_order = tuple(fact for fact in reads if fact.startswith("order."))
    of_route = tuple(fact for fact in reads if not fact.startswith("order."))
    return _CompiledRule(rule, when, penalty, then, of_order, tuple(map(_reader, of_order)), of_route)


def _readers(rules: Sequence[_CompiledRule]) -> tuple[Callable[[OrderFacts], Hashable], ...]:
    paths = dict.fromkeys(path for rule in rules for path in rule.order_reads)
    return tuple(_reader(path) for path in paths)


def _route_key(rules: Sequence[_CompiledRule]) -> RouteKey:
    """What tells routes apart for these rules: exactly the facts they read."""
    places = sorted({_ROUTE_PLACES[path] for rule in rules for path in rule.route_reads})
    return itemgetter(*places) if places else _all_alike


def _all_alike(_route: RouteFacts) -> Hashable:
    return None


# --- orders -------------------------------------------------------------------------------------------------------


def _granted(compiled: CompiledPolicy, facts: OrderFacts) -> tuple[Terms, _Refusal | None]:
    order = facts.order
    key = (
        order.service_level,
        order.ship_complete,
        order.max_shipments,
        tuple([read(facts) for read in compiled.order_readers]),
    )
    found = compiled.granted.get(key)
    return found if found is not None else _remember(compiled.granted, key, _grant(compiled, facts))


def _grant(compiled: CompiledPolicy, facts: OrderFacts) -> tuple[Terms, _Refusal | None]:
    policy, order = compiled.policy, facts.order
    replaced: dict[str, object] = {}
    fired: list[str] = []
    refusal: _Refusal | None = None
    level = policy.service_levels.get(order.service_level)
    if level is None:
        refusal = _Refusal("service_level", f"the policy has no service level '{order.service_level}'")
    for rule in compiled.order_rules:
        match rule.outcome(facts, None):
            case Failed(reason):
                refusal = refusal or _Refusal(rule.rule.id, reason)
            case None:
                pass
            case _:
                replaced |= rule.then
                fired.append(rule.rule.id)
    granted = {name: replaced.get(name, getattr(policy, name)) for name in _REPLACEABLE}
    most = [limit for limit in (granted["max_shipments"], order.max_shipments) if isinstance(limit, int)]
    granted["max_shipments"] = min(most, default=None)
    granted["ship_complete"] = bool(granted["ship_complete"]) or order.ship_complete
    make: Callable[..., Terms] = Terms
    made = make(
        policy=policy,
        service_level=level or ServiceLevel(order.service_level),
        fired=tuple(fired),
        failed="" if refusal is None else f"{refusal.rule}: {refusal.reason}",
        **granted,
    )
    return made, refusal


_REPLACEABLE: Final = (
    "max_shipments",
    "split_cost",
    "min_shipment_value",
    "ship_complete",
    "line_split",
    "substitution",
    "on_hand_only",
    "max_distance_km",
)


# --- candidates ---------------------------------------------------------------------------------------------------


class Judge:
    """The rules about candidates for one order; `CompiledPolicy.judge_for` makes it."""

    __slots__ = ("_facts", "_key", "_known", "_rules")

    def __init__(
        self, rules: Sequence[_CompiledRule], facts: OrderFacts, key: RouteKey, known: dict[Hashable, Verdict]
    ) -> None:
        """`known` are the verdicts on routes, by `key`, for all orders that look alike to the rules."""
        self._rules, self._facts, self._key, self._known = rules, facts, key, known

    def __call__(self, route: RouteFacts) -> Verdict:
        """The verdict on a route: the first rule that eliminates it, else the penalties added up."""
        key = self._key(route)
        found = self._known.get(key)
        return found if found is not None else _remember(self._known, key, self._judge(route))

    def _judge(self, route: RouteFacts) -> Verdict:
        penalty, fired = 0, []
        for rule in self._rules:
            outcome = rule.outcome(self._facts, route)
            if outcome is None:
                continue
            fired.append(rule.rule.id)
            if isinstance(outcome, Failed):
                return Verdict(rule.rule.id, 0, tuple(fired), outcome.reason)
            if rule.rule.exclude:
                return Verdict(rule.rule.id, 0, tuple(fired))
            penalty += outcome
        return Verdict(None, penalty, tuple(fired)) if fired else PASS


# --- buffers ------------------------------------------------------------------------------------------------------


def _precedence(buffer_: Buffer) -> tuple[int, tuple[bool, ...], str]:
    """Sorts the most specific buffer first: more selectors, then which, then the id."""
    named = (buffer_.item, buffer_.node, buffer_.pool, buffer_.channel, buffer_.node_kind, buffer_.echelon)
    silent = tuple(not selector for selector in named)
    return sum(silent), silent, buffer_.id


class BuffersAt:
    """What is withheld at one node in one pool from one channel, by item. Made by `CompiledPolicy.buffers_at`."""

    __slots__ = ("_by_item", "_compiled", "_general", "_place", "otherwise")

    def __init__(self, compiled: CompiledPolicy, node: Node, pool: str, channel: str) -> None:
        """`otherwise` is what is withheld of every item that no buffer names."""
        self._compiled, self._place = compiled, (node, pool, channel)
        self._by_item: dict[Hashable, Withheld] = {}
        self._general = self._matching("")
        self.otherwise = self._settled(self._general)

    def of(self, item: str) -> Withheld:
        """What is withheld of an item."""
        if item not in self._compiled.buffers_by_item:
            return self.otherwise
        found = self._by_item.get(item)
        if found is None:
            matching = sorted((*self._matching(item), *self._general), key=_precedence)
            found = _remember(self._by_item, item, self._settled(matching), MOST_ITEMS_OF_A_PLACE)
        return found

    def _matching(self, item: str) -> list[Buffer]:
        node, pool, channel = self._place
        return [
            buffer_
            for buffer_ in self._compiled.buffers_by_item.get(item, ())
            if buffer_.node in ("", node.code)
            and buffer_.pool in ("", pool)
            and buffer_.channel in ("", channel)
            and buffer_.node_kind in ("", node.kind)
            and buffer_.echelon in ("", node.echelon.value)
        ]

    def _settled(self, matching: Sequence[Buffer]) -> Withheld:
        if not matching:
            return NOTHING_WITHHELD
        count = matching if self._compiled.policy.stackable_buffers else matching[:1]
        closed = any(buffer_.closed for buffer_ in count)
        quantity = 0 if closed else sum(buffer_.quantity for buffer_ in count)
        return Withheld(quantity, closed, tuple(buffer_.id for buffer_ in count))
