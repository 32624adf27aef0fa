"""The values everything else is made of: quantities, exact rates, costs, money, and refusals.

Keeps law 11: quantities are integers, rates are exact decimals, a cost part is an integer number of millionths of
the costing currency, and only what is charged is rounded to minor units, once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

Json: TypeAlias = "None | bool | int | str | list[Json] | dict[str, Json]"
"""What a decision, an event or an answer is made of; there is no float in it."""

Quantity = int
"""Amount of an item in its base units (an item of scale 3 counts thousandths)."""

Cost = int
"""Millionths of the costing currency; negative for a credit."""

MILLION: Final = 1_000_000
MICROGRAMS_PER_KG: Final = 1_000_000_000
LARGEST_QUANTITY: Final = 10**12
"""Upper limit of any quantity in one movement or receipt: sums of a million of them still fit 64 bits."""

MOST_ORDERED: Final = 10**9
"""Base units of a line of an order: what it weighs, and what it costs to let it wait, fit 64 bits."""

if TYPE_CHECKING:
    # Type checkers know the fields that this takes, for structs too.
    from dataclasses import replace as replace  # noqa: PLC0414
else:
    _Value = TypeVar("_Value")

    def replace(value: _Value, **fields: object) -> _Value:
        """The same value with other fields: of a frozen dataclass, or of a frozen struct (ADR 0011)."""
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **fields)
        return dataclasses.replace(value, **fields)


_DECIMAL = re.compile(r"[+-]?\d{1,15}(\.\d{1,18})?")


@dataclass(frozen=True, slots=True)
class Rate:
    """An exact decimal: `numerator / 10**places` units of currency (or of whatever the field says) per one."""

    numerator: int
    places: int = 0

    def times(self, amount: int, per: int = 1) -> Cost:
        """Cost in millionths of this rate for `amount / per` units, rounded half away from zero, once."""
        if not self.numerator:
            return 0
        top = self.numerator * amount * (2 * MILLION)
        bottom: int = per * 10**self.places
        # As `divide_rounded`; a call would take as long as all the rest.
        return (top + bottom) // (2 * bottom) if top >= 0 else -((bottom - top) // (2 * bottom))

    def multiplied(self, other: Rate) -> Rate:
        """The exact product, for example a price and an exchange rate."""
        return Rate(self.numerator * other.numerator, self.places + other.places).reduced()

    def reduced(self) -> Rate:
        """The same value with no trailing zeros, so that equal rates are equal values."""
        numerator, places = self.numerator, self.places
        while places and numerator % 10 == 0:
            numerator, places = numerator // 10, places - 1
        return Rate(numerator, places)

    def __str__(self) -> str:
        """Plain decimal text, which `parse_rate` reads back."""
        return format(Decimal(self.numerator).scaleb(-self.places), "f")


ZERO_RATE: Final = Rate(0)


def parse_rate(text: str) -> Rate:
    """Read a decimal such as `0.7132` or `-34.23` exactly. Raises ValueError with the reason."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"'{text}' is not a plain decimal number (at most 15 digits before and 18 after the point)")
    whole, _, fraction = text.partition(".")
    return Rate(int(whole + fraction), len(fraction)).reduced()


def base_to_text(units: Quantity, scale: int) -> str:
    """Base units as a decimal number in the item's own unit: 5500 of scale 3 is `5.5`."""
    if scale == 0:
        return str(units)
    whole, fraction = divmod(abs(units), 10**scale)
    digits = f"{fraction:0{scale}d}".rstrip("0")
    return f"{'-' if units < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def parse_scaled(text: str, places: int) -> int:
    """Read a decimal as an integer number of `10**-places`; a finer remainder is refused, never rounded.

    `parse_scaled("5.5", 3)` is 5500. Raises ValueError with the reason.
    """
    rate = parse_rate(text)
    if rate.places > places:
        raise ValueError(f"'{text}' has more than {places} decimal places")
    return int(rate.numerator * 10 ** (places - rate.places))


def divide_rounded(numerator: int, denominator: int) -> int:
    """Integer division rounded half away from zero; `denominator` is positive."""
    assert denominator > 0
    if numerator >= 0:
        return (2 * numerator + denominator) // (2 * denominator)
    return -((-2 * numerator + denominator) // (2 * denominator))


def shares(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divide `total` in proportion to `weights` by the largest remainder: the parts add up to `total` exactly.

    Ties go to the earlier part. All weights zero: everything goes to the first part.
    """
    assert weights and min(weights) >= 0
    whole = sum(weights)
    if whole == 0:
        return (total, *(0 for _ in weights[1:]))
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Money:
    """What is charged: integer minor units of a currency (ISO 4217)."""

    minor: int
    currency: str


class PlanAt(StrEnum):
    """When an order of a service level is planned."""

    ONCE = "at_once"
    WAVE = "next_wave"


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """Speed and quality bought, with its deadline rule.

    `deliver_within_days` counts calendar days from the day the order is received, at the destination; None means no
    deadline. `confidence_ppm` is the transit quantile that must meet it, in parts per million. `replan` says whether
    waves plan its orders again until they leave; None is as `plan` has it: those that wait for a wave, yes.
    """

    code: str
    deliver_within_days: int | None = None
    confidence_ppm: int = 950_000
    late_is_hard: bool = False
    plan: PlanAt = PlanAt.ONCE
    replan: bool | None = None

    @property
    def is_planned_again(self) -> bool:
        """Whether what is reserved for its orders may still move in a wave."""
        return self.plan is PlanAt.WAVE if self.replan is None else self.replan


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: the field, and the reason in a sentence."""

    field: str
    reason: str


class Refused(Exception):
    """A business refusal: the request is understood and cannot be done. Carries every reason at once.

    The error tree is Refused (do not repeat), Conflict (repeat now), Upstream (repeat later); anything else that is
    raised is a bug.
    """

    def __init__(self, code: str, problems: Sequence[Fault]) -> None:
        """`code` is the stable name of the refusal; `problems` lists field and reason for each cause."""
        super().__init__("; ".join(f"{p.field}: {p.reason}" if p.field else p.reason for p in problems))
        self.code = code
        self.problems = tuple(problems)

    @classmethod
    def one(cls, code: str, field: str, reason: str) -> Refused:
        """A refusal with a single reason."""
        return cls(code, (Fault(field, reason),))


class Conflict(Exception):
    """Somebody else was first; the same request may be repeated at once."""


class KeyTaken(Conflict):
    """The request has an answer already, under its key: to do it again is of no use."""


class Upstream(Exception):
    """A system we depend on is not available; the same request may be repeated later."""
