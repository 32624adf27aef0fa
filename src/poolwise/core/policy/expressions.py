"""The expressions of rules: what they may read and call, and how they are compiled, tried and evaluated.

A rule is a ZEN expression over the facts of `FACTS` and the functions of `FUNCTIONS`. Neither reads a clock or chance,
so that a decision replays (law 8); numbers are exact decimals on the way in and out (law 11); an expression that
yields nothing, or something of the wrong type, is a failure and never a pass (law 19).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from itertools import islice, product
from typing import Final, NamedTuple

import zen

from poolwise.core.policy.terms import RuleScope
from poolwise.core.values import MILLION, Cost, Rate

LONGEST_EXPRESSION: Final = 2_000
LARGEST_PENALTY: Final = 10**9 * MILLION
MOST_SAMPLES: Final = 400


class FactType(StrEnum):
    """What an expression sees in a fact."""

    TEXT = "text"
    NUMBER = "number"
    DATE = "date as text"
    TEXTS = "list of text"
    ANY = "as given"


class Fact(NamedTuple):
    """A name rules may read. `samples` are JSON values it may have, with which rules are tried when they are saved."""

    path: str
    type: FactType
    meaning: str
    samples: tuple[str, ...]


_ALL_FACTS: Final = (
    Fact("order.channel", FactType.TEXT, "where the order comes from", ('"web"', '"till"')),
    Fact("order.customer", FactType.TEXT, "code of the customer, empty where there is none", ('"C-1"', '""')),
    Fact("order.priority", FactType.NUMBER, "priority, 0 unless the order says more", ("0", "9")),
    Fact("order.service_level", FactType.TEXT, "code of the service level bought", ('"standard"', '"express"')),
    Fact("order.value", FactType.NUMBER, "value in the costing currency, null where unknown", ("120.55", "null", "3")),
    Fact("order.lines", FactType.NUMBER, "number of lines", ("3", "1")),
    Fact("order.weight_kg", FactType.NUMBER, "weight of all lines", ("12.5", "0")),
    Fact("order.requested", FactType.DATE, "day the customer asked for, null where none", ('"2026-09-15"', "null")),
    Fact("order.date", FactType.DATE, "day received, where the order goes to", ('"2026-09-03"', '"2027-01-31"')),
    Fact("order.facts.*", FactType.ANY, "what the order says under this name, null where nothing", ()),
    Fact("node.code", FactType.TEXT, "code of the origin node", ('"N-1"', '"N-2"')),
    Fact("node.kind", FactType.TEXT, "kind of the origin node", ('"store"', '"distribution_centre"')),
    Fact("node.echelon", FactType.TEXT, "supplier, regional or last_mile", ('"regional"', '"last_mile"')),
    Fact("node.country", FactType.TEXT, "country of the origin node", ('"DE"', '""')),
    Fact("node.capabilities", FactType.TEXTS, "what the origin node can do", ('["hazmat","cold"]', "[]")),
    Fact("node.partner", FactType.TEXT, "partner who runs the origin node, empty for our own", ('""', '"P-1"')),
    Fact("lane.carrier", FactType.TEXT, "carrier of the last lane", ('"C-1"', '""')),
    Fact("lane.service", FactType.TEXT, "service of the last lane", ('"ground"', '""')),
    Fact("lane.distance_km", FactType.NUMBER, "length of all lanes together", ("350", "0", "2000")),
    Fact("lane.transit_days", FactType.NUMBER, "working days on all lanes at the promised confidence", ("2", "0")),
    Fact("lane.hops", FactType.NUMBER, "transfers between nodes before the last lane", ("0", "1")),
)
FACTS: Final[Mapping[str, Fact]] = {fact.path: fact for fact in _ALL_FACTS}
"""The vocabulary of rules. `order.facts.*` stands for whatever the orders carry."""

CUSTOM: Final = "order.facts."
_CUSTOM_SAMPLES: Final = ("null", '"text"', "7", "true", '["text"]')

FUNCTIONS: Final = (
    "abs", "ceil", "floor", "len", "max", "min", "number", "round", "string", "trunc",
    "contains", "endsWith", "lower", "matches", "startsWith", "trim", "upper",
    "all", "count", "none", "one", "some",
)  # fmt: skip
DATE_FUNCTIONS: Final = ("date", "dayOfMonth", "dayOfWeek", "monthOfYear", "weekOfYear", "year")
"""Functions of a day. ZEN reads the clock when their text says 'now', so they take a known day or a written date."""

_CLOSURES: Final = frozenset({"all", "count", "none", "one", "some"})
MOST_CLOSURES: Final = 2
_WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "null"})
_LITERAL_TYPES: Final = {"true": "true or false", "false": "true or false"}
_HINTS: Final = {
    "d": "use date(...): d() reads the clock, and turns a missing day into an early one",
    "now": "use order.date: a rule that reads the clock could not be replayed",
    "rand": "a rule that depends on chance could not be replayed",
    "=": "write == to compare",
    "&": "write and",
    "|": "write or",
    "..": "write two comparisons joined by and",
    "`": "write text in single or double quotes",
    ";": "write one expression",
    "$": "name the fact, for example order.channel",
}

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<text>'[^']*'|"[^"]*")|(?P<word>[A-Za-z_]\w*)"""
    r"""|(?P<mark>==|!=|<=|>=|\?\?|\.\.|[-<>+*/%^()\[\],?:!.\#])|(?P<other>\S))""",
    re.ASCII,
)


