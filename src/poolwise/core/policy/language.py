"""The language of policies: plain data (what a YAML or JSON reader gives) to a checked `SourcingPolicy`, and back.

Every fault is reported, all at once, under its field path. Keeps law 11: a rate is a decimal written as text or as a
whole number, never a float.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from hashlib import sha256
from typing import Final, TypeVar

from poolwise.core.network import Echelon
from poolwise.core.policy.expressions import LONGEST_EXPRESSION, check_expression, described, nearest
from poolwise.core.policy.terms import (
    Buffer,
    CostKind,
    CustomerAct,
    CustomerTerms,
    Disposition,
    LineSplit,
    Offers,
    ReturnTerms,
    Rule,
    RuleScope,
    SourcingPolicy,
    SubstitutionMode,
    Until,
)
from poolwise.core.values import (
    LARGEST_QUANTITY,
    MILLION,
    Fault,
    Json,
    PlanAt,
    Rate,
    Refused,
    ServiceLevel,
    parse_rate,
    parse_scaled,
)

POLICY_INVALID: Final = "policy_invalid"
MOST_RULES: Final = 200
MOST_BUFFERS: Final = 20_000
MOST_SERVICE_LEVELS: Final = 100
LONGEST_CODE: Final = 200
MOST_NAMES_TOLD: Final = 10

_T = TypeVar("_T")


class _Wrong(ValueError):
    """A value that cannot stand where it does; its text says why."""


# --- what the public asks -----------------------------------------------------------------------------------------


def parse_policy(data: object, version: int = 0) -> SourcingPolicy:
    """A policy from plain data. `version` is the store's; the data carries none.

    Raises Refused("policy_invalid") with every fault at once: its field path, and the reason.
    """
    faults: list[Fault] = []
    found = _record(data, POLICY_KEYS, "", faults)
    _check_together(found, faults)
    if faults:
        raise Refused(POLICY_INVALID, faults)
    return _build(SourcingPolicy, {**found, "version": version})


def to_data(policy: SourcingPolicy) -> dict[str, Json]:
    """The canonical plain data of a policy without its version; `parse_policy` gives an equal policy back.

    Limits and prices are all written out, so that a stored version means the same when a later release has other
    defaults. Of buffers and rules only what is said is written.
    """
    return _written(policy, POLICY_KEYS)


def content_hash(policy: SourcingPolicy) -> str:
    """sha256 (hex) of the canonical JSON of a policy: equal for equal content, whatever the version."""
    text = json.dumps(to_data(policy), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def granted_by(rule: Rule) -> dict[str, object]:
    """The values of `then` as `Terms` has them: enums, rates, numbers. Raises Refused with every fault."""
    faults: list[Fault] = []
    found = _record(rule.then, THEN_KEYS, "then", faults)
    if faults:
        raise Refused(POLICY_INVALID, faults)
    return found


# --- the keys of the file -----------------------------------------------------------------------------------------

Reader = Callable[[object, str, list[Fault]], object]
_BAD: Final = object()


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file: how it is called, what may stand there, what it means, and how it is read and written.

    `field` is its name in the dataclass where that differs.
    """

    name: str
    kind: str
    meaning: str
    read: Reader
    field: str = ""
    required: bool = False
    write: Callable[[object], Json] | None = None

    @property
    def target(self) -> str:
        """The field of the dataclass."""
        return self.field or self.name


def default_of(owner: type[SourcingPolicy | ServiceLevel | Buffer | Rule | ReturnTerms | Offers], key: Key) -> Json:
    """What a key is when the file leaves it out, as the file would write it."""
    for field in fields(owner):
        if field.name == key.target:
            factory = field.default_factory
            default = factory() if factory is not MISSING else field.default
            return None if default is MISSING else (key.write or _plain)(default)
    raise AssertionError(f"{owner.__name__} has no field {key.target}")


def _build(owner: Callable[..., _T], values: Mapping[str, object]) -> _T:
    """The dataclass from values that its keys have already checked."""
    return owner(**values)


