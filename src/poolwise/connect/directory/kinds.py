"""The kinds of columns: how the text of a field is read into a typed value, and written back.

`read` raises ValueError with a reason that a person can act on; `write` gives the one text that reads back as the same
value, so that an export imports unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from uuid import UUID
from zoneinfo import available_timezones

import msgspec

from poolwise.core.network import Transit
from poolwise.core.values import MILLION, Rate, parse_rate, parse_scaled

LONGEST_CODE: Final = 64
LONGEST_NAME: Final = 200
"""Of what others give a name, as the API takes it."""

LONGEST_TEXT: Final = 1_000
MOST_DIGITS: Final = 18
"""A rate with more digits than this does not fit the 64 bits in which it is kept."""

LARGEST_INTEGER: Final = 2**31 - 1
DAY_NAMES: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TRUE: Final = frozenset({"true", "yes", "1"})
FALSE: Final = frozenset({"false", "no", "0"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of column: its name and form as documented, and how it is read and written."""

    name: str
    form: str
    read: Callable[[str], Any]
    write: Callable[[Any], str] = str


def _code(text: str) -> str:
    if len(text) > LONGEST_CODE:
        raise ValueError(f"is longer than {LONGEST_CODE} characters")
    if not text.isprintable() or " " in text:
        raise ValueError("is a code: printable characters without spaces")
    return text


def _text(text: str, longest: int = LONGEST_TEXT) -> str:
    if len(text) > longest:
        raise ValueError(f"is longer than {longest} characters")
    if not text.isprintable():
        raise ValueError("contains a control character")
    return text


def _name(text: str) -> str:
    return _text(text, LONGEST_NAME)


def _flag(text: str) -> bool:
    lowered = text.lower()
    if lowered not in TRUE and lowered not in FALSE:
        raise ValueError(f"'{_shown(text)}' is neither true nor false")
    return lowered in TRUE


def _day(text: str) -> date:
    # date.fromisoformat also takes week dates and dates without dashes, which nobody means here.
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError(f"'{_shown(text)}' is no date such as 2026-03-31")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no day of the calendar") from error


def _clock_time(text: str) -> time:
    if text == "24:00":
        return time.max
    if not re.fullmatch(r"\d{2}:\d{2}(:\d{2})?", text):
        raise ValueError(f"'{_shown(text)}' is no time of day such as 15:00")
    try:
        return time.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no time of day: 00:00 to 24:00") from error


def _clock_text(value: time) -> str:
    if value == time.max:
        return "24:00"
    return value.isoformat("minutes" if not value.second else "seconds")


@lru_cache(maxsize=4096)  # a snapshot repeats the same instant a million times
def read_instant(text: str) -> datetime:
    """An instant with its zone, in UTC. Raises ValueError with the reason."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"'{_shown(text)}' is no instant such as 2026-03-31T15:00:00Z") from error
    if instant.tzinfo is None:
        raise ValueError(f"'{text}' has no zone: end it with Z or an offset such as +02:00")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"'{text}' is out of range") from error


def write_instant(instant: datetime) -> str:
    """An instant in UTC, ending in Z."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _rate(text: str) -> Rate:
    rate = parse_rate(text)
    if len(str(abs(rate.numerator))) > MOST_DIGITS:
        raise ValueError(f"'{text}' has more than {MOST_DIGITS} digits")
    return rate


def _positive_rate(text: str) -> Rate:
    rate = _rate(text)
    if rate.numerator <= 0:
        raise ValueError(f"'{text}' must be more than 0")
    return rate


def _rate_from_zero(text: str) -> Rate:
    rate = _rate(text)
    if rate.numerator < 0:
        raise ValueError(f"'{text}' must not be negative")
    return rate


def _quantity(text: str) -> str:
    return str(_rate_from_zero(text))


