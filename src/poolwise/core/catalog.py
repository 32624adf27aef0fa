"""What is sold and counted: items with weight and scale, packs, bills, substitutions and cross-references.

Keeps law 11 for units: a pack is an exact ratio of base units, and a remainder is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from poolwise.core.values import MICROGRAMS_PER_KG, Quantity, Rate, divide_rounded, parse_rate, parse_scaled


@dataclass(frozen=True, slots=True)
class Item:
    """The orderable, countable variant (SKU).

    `weight_ug` is the weight of one whole unit in micrograms, dimensions are in millimetres, `scale` is the number of
    decimal places of a quantity, `requires` names the capabilities a node and lane must have (hazmat, cold, oversize).
    """

    code: str
    product: str = ""
    name: str = ""
    unit: str = "each"
    scale: int = 0
    weight_ug: int = 0
    length_mm: int = 0
    width_mm: int = 0
    height_mm: int = 0
    unit_cost: Rate | None = None
    requires: frozenset[str] = frozenset()
    lead_time_days: int | None = None

    def weight_of(self, quantity: Quantity) -> int:
        """Weight in micrograms of `quantity` base units."""
        return divide_rounded(self.weight_ug * quantity, 10**self.scale)


@dataclass(frozen=True, slots=True)
class Pack:
    """A packaging level of an item: `numerator / denominator` base units each."""

    item: str
    code: str
    numerator: int
    denominator: int = 1


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a kit: `quantity` base units of `item` in one unit of the kit."""

    item: str
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Bill:
    """Components of a kit. `across_nodes` allows the parts to come from several nodes, else from one."""

    kit: str
    components: tuple[Component, ...]
    across_nodes: bool = False


@dataclass(frozen=True, slots=True)
class Substitution:
    """`substitute` may replace `item`: `numerator / denominator` base units of it for one base unit of the item.

    `penalty` is the cost of disappointing the customer, per whole unit of the ordered item.
    """

    item: str
    substitute: str
    numerator: int = 1
    denominator: int = 1
    penalty: Rate = Rate(0)


@dataclass(frozen=True, slots=True)
class CrossReference:
    """A partner's (or GS1's) identifier for our item; `partner` is empty for a global scheme such as gtin."""

    scheme: str
    partner: str
    identifier: str
    item: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All items of an edition, looked up by code."""

    items: Mapping[str, Item] = field(default_factory=dict)
    packs: Mapping[tuple[str, str], Pack] = field(default_factory=dict)
    bills: Mapping[str, Bill] = field(default_factory=dict)
    substitutions: Mapping[str, tuple[Substitution, ...]] = field(default_factory=dict)
    cross_references: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    schemes: tuple[tuple[str, str], ...] = field(init=False)
    identifiers: Mapping[tuple[str, str], str] = field(init=False)
    served_by: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """List the (scheme, partner) pairs that have cross-references, so that a look-up tries few.

        Of a partner's own identifiers of an item the first, by scheme, is kept to be told to him.
        And for an item the items whose demand its stock could serve: kits it is a part of, and what it may replace.
        """
        pairs = {(scheme, partner) for scheme, partner, _ in self.cross_references}
        object.__setattr__(self, "schemes", tuple(sorted(pairs)))
        own: dict[tuple[str, str], str] = {}
        for (_, partner, identifier), item in sorted(each for each in self.cross_references.items() if each[0][1]):
            own.setdefault((partner, item), identifier)
        object.__setattr__(self, "identifiers", own)
        served: dict[str, dict[str, None]] = {}
        for kit, bill in self.bills.items():
            for component in bill.components:
                served.setdefault(component.item, {})[kit] = None
        for item, substitutions in self.substitutions.items():
            for substitution in substitutions:
                served.setdefault(substitution.substitute, {})[item] = None
        object.__setattr__(self, "served_by", {item: tuple(found) for item, found in served.items()})

    def base_units(self, item: str, text: str, pack: str = "") -> Quantity:
        """A decimal quantity in a pack ('' for the item's own unit) as base units of the item, exactly.

        Raises ValueError when the pack is unknown or the quantity is not a whole number of base units.
        """
        if pack in ("", self.items[item].unit):
            return parse_scaled(text, self.items[item].scale)
        ratio = self.packs.get((item, pack))
        if ratio is None:
            raise ValueError(f"item {item} has no pack '{pack}'")
        amount = parse_rate(text)
        units, remainder = divmod(amount.numerator * ratio.numerator, ratio.denominator * int(10**amount.places))
        if remainder:
            raise ValueError(f"{text} x {pack} of item {item} is not a whole number of base units")
        return units


def check_digit_is_right(gtin: str) -> bool:
    """Whether the GS1 check digit of a GTIN of 8, 12, 13 or 14 digits is right (GS1 General Specifications, 7.9)."""
    if len(gtin) not in (8, 12, 13, 14) or not (gtin.isascii() and gtin.isdigit()):
        return False
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(gtin[:-1])))
    return (10 - weighted % 10) % 10 == int(gtin[-1])


def kilograms(weight_ug: int) -> str:
    """Micrograms as text in kilograms, exact."""
    whole, rest = divmod(weight_ug, MICROGRAMS_PER_KG)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
