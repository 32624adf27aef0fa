"""What is sold: product families of several variants, kits, packs, substitutes, and their global trade numbers.

Trade numbers begin with 952, the prefix that GS1 keeps for examples, so that they name nobody's goods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from poolwise.core.catalog import CrossReference, Item
from poolwise.core.edition.rows import ComponentRow, ItemRow, PackRow, Row, Section, SubstitutionRow
from poolwise.core.values import Rate

EXAMPLE_PREFIX: Final = "952"
MICROGRAMS_PER_GRAM: Final = 1_000_000
SCHEME: Final = "gtin"

KIT_SHARE: Final = 33
"""One item in so many is a kit."""


@dataclass(frozen=True, slots=True)
class Category:
    """A range of goods: nouns with commas between, weights in grams, costs in cents, longest side in mm.

    `share` is its part in a thousand.
    """

    code: str
    nouns: str
    variants: tuple[tuple[str, str], ...]
    grams: tuple[int, int]
    cents: tuple[int, int]
    longest_mm: tuple[int, int]
    share: int
    requires: frozenset[str] = frozenset()
    unit: str = "each"
    scale: int = 0


COLOURS: Final = (
    ("WHT", "white"), ("BLK", "black"), ("BLU", "blue"), ("GRN", "green"), ("RED", "red"), ("SND", "sand"),
)  # fmt: skip
SIZES: Final = (("S", "small"), ("M", "medium"), ("L", "large"))
ONE: Final = (("1", ""),)
NAMES: Final = tuple(
    "Alva Brio Calla Dune Elm Fjord Gale Halo Iris Juno Kelp Luma Mira Nova Onda Pine Quay Rill Sola Tarn".split()
)

CATEGORIES: Final = (
    Category("KIT", "Saucepan,Frying pan,Casserole,Kettle,Carafe,Grater,Ladle,Mixing bowl,Chopping board,Mug",
             COLOURS, (180, 3200), (320, 4200), (110, 480), 200),
    Category("TEX", "Bath towel,Hand towel,Blanket,Cushion,Duvet cover,Tablecloth,Apron,Rug",
             COLOURS, (150, 2400), (280, 3600), (200, 600), 170),
    Category("ELE", "Desk lamp,Headphones,Speaker,Power bank,Charger,Keyboard,Webcam,Smart plug",
             COLOURS[:3], (90, 1800), (700, 8900), (80, 450), 140),
    Category("TOY", "Building set,Puzzle,Board game,Plush bear,Wooden train,Paint box",
             SIZES, (200, 1900), (450, 3900), (150, 480), 120),
    Category("SPO", "Yoga mat,Dumbbell,Water bottle,Backpack,Cycling helmet,Rope",
             COLOURS, (150, 5200), (380, 5200), (180, 900), 110),
    Category("PET", "Dog bed,Cat tree,Leash,Feeding bowl,Chew toy",
             SIZES, (120, 4800), (260, 3300), (120, 800), 70),
    Category("OFF", "Notebook,Binder,Letter tray,Pen set,Desk pad",
             COLOURS, (80, 1400), (150, 1900), (120, 420), 70),
    Category("DIY", "Wood varnish,Spray paint,Contact glue,Lamp oil",
             SIZES, (400, 2600), (390, 2400), (100, 320), 40, frozenset({"hazmat"})),
    Category("CHL", "Cheese board,Smoked salmon,Butter,Fresh pasta,Yoghurt",
             SIZES, (200, 900), (220, 1600), (90, 280), 30, frozenset({"cold"})),
    Category("FUR", "Bookshelf,Side table,Mattress,Garden bench,Wardrobe",
             COLOURS[:3], (9000, 42000), (3900, 21000), (1300, 2100), 30, frozenset({"oversize"})),
    Category("COF", "Coffee beans,Green tea,Almonds,Oats",
             ONE, (1000, 1000), (620, 1900), (150, 300), 20, frozenset(), "kg", 3),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Assortment:
    """All that is sold; items come in order of how much they are asked for, most first."""

    items: tuple[Item, ...]
    packs: tuple[PackRow, ...]
    bills: tuple[ComponentRow, ...]
    substitutions: tuple[SubstitutionRow, ...]
    references: tuple[CrossReference, ...]

    def rows(self) -> dict[Section, Sequence[Row]]:
        """The rows of master data."""
        return {
            Section.ITEMS: [ItemRow(item) for item in self.items],
            Section.PACKS: self.packs,
            Section.BILLS: self.bills,
            Section.SUBSTITUTIONS: self.substitutions,
            Section.CROSS_REFERENCES: self.references,
        }


def assortment(random: Random, items: int, partners: Sequence[str]) -> Assortment:
    """That many items; `partners` are marketplaces with identifiers of their own for some of them."""
    families = list(_families(random, items - items // KIT_SHARE))
    singles = [item for family in families for item in family]
    kits, bills = _kits(random, singles, items - len(singles))
    sold = singles + kits
    random.shuffle(sold)
    return Assortment(
        tuple(sold),
        tuple(_packs(random, sold)),
        tuple(bills),
        tuple(_substitutions(random, families)),
        tuple(_references(random, sold, partners)),
    )


def _families(random: Random, items: int) -> Iterator[list[Item]]:
    """Families of one to four variants, until there are `items` of them."""
    shares = [category.share for category in CATEGORIES]
    number, made = 100, 0
    while made < items:
        number += random.randint(1, 5)
        category = random.choices(CATEGORIES, shares)[0]
        variants = random.sample(category.variants, min(len(category.variants), random.randint(1, 4), items - made))
        yield list(_family(random, category, f"{category.code}-{number:04d}", sorted(variants)))
        made += len(variants)


def _family(random: Random, category: Category, product: str, variants: Sequence[tuple[str, str]]) -> Iterator[Item]:
    noun = f"{random.choice(category.nouns.split(','))} {random.choice(NAMES)}"
    weight_g, cents = random.randint(*category.grams), random.randint(*category.cents)
    length = random.randint(*category.longest_mm)
    width, height = random.randint(length // 3, length), random.randint(length // 8, length // 2)
    for code, word in variants:
        yield Item(
            code=f"{product}-{code}",
            product=product,
            name=f"{noun}, {word}" if word else noun,
            unit=category.unit,
            scale=category.scale,
            weight_ug=weight_g * MICROGRAMS_PER_GRAM,
            length_mm=length,
            width_mm=width,
            height_mm=height,
            unit_cost=Rate(cents, 2),
            requires=category.requires,
            lead_time_days=random.choice((3, 7, 14, 21, 30)),
        )


def _kits(random: Random, singles: Sequence[Item], count: int) -> tuple[list[Item], list[ComponentRow]]:
    """Kits of two or three light items that need no special handling."""
    fit = [item for item in singles if not item.requires and item.scale == 0 and item.weight_ug < 2_500_000_000]
    kits: list[Item] = []
    bills: list[ComponentRow] = []
    for number in range(count):
        code = f"SET-{1000 + 7 * number}"
        parts = [(part, random.choice((1, 1, 1, 2))) for part in random.sample(fit, random.choice((2, 2, 3)))]
        cents = sum(times * (part.unit_cost or Rate(0)).numerator for part, times in parts)
        bills += [ComponentRow(code, part.code, Rate(times), across_nodes=number % 4 == 0) for part, times in parts]
        kits.append(
            Item(
                code=code,
                product="SET",
                name=f"Set {random.choice(NAMES)}: " + " + ".join(part.name.split(",")[0] for part, _ in parts),
                weight_ug=sum(times * part.weight_ug for part, times in parts),
                length_mm=max(part.length_mm for part, _ in parts),
                width_mm=max(part.width_mm for part, _ in parts),
                height_mm=sum(part.height_mm for part, _ in parts),
                unit_cost=Rate(cents, 2),
            )
        )
    return kits, bills


def _packs(random: Random, items: Sequence[Item]) -> Iterator[PackRow]:
    for item in items:
        if item.scale:
            yield PackRow(item.code, "bag", Rate(25, 2))
        elif not item.requires & {"oversize"} and random.random() < 0.6:
            case = random.choice((4, 6, 8, 12, 24))
            yield PackRow(item.code, "case", Rate(case))
            yield PackRow(item.code, "pallet", Rate(case * random.choice((24, 36, 48))))


def _substitutions(random: Random, families: Sequence[Sequence[Item]]) -> Iterator[SubstitutionRow]:
    """Two families in five let their variants stand in for each other, at a tenth of what they cost."""
    for family in families:
        if len(family) < 2 or random.random() > 0.4:
            continue
        for place, item in enumerate(family):
            other = family[(place + 1) % len(family)]
            cents = (item.unit_cost or Rate(0)).numerator // 10 + 20
            yield SubstitutionRow(item.code, other.code, penalty=Rate(cents, 2))


def _references(random: Random, items: Sequence[Item], partners: Sequence[str]) -> Iterator[CrossReference]:
    """A trade number for each item, and a marketplace's own identifier for one item in five."""
    for number, item in enumerate(sorted(items, key=lambda item: item.code)):
        yield CrossReference(SCHEME, "", trade_number(number), item.code)
        if partners and random.random() < 0.2:
            partner = random.choice(partners)
            yield CrossReference("sku", partner, f"{partner[:2].upper()}{4_000_000 + 37 * number}", item.code)


def trade_number(number: int) -> str:
    """The GTIN-13 of that number under the prefix for examples, with its check digit (GS1 Specifications, 7.9)."""
    body = f"{EXAMPLE_PREFIX}{number:09d}"
    weighted = sum(int(digit) * (1 if place % 2 == 0 else 3) for place, digit in enumerate(body))
    return f"{body}{-weighted % 10}"
