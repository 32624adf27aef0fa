"""Editions: equal rows are equal bytes under an equal name, in any order, and open as what they were."""

from __future__ import annotations

from datetime import date, time

from hypothesis import given
from hypothesis import strategies as st

from poolwise.core.catalog import CrossReference, Item
from poolwise.core.edition.build import NO_SLOT, edition_of, great_circle_km, opened
from poolwise.core.edition.checks import check
from poolwise.core.edition.chunks import hash_of, pack, unpack
from poolwise.core.edition.rows import (
    BandRow,
    BoxRow,
    CapacityRow,
    ComponentRow,
    ExchangeRate,
    ItemRow,
    NodeRow,
    PackRow,
    PoolRow,
    Row,
    Section,
    Settings,
    SubstitutionRow,
    key_of,
)
from poolwise.core.network import (
    Box,
    Calendar,
    CapacityUnit,
    CostCard,
    Lane,
    Node,
    Partner,
    Pool,
    RateBand,
    Slot,
    Transit,
    Zone,
)
from poolwise.core.values import Rate

WORLD: dict[Section, list[Row]] = {
    Section.NETWORK: [Settings("EUR", apart=frozenset({"hazmat", "cold"}))],
    Section.EXCHANGE_RATES: [
        ExchangeRate("USD", date(2026, 1, 1), Rate(9, 1)),
        ExchangeRate("USD", date(2026, 7, 1), Rate(8, 1)),
    ],
    Section.PARTNERS: [Partner("acme", "Acme")],
    Section.CALENDARS: [
        Calendar("c", frozenset(range(5)), frozenset({date(2026, 1, 1)}), frozenset({date(2026, 1, 3)}))
    ],
    Section.ZONES: [Zone("Z", "DE", ("8", "9"), 48_000_000, 11_000_000)],
    Section.NODES: [
        NodeRow(Node("N", latitude_udeg=53_550_000, longitude_udeg=9_990_000, cut_off=time(15), partner="acme")),
        NodeRow(Node("M", calendar="c", costs=CostCard(per_line=Rate(10))), "USD"),
    ],
    Section.POOLS: [PoolRow(Pool("P", channels=frozenset({"web", "app"}), per_unit=Rate(-5, 1)), "USD")],
    Section.RATES: [
        BandRow("R", RateBand(5, 10, fixed=Rate(2))),
        BandRow("R", RateBand(0, 5, per_kg=Rate(14150633766876566, 16))),
    ],
    Section.LANES: [
        Lane("L", "N", "Z", "R", transit=Transit(((1, 700_000), (2, 300_000)))),
        Lane("T", "N", "M", "R", to_node=True, distance_km=5),
    ],
    Section.CAPACITIES: [CapacityRow("N", 2, Slot(CapacityUnit.WEIGHT, 1500, only_on=date(2026, 5, 1)))],
    Section.BOXES: [
        BoxRow(Box("S", 200, 150, 100, 5_000, 800_000)),
        BoxRow(Box("L", 600, 400, 400, 30_000, 850_000, tare_ug=400), "N"),
        BoxRow(Box("M", 400, 300, 200, 10_000, 800_000, tare_ug=200), "N"),
    ],
    Section.ITEMS: [
        ItemRow(Item("A", unit_cost=Rate(3)), "USD"),
        ItemRow(Item("G", scale=3, requires=frozenset({"cold"}))),
        ItemRow(Item("KIT")),
    ],
    Section.PACKS: [PackRow("G", "bag", Rate(25, 2)), PackRow("A", "third", Rate(1), per=3)],
    Section.BILLS: [ComponentRow("KIT", "A", Rate(2)), ComponentRow("KIT", "G", Rate(5, 1))],
    Section.SUBSTITUTIONS: [SubstitutionRow("A", "G", Rate(5, 1), per=1, penalty=Rate(1), currency="USD")],
    Section.CROSS_REFERENCES: [CrossReference("gtin", "", "4006381333931", "A")],
}


def keyed(rows: dict[Section, list[Row]]) -> dict[Section, dict[str, Row]]:
    return {section: {key_of(row): row for row in own} for section, own in rows.items()}