class _Token(NamedTuple):
    kind: str
    text: str


_END: Final = _Token("end", "")


def _tokens(text: str) -> list[_Token]:
    """What the expression is written with; ZEN strings know no escapes, so a string ends at its next quote."""
    matches = (match for match in _TOKEN.finditer(text) if match.lastgroup)
    return [_Token(match.lastgroup or "", match[match.lastgroup or ""]) for match in matches]


class _Reading:
    """One walk over an expression's tokens: which facts it reads, and what in it is not allowed."""

    def __init__(self, text: str, scope: RuleScope | None) -> None:
        self.reads: dict[str, None] = {}
        self.faults: list[str] = []
        self._scope = scope
        self._closures = 0
        self._types: list[tuple[int, int, str]] = []
        tokens = _tokens(text)
        self._tokens = tokens
        place = 0
        while place < len(tokens):
            place = self._step(place)
        self._check_comparisons()

    def _at(self, place: int) -> _Token:
        return self._tokens[place] if 0 <= place < len(self._tokens) else _END

    def _step(self, place: int) -> int:
        """Take one name, call or mark; gives the place after it."""
        token = self._at(place)
        match token.kind:
            case "text":
                self._types.append((place, place + 1, FactType.TEXT))
            case "number":
                self._types.append((place, place + 1, FactType.NUMBER))
            case "other":
                self._refuse(f"'{token.text}' has no meaning here", token.text)
            case "mark" if token.text == "..":
                self._refuse("ranges are not allowed", "..")
            case "word" if token.text in _WORDS:
                if token.text in _LITERAL_TYPES:
                    self._types.append((place, place + 1, _LITERAL_TYPES[token.text]))
            case "word" if self._at(place + 1).text == "(" and self._at(place + 1).kind == "mark":
                return self._call(place)
            case "word":
                return self._path(place)
            case _:
                pass
        return place + 1

    def _refuse(self, reason: str, about: str = "", choices: Iterable[str] = ()) -> None:
        hint = _HINTS.get(about) or nearest(about, choices)
        self.faults.append(f"{reason}; {hint}" if hint else reason)

    def _call(self, place: int) -> int:
        name = self._at(place).text
        if self._at(place - 1).text == ".":
            self._refuse(f"there is no method '{name}' in this language")
        elif name in DATE_FUNCTIONS:
            self._check_day(place)
        elif name not in FUNCTIONS:
            self._refuse(f"there is no function '{name}'", name, (*FUNCTIONS, *DATE_FUNCTIONS))
        elif name in _CLOSURES:
            self._closures += 1
            if self._closures == MOST_CLOSURES + 1:
                self._refuse(f"more than {MOST_CLOSURES} of {', '.join(sorted(_CLOSURES))} in one expression")
        return place + 2

    def _check_day(self, place: int) -> None:
        """A function of a day takes order.date, order.requested or a written date, and nothing else."""
        name, argument = self._at(place).text, self._at(place + 2)
        if argument.kind == "text":
            try:
                date.fromisoformat(argument.text[1:-1])
                fine = len(argument.text) == len("'2026-01-31'") and self._at(place + 3).text == ")"
            except ValueError:
                fine = False
        else:
            path = "".join(self._at(place + ahead).text for ahead in (2, 3, 4))
            fine = path in ("order.date", "order.requested") and self._at(place + 5).text == ")"
        if not fine:
            self._refuse(f"{name}(...) takes order.date, order.requested or a date written as '2026-01-31'")

    def _path(self, place: int) -> int:
        """Take a dotted name and note the fact it reads."""
        parts, end = [self._at(place).text], place + 1
        while self._at(end).text == "." and self._at(end + 1).kind == "word":
            parts.append(self._at(end + 1).text)
            end += 2
        opened, name, closed = self._at(end), self._at(end + 1), self._at(end + 2)
        if parts == ["order", "facts"] and (opened.text, name.kind, closed.text) == ("[", "text", "]"):
            parts.append(name.text[1:-1])
            end += 3
        if parts[:2] == ["order", "facts"]:
            if len(parts) == 2:
                self._refuse("order.facts must be followed by the name of a fact, for example order.facts.tier")
            else:
                self.reads[CUSTOM + parts[2]] = None
            return end
        path = ".".join(parts)
        fact = FACTS.get(path)
        if fact is None:
            self._refuse(f"'{path}' is not a fact that rules can read", path, FACTS)
        elif self._scope is RuleScope.ORDER and not path.startswith("order."):
            self._refuse(f"a rule of scope order cannot read {path}; scope candidate can")
        else:
            self.reads[path] = None
            self._types.append((place, end, FactType.TEXT if fact.type is FactType.DATE else fact.type))
        return end

    def _check_comparisons(self) -> None:
        """Refuse comparisons that ZEN answers with "different" whatever the values are, and without a word."""
        for place, token in enumerate(self._tokens):
            if token.text in ("==", "!=") and self._at(place + 1).text == "[":
                self.faults.append("lists are never equal; ask with in, some(...) or all(...)")
        starts = {start: (end, kind) for start, end, kind in self._types}
        for start, end, kind in self._types:
            mark = self._at(end).text
            if mark in ("==", "!=") and end + 1 in starts and kind != starts[end + 1][1]:
                left = "".join(token.text for token in self._tokens[start:end])
                other_end, other = starts[end + 1]
                right = "".join(token.text for token in self._tokens[end + 1 : other_end])
                self.faults.append(f"{left} is {kind} and {right} is {other}: they are never equal")
            elif mark == "in" and self._at(end + 1).text == "[":
                inside = starts.get(end + 2)
                if inside and inside[1] != kind and self._at(inside[0]).text in (",", "]"):
                    left = "".join(token.text for token in self._tokens[start:end])
                    self.faults.append(f"{left} is {kind} and the list holds {inside[1]}: it is never in it")