def _country(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", text):
        raise ValueError(f"'{_shown(text)}' is no country code of two capitals (ISO 3166), such as DE")
    return text


def _currency(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise ValueError(f"'{_shown(text)}' is no currency code of three capitals (ISO 4217), such as EUR")
    return text


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(text: str) -> str:
    if text not in _zones():
        raise ValueError(f"'{_shown(text)}' is no time zone of the tz database, such as Europe/Berlin")
    return text


def _weekdays(text: str) -> frozenset[int]:
    names = {name.lower(): number for number, name in enumerate(DAY_NAMES)}
    unknown = [word for word in text.split() if word.lower() not in names]
    if unknown:
        raise ValueError(f"'{_shown(unknown[0])}' is no weekday: {' '.join(DAY_NAMES)}")
    return frozenset(names[word.lower()] for word in text.split())


def _transit(text: str) -> Transit:
    """`2:0.7 3:0.3` is 2 working days with probability 0.7, 3 with 0.3; `2` alone is 2 for certain."""
    days: dict[int, int] = {}
    for word in text.split():
        count, colon, share = word.partition(":")
        number = _integer(count, 0, 365)
        if number in days:
            raise ValueError(f"names {number} days twice")
        days[number] = parse_scaled(share, 6) if colon else MILLION
    if not days or min(days.values()) <= 0:
        raise ValueError("every probability is more than 0")
    if sum(days.values()) != MILLION:
        raise ValueError(f"the probabilities add up to {Rate(sum(days.values()), 6).reduced()}, not to 1")
    return Transit(tuple(sorted(days.items())))


def _transit_text(transit: Transit) -> str:
    if len(transit.days) == 1:
        return str(transit.days[0][0])
    return " ".join(f"{days}:{Rate(share, 6).reduced()}" for days, share in transit.days)


def _facts(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("is a JSON object: {...}")  # noqa: TRY004  the caller reports a ValueError as bad input
    if any(isinstance(member, float) for member in value.values()):
        raise ValueError("holds a number with a fraction: write it as text")
    return value


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ValueError(f"'{_shown(text)}' is no UUID") from error


def _integer(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[+-]?\d{1,19}", text):
        raise ValueError(f"'{_shown(text)}' is no whole number")
    number = int(text)
    if not low <= number <= high:
        raise ValueError(f"{number} is not between {low} and {high}")
    return number


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


def integer(low: int = 0, high: int = LARGEST_INTEGER) -> Kind:
    """Whole numbers within limits."""
    return Kind("integer", f"whole number from {low} to {high}", lambda text: _integer(text, low, high))


def scaled(places: int, low: int = 0, high: int = 10**15) -> Kind:
    """Decimals kept as whole numbers of `10**-places`; limits are in these."""

    def write(number: int) -> str:
        return str(Rate(number, places).reduced())

    def read(text: str) -> int:
        number = parse_scaled(text, places)
        if not low <= number <= high:
            raise ValueError(f"'{text}' is not between {write(low)} and {write(high)}")
        return number

    return Kind("decimal", f"decimal with at most {places} places", read, write)


def choice(values: type[StrEnum]) -> Kind:
    """One word of a fixed list."""
    words = [value.value for value in values]

    def read(text: str) -> StrEnum:
        if text not in words:
            raise ValueError(f"'{_shown(text)}' is none of: {', '.join(words)}")
        return values(text)

    return Kind("word", "one of " + ", ".join(f"`{word}`" for word in words), read)


def some(member: Kind) -> Kind:
    """Several values separated by spaces, kept as a set."""

    def read(text: str) -> frozenset[Any]:
        return frozenset(member.read(word) for word in text.split())

    def write(values: frozenset[Any]) -> str:
        return " ".join(sorted(member.write(value) for value in values))

    return Kind(f"{member.name}s", f"{member.form}; several are separated by spaces", read, write)


def in_order(member: Kind) -> Kind:
    """Several values separated by spaces, kept in sorted order."""
    several = some(member)
    return Kind(several.name, several.form, lambda text: tuple(sorted(several.read(text))), several.write)


CODE: Final = Kind("code", f"up to {LONGEST_CODE} printable characters without spaces", _code)
NAME: Final = Kind("name", f"up to {LONGEST_NAME} printable characters", _name)
TEXT: Final = Kind("text", f"up to {LONGEST_TEXT} characters", _text)
FLAG: Final = Kind("flag", "`true` or `false` (also yes, no, 1, 0)", _flag, lambda flag: "true" if flag else "false")
DAY: Final = Kind("date", "YYYY-MM-DD", _day, date.isoformat)
CLOCK: Final = Kind("time", "HH:MM, 00:00 to 24:00", _clock_time, _clock_text)
INSTANT: Final = Kind("instant", "ISO 8601 with its zone, such as 2026-03-31T15:00:00Z", read_instant, write_instant)
RATE: Final = Kind("decimal", f"decimal of at most {MOST_DIGITS} digits", _rate_from_zero)
SIGNED_RATE: Final = Kind("decimal", f"decimal of at most {MOST_DIGITS} digits; negative is a credit", _rate)
POSITIVE_RATE: Final = Kind("decimal", f"decimal above 0 of at most {MOST_DIGITS} digits", _positive_rate)
QUANTITY: Final = Kind("decimal", "decimal from 0, in the item's unit", _quantity)
COUNTRY: Final = Kind("country", "ISO 3166 code of two capitals", _country)
CURRENCY: Final = Kind("currency", "ISO 4217 code of three capitals", _currency)
TIME_ZONE: Final = Kind("time zone", "name in the tz database", _time_zone)
WEEKDAYS: Final = Kind(
    "weekdays",
    f"some of {' '.join(DAY_NAMES)}",
    _weekdays,
    lambda days: " ".join(DAY_NAMES[day] for day in sorted(days)),
)
TRANSIT: Final = Kind("transit", "working days:probability, separated by spaces", _transit, _transit_text)
FACTS: Final = Kind("object", "a JSON object", _facts, lambda facts: msgspec.json.encode(facts).decode())
IDENTIFIER: Final = Kind("identifier", "a UUID", _uuid)