def test_a_world_in_which_everything_fits_has_no_fault():
    assert check(keyed(WORLD), None).faults == ()


def test_an_edition_opens_as_what_it_was():
    edition, parts = edition_of(check(keyed(WORLD), None))
    assert opened(parts) == edition
    assert list(opened(parts).network.nodes) == list(edition.network.nodes)


@given(st.data())
def test_rows_in_any_order_are_the_same_edition(data: st.DataObject):
    shuffled = {section: data.draw(st.permutations(own)) for section, own in WORLD.items()}
    edition, _ = edition_of(check(keyed(shuffled), None))
    expected, _ = edition_of(check(keyed(WORLD), None))
    assert (edition.hash, edition) == (expected.hash, expected)


def test_rows_are_unpacked_as_they_were_packed():
    rows, day = unpack(pack(keyed(WORLD), date(2026, 7, 1)))
    assert (rows, day) == (
        {section: dict(sorted(own.items())) for section, own in keyed(WORLD).items()},
        date(2026, 7, 1),
    )


def test_the_name_of_an_edition_is_the_same_in_every_release():
    """If this fails, stored editions can no longer be found by what they hold: change the format only with a reason.

    The name is older than boxes: what is not said in them changes nothing.
    """
    parts = pack(keyed(WORLD | {Section.NETWORK: [Settings("EUR")], Section.BOXES: []}), date(2026, 7, 1))
    assert hash_of([part.hash for part in parts]) == "55ed3a2dd907423bde874c58fc27fb08be9193d6941abce0ca92af56e1da7f6e"


def test_a_node_packs_into_its_own_boxes_or_else_into_those_of_all():
    network = edition_of(check(keyed(WORLD), None))[0].network
    assert [[box.code for box in network.boxes_of(node)] for node in ("N", "M")] == [["L", "M"], ["S"]]
    assert network.apart == {"hazmat", "cold"}


def test_boxes_and_what_travels_apart_are_part_of_the_name():
    def name(**changes: list[Row]) -> str:
        return edition_of(check(keyed(WORLD | {Section(section): rows for section, rows in changes.items()}), None))[
            0
        ].hash

    assert len({name(), name(boxes=[]), name(network=[Settings("EUR")])}) == 3


def test_everything_is_in_the_costing_currency_at_the_rate_of_the_day():
    edition, _ = edition_of(check(keyed(WORLD), date(2026, 6, 30)))
    assert edition.network.nodes["M"].costs.per_line == Rate(9)
    assert edition.network.pools["P"].per_unit == Rate(-45, 2)
    assert edition.catalog.items["A"].unit_cost == Rate(27, 1)
    later, _ = edition_of(check(keyed(WORLD), date(2026, 7, 1)))
    assert later.network.nodes["M"].costs.per_line == Rate(8)


def test_ratios_are_in_base_units():
    catalog = edition_of(check(keyed(WORLD), None))[0].catalog
    bag, third = catalog.packs["G", "bag"], catalog.packs["A", "third"]
    assert (bag.numerator, bag.denominator) == (250, 1)
    assert (third.numerator, third.denominator) == (1, 3)
    assert [(part.item, part.quantity) for part in catalog.bills["KIT"].components] == [("A", 2), ("G", 500)]
    substitution = catalog.substitutions["A"][0]
    assert (substitution.numerator, substitution.denominator) == (500, 1)


def test_a_slot_keeps_its_number_and_unused_numbers_apply_on_no_day():
    slots = edition_of(check(keyed(WORLD), None))[0].network.nodes["N"].slots
    assert slots == (NO_SLOT, NO_SLOT, Slot(CapacityUnit.WEIGHT, 1500, only_on=date(2026, 5, 1)))


def test_a_lane_without_a_distance_is_as_long_as_the_crow_flies():
    lanes = edition_of(check(keyed(WORLD), None))[0].network.lanes
    assert (lanes["L"].distance_km, lanes["T"].distance_km) == (622, 5)
    assert great_circle_km(0, 0, 0, 180_000_000) == 20_016
    assert great_circle_km(1, 1, 1, 1) == 0