@dataclass(frozen=True, slots=True)
class Failed:
    """An expression gave no answer of its type, and why."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A compiled ZEN expression and the facts it reads, in the order of their first mention."""

    text: str
    reads: tuple[str, ...]
    _plain: zen.Expression
    _exact: zen.Expression

    def condition(self, facts: str) -> bool | Failed:
        """Whether it holds for `facts` (JSON, see `facts_json`). Nothing, or no yes or no, is a failure."""
        found = _evaluated(self._plain, facts)
        if isinstance(found, bool | Failed):
            return found
        return Failed(f"gives {described(found)}, not true or false")

    def amount(self, facts: str) -> Cost | Failed:
        """Its number for `facts` in millionths, rounded half away from zero; exact, through decimal text."""
        found = _evaluated(self._plain, facts)
        if isinstance(found, Failed):
            return found
        if isinstance(found, bool) or not isinstance(found, int | float):
            return Failed(f"gives {described(found)}, not a number")
        text = _evaluated(self._exact, facts)
        if not isinstance(text, str):
            return Failed("gives a number that cannot be written down")
        whole, _, fraction = text.partition(".")
        cost = Rate(int(whole + fraction), len(fraction)).times(1)
        return cost if abs(cost) <= LARGEST_PENALTY else Failed("gives more than a thousand million")