def _record(data: object, keys: Sequence[Key], path: str, faults: list[Fault]) -> dict[str, object]:
    """The values of a mapping by field; everything wrong with it goes to `faults`."""
    if not isinstance(data, Mapping):
        faults.append(Fault(path, f"is {described(data)}; a mapping of keys is expected"))
        return {}
    names = [key.name for key in keys]
    for name in data:
        if name not in names:
            faults.append(Fault(_join(path, name), _unknown(name, names)))
    found = {}
    for key in keys:
        if key.name in data:
            value = key.read(data[key.name], _join(path, key.name), faults)
            if value is not _BAD:
                found[key.target] = value
        elif key.required:
            faults.append(Fault(_join(path, key.name), "is required"))
    return found


def _written(value: object, keys: Sequence[Key], *, all_keys: bool = True) -> dict[str, Json]:
    """The canonical mapping of a dataclass; without `all_keys`, only of the fields that say something."""
    found = {key.name: (key.write or _plain)(getattr(value, key.target)) for key in keys}
    if all_keys:
        return found
    required = {key.name for key in keys if key.required}
    return {name: said for name, said in found.items() if name in required or said not in ("", 0, False, {})}


def _plain(value: object) -> Json:
    match value:
        case StrEnum():
            return value.value
        case None | bool() | int() | str():
            return value
        case Rate():
            return str(value.reduced())
        case Buffer():
            # A buffer of 0 says something: it lifts a less specific one.
            quantity: dict[str, Json] = {} if value.closed else {"quantity": value.quantity}
            return _written(value, BUFFER_KEYS, all_keys=False) | quantity
        case Rule():
            return _written(value, RULE_KEYS, all_keys=False)
        case ServiceLevel():
            return _written(value, SERVICE_LEVEL_KEYS)
        case ReturnTerms():
            return _written(value, RETURN_KEYS)
        case Offers():
            return _written(value, OFFERS_KEYS)
        case CustomerTerms():
            return _written(value, CUSTOMER_KEYS)
        case Mapping():
            return {str(_plain(name)): _plain(inside) for name, inside in sorted(value.items())}
        case tuple():
            return [_plain(inside) for inside in value]
        case _:
            raise AssertionError(f"no plain form for {value!r}")


def _ppm_text(value: object) -> Json:
    assert isinstance(value, int)
    return str(Rate(value, 6).reduced())


def _ppm_texts(value: object) -> Json:
    assert isinstance(value, Mapping)
    kinds = (*CostKind, *Disposition)
    return {kind.value: _ppm_text(value[kind]) for kind in kinds if kind in value}


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _unknown(name: object, names: Sequence[str]) -> str:
    if not isinstance(name, str):
        return f"the key is {described(name)}; write it in quotes"
    if name == "version":
        return "is given by the store, leave it out"
    hint = nearest(name, names)
    if hint or len(names) > MOST_NAMES_TOLD:
        return f"is not a known key; {hint}".removesuffix("; ")
    return f"is not a known key; known are {', '.join(names)}"


# --- readers: one value each --------------------------------------------------------------------------------------


def _value(read: Callable[[object], object]) -> Reader:
    """A reader of one value from a function that raises ValueError with the reason."""

    def reader(value: object, path: str, faults: list[Fault]) -> object:
        try:
            return read(value)
        except ValueError as error:
            faults.append(Fault(path, str(error)))
            return _BAD

    return reader


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"is {described(value)}; text is expected")
    if not value.isprintable() or len(value) > LONGEST_EXPRESSION:
        raise _Wrong(f"is not plain text of at most {LONGEST_EXPRESSION} characters")
    return value


def _code(value: object) -> str:
    text = _text(value)
    if not text or text != text.strip() or len(text) > LONGEST_CODE:
        raise _Wrong(f"must be 1 to {LONGEST_CODE} characters without spaces around them")
    return text


