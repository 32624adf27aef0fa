"""The generated world is equal for equal seeds, is imported without a single reject, and reaches everybody."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from poolwise.connect.directory.loading import Loaded, load_directory
from poolwise.connect.directory.policies import default_policy
from poolwise.core.catalog import check_digit_is_right
from poolwise.core.edition.rows import Section
from poolwise.core.network import Lane
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Counter, Reader
from poolwise.sim.assortment import trade_number
from poolwise.sim.demand import Demand
from poolwise.sim.geography import POSTCODES, postcode, regions
from poolwise.sim.world import World, make_world, write_directory

AT = datetime(2026, 11, 23, 9, 17, tzinfo=UTC)
SEEDS = (7, 8, 9)
NO_IDS = Ids(lambda _bits: 0)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(7, AT)


@pytest.fixture(scope="module")
def loaded(world: World, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("world")
    write_directory(world, folder)
    return load_directory(folder)


def written(seed: int, folder: Path) -> dict[str, bytes]:
    write_directory(make_world(seed, AT, items=300), folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_equal_seeds_give_equal_files_and_other_seeds_give_others(tmp_path: Path) -> None:
    first = written(1, tmp_path / "a")
    assert written(1, tmp_path / "b") == first
    assert written(2, tmp_path / "c") != first


def test_equal_seeds_give_equal_orders(world: World) -> None:
    assert list(Demand(world).orders(200, AT)) == list(Demand(make_world(7, AT)).orders(200, AT))


def test_it_is_as_large_as_promised(world: World) -> None:
    kinds = {row.node.kind for row in world.rows[Section.NODES]}
    assert world.nodes >= 40
    assert len(world.items) == 2_000
    assert kinds == {"supplier_site", "distribution_centre", "3pl", "drop_shipper", "store", "depot"}
    assert all(world.rows[section] for section in Section)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_written_world_loads_without_a_single_reject(seed: int, tmp_path: Path) -> None:
    write_directory(make_world(seed, AT, items=400), tmp_path)
    assert load_directory(tmp_path).rejects == []


def test_stock_and_receipts_name_what_is_there(world: World, loaded: Loaded) -> None:
    network, items = loaded.edition.network, loaded.edition.catalog.items
    for row in (*world.stock, *world.receipts):
        assert row.item in items
        assert row.node in network.nodes
        assert row.pool in network.pools


def test_every_trade_number_has_its_check_digit_and_none_is_there_twice(world: World) -> None:
    numbers = list(world.trade_numbers.values())
    assert len(set(numbers)) == len(world.items)
    assert all(check_digit_is_right(number) and len(number) == 13 for number in numbers)
    assert trade_number(0) == "9520000000004"


@pytest.mark.parametrize("requires", ["", "cold", "hazmat", "oversize"])
def test_every_zone_is_reached_with_every_kind_of_goods(world: World, loaded: Loaded, requires: str) -> None:
    needed = {requires} - {""}
    nodes = loaded.edition.network.nodes
    reached = {
        lane.destination
        for lane in world.rows[Section.LANES]
        if isinstance(lane, Lane) and needed <= lane.carries and needed <= nodes[lane.origin].capabilities
    }
    assert {region.zone.code for region in regions()} <= reached


def test_items_that_need_care_lie_where_it_can_be_given(world: World, loaded: Loaded) -> None:
    items, nodes = loaded.edition.catalog.items, loaded.edition.network.nodes
    assert all(items[count.item].requires <= nodes[count.node].capabilities for count in world.stock)


def test_rates_grow_with_distance_and_with_weight(loaded: Loaded) -> None:
    cards = loaded.edition.network.rates
    light, heavy = 10**9, 20 * 10**9
    for nearer, farther in zip(range(1, 7), range(2, 8), strict=True):
        near, far = cards[f"ground-{nearer}"].band(light), cards[f"ground-{farther}"].band(light)
        more = cards[f"ground-{nearer}"].band(heavy)
        assert near is not None
        assert far is not None
        assert more is not None
        assert near.price(light) < far.price(light)
        assert near.price(light) < more.price(heavy)


def test_every_order_is_understood_by_intake(world: World, loaded: Loaded) -> None:
    reader = Reader(Counter(loaded.edition, default_policy(), NO_IDS, "demo"))
    for message in Demand(world).orders(500, AT):
        assert reader.zone(message.zone, message.ship_to) is not None
        assert len(reader.lines(message.lines, message.currency)) == len(message.lines)
        reader.check_order(message)
    assert reader.faults == []


def test_a_postcode_is_of_its_zone(loaded: Loaded) -> None:
    network = loaded.edition.network
    for region in regions():
        text = postcode(region.zone, Random(3))
        assert network.zone_of(region.zone.country, text) == region.zone.code
        assert len(text) == len(POSTCODES[region.zone.country])