def _evaluated(expression: zen.Expression, facts: str) -> object:
    try:
        found: object = expression.evaluate(facts)
    except (RuntimeError, ValueError) as error:
        return Failed(_engine_reason(error))
    return Failed("gives nothing: a fact in it is missing, or it divides by zero") if found is None else found


def _engine_reason(error: Exception) -> str:
    """The engine's reason as one sentence; it comes as JSON with a stack trace behind it."""
    line = str(error).partition("\n")[0]
    found = re.search(r'"source":"(.*)"\}$', line)
    reason = found[1].replace("\\", "") if found else line
    wrong_type = re.fullmatch(r"Opcode (\w+): Unsupported type", reason)
    if wrong_type:
        return f"cannot be worked out: {wrong_type[1].lower()} of values of the wrong type, or of one that is missing"
    return f"cannot be worked out: {reason[:200]}"


def compile_expression(text: str, scope: RuleScope | None) -> Expression | list[str]:
    """`text` compiled, or every reason why a rule of this scope may not say it."""
    if len(text) > LONGEST_EXPRESSION:
        return [f"is longer than {LONGEST_EXPRESSION} characters"]
    if not text.strip():
        return ["is empty"]
    reading = _Reading(text, scope)
    if reading.faults:
        return list(dict.fromkeys(reading.faults))
    try:
        plain, exact = zen.compile_expression(text), zen.compile_expression(f"string({text})")
    except RuntimeError as error:
        return [_engine_reason(error).replace("worked out", "read")]
    return Expression(text, tuple(reading.reads), plain, exact)


def facts_json(values: Iterable[tuple[str, str]]) -> str:
    """The JSON document an expression reads, from fact paths and their JSON values.

    Numbers go in as text so that ZEN reads them as exact decimals.
    """
    groups: dict[str, list[str]] = {}
    custom: list[str] = []
    for path, value in values:
        if path.startswith(CUSTOM):
            custom.append(f"{json.dumps(path[len(CUSTOM) :])}:{value}")
        else:
            root, _, name = path.partition(".")
            groups.setdefault(root, []).append(f'"{name}":{value}')
    if custom:
        groups.setdefault("order", []).append(f'"facts":{{{",".join(custom)}}}')
    return "{" + ",".join(f'"{root}":{{{",".join(inside)}}}' for root, inside in groups.items()) + "}"


def _tried(expression: Expression, outcome: Callable[[str], object]) -> list[str]:
    """Why an expression cannot be right, found by trying it on sample facts; empty when at least one succeeds.

    What is in `order.facts` is not known here: with one in it, an expression is refused only if it never succeeds;
    with more combinations of facts than are tried, not even then.
    """
    samples = [FACTS[path].samples if path in FACTS else _CUSTOM_SAMPLES for path in expression.reads]
    trials = islice(product(*samples), MOST_SAMPLES + 1)
    outcomes = [outcome(facts_json(zip(expression.reads, trial, strict=True))) for trial in trials]
    failures = [found.reason for found in outcomes if isinstance(found, Failed)]
    if len(failures) == len(outcomes) <= MOST_SAMPLES:
        return [failures[0]]
    if all(path in FACTS for path in expression.reads):
        return [reason for reason in failures if reason.startswith("gives ") and ", not " in reason][:1]
    return []


def check_expression(text: str, scope: RuleScope | None, is_number: bool = False) -> list[str]:
    """Every reason why a rule of this scope may not say `text`, tried on sample facts too; empty when it may."""
    compiled = compile_expression(text, scope)
    if isinstance(compiled, list):
        return compiled
    return _tried(compiled, compiled.amount if is_number else compiled.condition)


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint at the choice that was probably meant; empty when none is near."""
    close = get_close_matches(name, list(choices), n=1)
    return f"did you mean {close[0]}?" if close else ""


def described(value: object) -> str:
    """What stands there, for a sentence that says what should."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the text '{value[:60]}'"
        case int():
            return f"the whole number {value}" if abs(value) < 10**30 else "a very large number"
        case float():
            return f"the number {value!r}"
        case date():
            return f"the date {value.isoformat()} (write it in quotes if text is meant)"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"