def _said(value: object) -> str:
    """An expression: text that may have several lines."""
    if not isinstance(value, str):
        hint = f"; write it in quotes: '{str(value).lower()}'" if isinstance(value, bool | int) else ""
        raise _Wrong(f"is {described(value)}; an expression is expected{hint}")
    return value.strip()


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"is {described(value)}; true or false is expected")
    return value


def _whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _Wrong(f"is {described(value)}; a whole number is expected")
        if not least <= value <= most:
            raise _Wrong(f"is {value}; it must be from {least:,} to {most:,}")
        return value

    return read


def _decimal_text(value: object) -> str:
    if isinstance(value, float):
        raise _Wrong(f"is a binary fraction, which money never is; write it in quotes: '{value!r}'")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _Wrong(f"is {described(value)}; a decimal number is expected")
    return str(value)


def _rate(value: object) -> Rate:
    rate = parse_rate(_decimal_text(value))
    if rate.numerator < 0:
        raise _Wrong(f"is {rate}; it must not be negative")
    return rate


def _ppm(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        ppm = parse_scaled(_decimal_text(value), 6)
        if not least <= ppm <= most:
            raise _Wrong(f"must be from {Rate(least, 6).reduced()} to {Rate(most, 6).reduced()}")
        return ppm

    return read


def _or_none(read: Callable[[object], object]) -> Reader:
    return _value(lambda value: None if value is None else read(value))


def _choice(choices: type[StrEnum]) -> Reader:
    def read(value: object) -> object:
        names = [choice.value for choice in choices]
        if value not in names:
            hint = nearest(value, names) if isinstance(value, str) else ""
            raise _Wrong(f"is {described(value)}; {hint or 'it must be one of ' + ', '.join(names)}")
        return choices(value)

    return _value(read)


def _echelon(value: object) -> str:
    names = [echelon.value for echelon in Echelon]
    if value not in ("", *names):
        raise _Wrong(f"is {described(value)}; it must be one of {', '.join(names)}")
    return str(value)


# --- readers: mappings and lists ----------------------------------------------------------------------------------


def _mapping(data: object, path: str, faults: list[Fault]) -> Mapping[str, object]:
    """The entries of a mapping whose keys are codes; others are reported and left out."""
    if not isinstance(data, Mapping):
        faults.append(Fault(path, f"is {described(data)}; a mapping is expected"))
        return {}
    found = {}
    for name, value in data.items():
        try:
            found[_code(name)] = value
        except ValueError as error:
            faults.append(Fault(_join(path, name), f"the key {error}"))
    return found


def _list(data: object, path: str, most: int, faults: list[Fault]) -> Sequence[object]:
    if not isinstance(data, list | tuple):
        faults.append(Fault(path, f"is {described(data)}; a list is expected"))
        return ()
    if len(data) > most:
        faults.append(Fault(path, f"has {len(data)} entries; at most {most:,} are allowed"))
        return ()
    return data


def _read_weights(data: object, path: str, faults: list[Fault]) -> object:
    return _read_ppm(data, path, CostKind, "a kind of cost", 1_000 * MILLION, faults)


def _read_refunds(data: object, path: str, faults: list[Fault]) -> object:
    return _read_ppm(data, path, Disposition, "a disposition", MILLION, faults)


def _read_ppm(
    data: object, path: str, kinds: type[StrEnum], what: str, most: int, faults: list[Fault]
) -> dict[StrEnum, object]:
    """Shares, in parts per million, of some of the kinds."""
    read, names = _value(_ppm(0, most)), [kind.value for kind in kinds]
    found = {}
    for name, value in _mapping(data, path, faults).items():
        if name not in names:
            hint = nearest(name, names) or "known are " + ", ".join(names)
            faults.append(Fault(_join(path, name), f"is not {what}; {hint}"))
        else:
            found[kinds(name)] = read(value, _join(path, name), faults)
    return {kind: found[kind] for kind in kinds if kind in found}


def _read_returns(data: object, path: str, faults: list[Fault]) -> object:
    wrong = len(faults)
    found = _record({} if data is None else data, RETURN_KEYS, path, faults)
    return _build(ReturnTerms, found) if len(faults) == wrong else _BAD


def _read_customers(data: object, path: str, faults: list[Fault]) -> object:
    wrong = len(faults)
    found = _record({} if data is None else data, CUSTOMER_KEYS, path, faults)
    return _build(CustomerTerms, found) if len(faults) == wrong else _BAD


def _read_acts(data: object, path: str, faults: list[Fault]) -> object:
    read = _choice(CustomerAct)
    acts = [read(act, f"{path}[{at}]", faults) for at, act in enumerate(_list(data, path, len(CustomerAct), faults))]
    return tuple(act for act in CustomerAct if act in acts)


def _read_codes(data: object, path: str, faults: list[Fault]) -> object:
    read = _value(_code)
    codes = [read(code, f"{path}[{at}]", faults) for at, code in enumerate(_list(data, path, 10_000, faults))]
    return tuple(code for code in codes if code is not _BAD)


def _read_service_levels(data: object, path: str, faults: list[Fault]) -> object:
    levels = _mapping(data, path, faults)
    if len(levels) > MOST_SERVICE_LEVELS:
        faults.append(Fault(path, f"has {len(levels)} entries; at most {MOST_SERVICE_LEVELS} are allowed"))
        return _BAD
    found = {}
    for code, value in levels.items():
        wrong = len(faults)
        inside = _record({} if value is None else value, SERVICE_LEVEL_KEYS, _join(path, code), faults)
        if len(faults) == wrong:
            found[code] = _build(ServiceLevel, {"code": code, **inside})
    return found


def _read_pool_order(data: object, path: str, faults: list[Fault]) -> object:
    read = _value(_code)
    found = {}
    for channel, pools in _mapping(data, path, faults).items():
        here = _join(path, channel)
        codes = [read(code, f"{here}[{at}]", faults) for at, code in enumerate(_list(pools, here, 10_000, faults))]
        twice = [str(code) for at, code in enumerate(codes) if code is not _BAD and code in codes[:at]]
        if twice:
            faults.append(Fault(here, f"names {', '.join(twice)} twice"))
        found[channel] = tuple(codes)
    return found


def _read_buffers(data: object, path: str, faults: list[Fault]) -> object:
    return _read_named(data, path, MOST_BUFFERS, _buffer, faults)


def _read_rules(data: object, path: str, faults: list[Fault]) -> object:
    return _read_named(data, path, MOST_RULES, _rule, faults)


def _read_named(data: object, path: str, most: int, read: Reader, faults: list[Fault]) -> object:
    """A list of records, each with an id of its own."""
    entries = _list(data, path, most, faults)
    found = [read(entry, f"{path}[{at}]", faults) for at, entry in enumerate(entries)]
    first: dict[object, int] = {}
    for at, entry in enumerate(entries):
        name = entry.get("id") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and first.setdefault(name, at) != at:
            faults.append(Fault(f"{path}[{at}].id", f"'{name}' is already the id of {path}[{first[name]}]"))
    return tuple(value for value in found if value is not _BAD)


def _buffer(data: object, path: str, faults: list[Fault]) -> object:
    wrong = len(faults)
    found = _record(data, BUFFER_KEYS, path, faults)
    if found.get("closed") and found.get("quantity"):
        faults.append(Fault(f"{path}.quantity", "says nothing where the buffer is closed; leave one of them out"))
    elif len(faults) == wrong and "closed" not in found and "quantity" not in found:
        faults.append(Fault(path, "withholds nothing; give a quantity, or closed: true"))
    return _build(Buffer, found) if len(faults) == wrong else _BAD


def _rule(data: object, path: str, faults: list[Fault]) -> object:
    wrong = len(faults)
    found = _record(data, RULE_KEYS, path, faults)
    scope = found.get("scope")
    scope = scope if isinstance(scope, RuleScope) else None
    for name in ("when", "penalty"):
        text = found.get(name)
        if isinstance(text, str) and (name == "when" or text):
            faults += [Fault(f"{path}.{name}", reason) for reason in check_expression(text, scope, name == "penalty")]
    says = [name for name in ("exclude", "penalty", "then") if found.get(name)]
    if len(says) > 1:
        faults.append(Fault(path, f"says {' and '.join(says)}; make it one rule for each"))
    elif scope is RuleScope.CANDIDATE and says == ["then"]:
        faults.append(Fault(f"{path}.then", "belongs to rules of scope order; a candidate is excluded or penalised"))
    elif scope is RuleScope.ORDER and says and says != ["then"]:
        faults.append(
            Fault(f"{path}.{says[0]}", "belongs to rules of scope candidate; an order is given terms by then")
        )
    elif not says and len(faults) == wrong:
        needed = "then" if scope is RuleScope.ORDER else "exclude: true or a penalty"
        faults.append(Fault(path, f"does nothing; give {needed}"))
    return _build(Rule, found) if len(faults) == wrong else _BAD


def _read_offers(data: object, path: str, faults: list[Fault]) -> object:
    if data is None:
        return None
    wrong = len(faults)
    found = _record(data, OFFERS_KEYS, path, faults)
    return _build(Offers, found) if len(faults) == wrong else _BAD


def _read_then(data: object, path: str, faults: list[Fault]) -> object:
    """The terms a rule replaces, kept in their canonical plain form."""
    found = _record(data, THEN_KEYS, path, faults)
    return {key.name: (key.write or _plain)(found[key.target]) for key in THEN_KEYS if key.target in found}


def _check_together(found: Mapping[str, object], faults: list[Fault]) -> None:
    """What only the whole policy can tell; a key that is itself at fault is not reported twice."""
    reported = {fault.field.partition(".")[0] for fault in faults}
    if not found.get("service_levels") and not reported & {"", "service_levels"}:
        faults.append(Fault("service_levels", "is required; an order can only buy a service level named here"))
    if found.get("only_listed_pools") and not found.get("pool_order") and "pool_order" not in reported:
        faults.append(Fault("only_listed_pools", "closes every pool, as pool_order lists none"))


# --- the tables ---------------------------------------------------------------------------------------------------

_DAYS: Final = "whole number, days"
_RATE: Final = "decimal, currency"
_MONEY: Final = _value(_rate)

SERVICE_LEVEL_KEYS: Final = (
    Key("deliver_within_days", f"{_DAYS}, or null", "Deadline: calendar days after the day the order was received, "
        "where it goes to. Null: none.", _or_none(_whole(0, 3_650))),
    Key("confidence", "decimal above 0, up to 1", "Share of shipments that must arrive by the day that counts: the "
        "quantile of the lane's transit time.", _value(_ppm(1, MILLION)), field="confidence_ppm", write=_ppm_text),
    Key("late_is_hard", "true or false", "A route that arrives after the deadline is eliminated; else it costs "
        "`late_cost_per_day`.", _value(_flag)),
    Key("plan", "at_once or next_wave", "When its orders are planned.", _choice(PlanAt)),
    Key("replan", "true or false, or null", "Whether waves plan its orders again until they leave. Null: those that "
        "wait for a wave, yes; others, no.", _or_none(_flag)),
)  # fmt: skip

BUFFER_KEYS: Final = (
    Key("id", "text", "Its name in explanations, unique.", _value(_code), required=True),
    Key("quantity", "whole number, base units", "Withheld at every node it matches, per item and pool.",
        _value(_whole(0, LARGEST_QUANTITY))),
    Key("closed", "true or false", "Offers nothing at all.", _value(_flag)),
    Key("item", "code", "Only this item. Left out: every item. So for the next five.", _value(_text)),
    Key("node", "code", "Only at this node.", _value(_text)),
    Key("pool", "code", "Only in this pool.", _value(_text)),
    Key("channel", "code", "Only for orders of this channel.", _value(_text)),
    Key("node_kind", "text", "Only at nodes of this kind.", _value(_text)),
    Key("echelon", "supplier, regional or last_mile", "Only at nodes of this level.", _value(_echelon)),
)  # fmt: skip

THEN_KEYS: Final = (
    Key("max_shipments", "whole number, or null", "Most shipments of one order; null: no limit.",
        _or_none(_whole(1, 2_000))),
    Key("split_cost", _RATE, "Cost of each shipment after the first (`split`).", _MONEY),
    Key("line_split", "never, when_short or always", "When the quantity of one line may come from several nodes.",
        _choice(LineSplit)),
    Key("min_shipment_value", _RATE, "With more than one part, each shipment and what waits must be worth this much.",
        _MONEY),
    Key("ship_complete", "true or false", "An order is served whole or waits whole.", _value(_flag)),
    Key("on_hand_only", "true or false", "Open receipts are not promised.", _value(_flag)),
    Key("max_distance_km", "whole number, km, or null", "Longest way of all lanes together; null: no limit.",
        _or_none(_whole(1, 100_000))),
    Key("substitution", "never, when_short or always", "When a substitute is considered.", _choice(SubstitutionMode)),
)  # fmt: skip
"""What a rule about orders may replace; the same keys stand in the policy itself."""

RULE_KEYS: Final = (
    Key("id", "text", "Its name in explanations, unique.", _value(_code), required=True),
    Key("scope", "order or candidate", "Whether it looks at an order once, or at each candidate of it.",
        _choice(RuleScope), required=True),
    Key("when", "expression", "Condition; `'true'` for always.", _value(_said), required=True),
    Key("exclude", "true or false", "Scope candidate: the candidate is eliminated (`excluded_by_rule`).",
        _value(_flag)),
    Key("penalty", "expression, currency", "Scope candidate: added to the cost of the shipment (`node_performance`); "
        "negative for a credit.", _value(_said)),
    Key("then", "mapping", "Scope order: what it replaces for this order; later rules replace earlier ones. Its keys: "
        + ", ".join(f"`{key.name}`" for key in THEN_KEYS) + ".", _read_then),
)  # fmt: skip

RETURN_KEYS: Final = (
    Key("window_days", f"{_DAYS}, or null", "Goods may come back for so long after they were delivered, or shipped "
        "where that is not known. Null: no limit.", _or_none(_whole(0, 36_500))),
    Key("to_node", "code", "Where goods are sent to; empty: to the node that sent them.", _value(_text)),
    Key("bring_to", "list of kinds of node", "Where customers may bring goods to.", _read_codes),
    Key("not_returnable", "list of codes", "Items that do not come back, by code or by what they require (`cold`).",
        _read_codes),
    Key("b_grade_pool", "code", "The pool that B-grade goes to; empty: its own, in another lot.", _value(_text)),
    Key("b_grade_lot", "text", "The lot that B-grade goes to.", _value(_text)),
    Key("refunds", "mapping, disposition to decimal", "Share of the price that is refunded, 1 where it is not named. "
        "The dispositions: " + ", ".join(f"`{each}`" for each in Disposition) + ".", _read_refunds,
        field="refunds_ppm", write=_ppm_texts),
)  # fmt: skip

OFFERS_KEYS: Final = (
    Key("nodes", "list of codes", "Only these nodes are asked. Empty: every node. So for the next two.", _read_codes),
    Key("node_kind", "text", "Only nodes of this kind.", _value(_text)),
    Key("echelon", "supplier, regional or last_mile", "Only nodes of this level.", _value(_echelon)),
    Key("minutes", "whole number, minutes", "How long nodes may think about it.", _value(_whole(1, 10_080))),
    Key("most", "whole number", "Most nodes that one shipment is offered to, the planned one included.",
        _value(_whole(1, 50))),
)  # fmt: skip

CUSTOMER_KEYS: Final = (
    Key("may", "list of acts", "What customers may do on the tracking page: " + ", ".join(
        f"`{each}`" for each in CustomerAct) + ". None is listed: nothing.", _read_acts),
    Key("until", "released or picked", "How long: until it is released to its node, or until it is picked there.",
        _choice(Until)),
)  # fmt: skip

POLICY_KEYS: Final = (
    Key("code", "text", "Name of the policy; its versions are numbered by the store.", _value(_code), required=True),
    Key("name", "text", "What people call it.", _value(_text)),
    Key("weights", "mapping, cost part to decimal", "Factor of each part of the cost, 1 where it is not named; 0 "
        "leaves the part out. The parts: " + ", ".join(f"`{kind}`" for kind in CostKind) + ".", _read_weights,
        field="weights_ppm", write=_ppm_texts),
    Key("service_levels", "mapping, code to service level", "What customers can buy; at least one.",
        _read_service_levels),
    *THEN_KEYS,
    Key("release_after_minutes", "whole number, minutes",
        "A shipment is released so long after its decision, on the day on which it leaves and before the cut-off.",
        _value(_whole(0, 7 * 24 * 60))),
    Key("horizon_days", _DAYS, "A shipment leaves within this many days of the decision.", _value(_whole(0, 366))),
    Key("max_transfer_hops", "whole number", "Most transfers between nodes before the last lane.",
        _value(_whole(0, 5))),
    Key("late_cost_per_day", _RATE, "Per shipment and day after the deadline (`late`).", _MONEY),
    Key("delay_cost_per_day", _RATE, "Per shipment and day after the route's first ship day (`delay`).", _MONEY),
    Key("transit_cost_per_day", _RATE, "Per shipment and day from decision to arrival (`transit_time`).", _MONEY),
    Key("carbon_price_per_kg", _RATE, "Per kg of CO2e on all lanes (`carbon`).", _MONEY),
    Key("backorder_cost_per_line", _RATE, "Per line that waits, in whole or part (`backorder`).", _MONEY),
    Key("backorder_cost_per_unit", _RATE, "Per whole unit that waits (`backorder`).", _MONEY),
    Key("stockout_target", "whole number, base units", "Stock on hand below which taking units costs extra.",
        _value(_whole(0, LARGEST_QUANTITY))),
    Key("stockout_cost_per_unit", _RATE, "Per unit taken where stock on hand is all but gone, less in proportion up "
        "to the target (`stockout_avoidance`).", _MONEY),
    Key("miss_cost_per_line", _RATE, "What a pick that fails costs: per line in a shipment, times the probability "
        "that the node does not find it (`miss_risk`). With 0 the records of nodes do not matter.", _MONEY),
    Key("capacity_is_hard", "true or false", "A full slot takes no more work; else more costs `capacity_penalty`.",
        _value(_flag)),
    Key("capacity_penalty", _RATE, "Per unit of the slot above its limit, where capacity is not hard.", _MONEY),
    Key("kits_from_parts", "true or false", "A kit may be made from the components of its bill.", _value(_flag)),
    Key("pool_order", "mapping, channel to list of pools", "Pools a channel prefers, first first; others come last.",
        _read_pool_order),
    Key("only_listed_pools", "true or false", "Pools that `pool_order` does not list are closed to the channel.",
        _value(_flag)),
    Key("pool_rank_cost", _RATE, "Per unit and place in `pool_order` (`pool`).", _MONEY),
    Key("stackable_buffers", "true or false", "Buffers that match are added up; else the most specific one wins.",
        _value(_flag)),
    Key("buffers", "list of buffers", "Stock withheld from promise.", _read_buffers),
    Key("rules", "list of rules", "Conditions with an effect, in order.", _read_rules),
    Key("returns", "mapping", "Which goods may come back, where to, and what is refunded.", _read_returns),
    Key("offers", "offers, or null", "Which nodes are asked before a shipment is released to them. Null: none.",
        _read_offers),
    Key("customers", "mapping", "What customers may do to their order on the tracking page.", _read_customers),
)  # fmt: skip
