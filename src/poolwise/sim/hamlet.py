"""Small random networks for the simulator: as few nodes and units as make every rule of sourcing meet every other.

Stock is scarce, slots are narrow, clocks and calendars differ from node to node; there is a kit, a substitute and an
item counted in tenths. Equal seeds give equal rows.
"""

from __future__ import annotations

from datetime import time
from random import Random
from typing import Final

from poolwise.connect.directory.policies import default_policy
from poolwise.core.catalog import Item
from poolwise.core.edition.rows import (
    BandRow,
    CapacityRow,
    ComponentRow,
    ItemRow,
    NodeRow,
    PoolRow,
    Row,
    Section,
    Settings,
    SubstitutionRow,
)
from poolwise.core.network import (
    Calendar,
    CapacityUnit,
    CostCard,
    Lane,
    Node,
    NodeStatus,
    Partner,
    RateBand,
    Slot,
    Transit,
    Zone,
)
from poolwise.core.network import Pool as PoolOfStock
from poolwise.core.policy.terms import (
    CustomerAct,
    CustomerTerms,
    Disposition,
    LineSplit,
    Offers,
    ReturnTerms,
    SourcingPolicy,
    SubstitutionMode,
    Until,
)
from poolwise.core.values import MICROGRAMS_PER_KG, MILLION, Rate, replace

ITEMS: Final = ("BOLT", "NUT", "NAIL", "SCREW", "WIRE")
KIT: Final = "KIT"
"""A KIT is a BOLT and two NUTs; a SCREW may replace a NAIL; WIRE is counted in tenths."""

ZONES: Final = ("Z1", "Z2")
SUPPLIER: Final = "C"
"""What is released to that node is bought from a supplier."""

DESK: Final = "DESK"
DESK_NODE: Final = "B"
"""Orders to the DESK are collected at that node."""

CHANNELS: Final = ("web", "market")
NODES: Final = ("A", "B", "C")
TIME_ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")

OFFERING: Final = 0.3

Told = tuple[Section, Row]


def rows_of(random: Random) -> list[Told]:
    """The master rows of a network of two or three nodes."""
    found: list[Told] = [(Section.NETWORK, Settings("EUR", "hamlet"))]
    found += [(Section.PARTNERS, Partner("acme", kind="supplier"))]
    found += [(Section.CALENDARS, Calendar("weekdays", weekdays=frozenset(range(5))))]
    found += [(Section.ZONES, Zone(zone)) for zone in ZONES]
    found += [(Section.ZONES, Zone(DESK, collect_at=DESK_NODE))]
    found += _goods(random)
    found += [(Section.POOLS, PoolRow(PoolOfStock("P", protection=random.choice((0, 0, 1)))))]
    found += [(Section.POOLS, PoolRow(PoolOfStock("Q", channels=frozenset({"market"}), per_unit=Rate(-1, 2))))]
    for node in NODES[: random.randint(2, len(NODES))]:
        found += _place(random, node)
        found += _way_to_the_desk(random, node)
    return found


def _way_to_the_desk(random: Random, code: str) -> list[Told]:
    """Over the counter, by a transfer to its node, or as a parcel of its own."""
    if code == DESK_NODE:
        at_once = Transit(((0, MILLION),))
        return [(Section.LANES, Lane(f"{code}-{DESK}", code, DESK, f"from-{code}", transit=at_once))]
    if random.random() < 0.5:
        return [(Section.LANES, Lane(f"{code}-{DESK_NODE}", code, DESK_NODE, f"from-{code}", to_node=True))]
    return [(Section.LANES, Lane(f"{code}-{DESK}", code, DESK, f"from-{code}"))]


def _goods(random: Random) -> list[Told]:
    found: list[Told] = []
    for code in (*ITEMS, KIT):
        product = random.choice(("", "HARDWARE"))
        weight_ug = random.choice((1, 5, 20)) * MICROGRAMS_PER_KG // 10
        found += [(Section.ITEMS, ItemRow(Item(code, product, scale=int(code == "WIRE"), weight_ug=weight_ug)))]
    across = random.random() < 0.3
    found += [(Section.BILLS, ComponentRow(KIT, part, Rate(n), across)) for part, n in (("BOLT", 1), ("NUT", 2))]
    found += [(Section.SUBSTITUTIONS, SubstitutionRow("NAIL", "SCREW", penalty=Rate(1)))]
    return found


def _place(random: Random, code: str) -> list[Told]:
    node = Node(
        code,
        kind=random.choice(("store", "distribution_centre")),
        partner="acme" if code == SUPPLIER else "",
        time_zone=random.choice(TIME_ZONES),
        calendar=random.choice(("", "weekdays")),
        cut_off=time(random.randint(6, 22)),
        handling_days=random.choice((0, 0, 1)),
        costs=CostCard(per_shipment=Rate(random.randint(0, 3)), per_unit=Rate(random.randint(0, 3), 10)),
    )
    found: list[Told] = [(Section.NODES, NodeRow(node))]
    if random.random() < 0.7:
        found += [(Section.CAPACITIES, slot_of(random, code))]
    band = RateBand(0, 1_000 * MICROGRAMS_PER_KG, Rate(random.randint(2, 9)), per_kg=Rate(random.randint(0, 2)))
    found += [(Section.RATES, BandRow(f"from-{code}", band))]
    for zone in ZONES:
        if random.random() < 0.9:
            slow = random.randint(1, 4)
            transit = Transit(((slow, 900_000), (slow + 1, MILLION - 900_000)))
            far = random.randint(10, 900)
            found += [
                (Section.LANES, Lane(f"{code}-{zone}", code, zone, f"from-{code}", transit=transit, distance_km=far))
            ]
    return found


def slot_of(random: Random, node: str) -> CapacityRow:
    """A narrow slot of a node's day."""
    unit = random.choice(list(CapacityUnit))
    least = {CapacityUnit.ORDERS: 1, CapacityUnit.LINES: 2, CapacityUnit.UNITS: 6, CapacityUnit.WEIGHT: 8}[unit]
    return CapacityRow(node, 0, Slot(unit, least * random.randint(1, 5)))


def changed(random: Random, told: list[Told]) -> Told:
    """A row of the network as it is from now on: a node closes or opens, a slot is wider or narrower."""
    nodes = [row for _, row in told if isinstance(row, NodeRow)]
    row = random.choice(nodes)
    if random.random() < 0.5:
        is_open = row.node.status is NodeStatus.ACTIVE
        return Section.NODES, replace(
            row, node=replace(row.node, status=NodeStatus("suspended" if is_open else "active"))
        )
    return Section.CAPACITIES, slot_of(random, row.node.code)


def policy_of(random: Random, version: int) -> SourcingPolicy:
    """A version of the shipped policy, in one respect otherwise or not at all; it may offer what stores are to send."""
    found = _terms_of(random, version)
    if random.random() < OFFERING:
        asked = Offers(
            node_kind=random.choice(("", "", "store")),
            minutes=random.choice((30, 600, 2_000)),
            most=random.randint(1, 3),
        )
        found = replace(found, offers=asked)
    return found


def _terms_of(random: Random, version: int) -> SourcingPolicy:
    returns = ReturnTerms(
        window_days=random.choice((None, 1, 30)),
        to_node=random.choice(("", "", "A")),
        b_grade_pool="Q",
        refunds_ppm={Disposition.SCRAP: random.choice((0, MILLION))},
    )
    acts = (CustomerAct.CANCEL, CustomerAct.FEWER, CustomerAct.DAY)
    customers = CustomerTerms(random.choice((acts, acts, acts[1:])), random.choice(list(Until)))
    miss_cost, name = Rate(random.choice((0, 2, 40))), f"version {version}"
    shipped = replace(
        default_policy(),
        version=version,
        name=name,
        returns=returns,
        customers=customers,
        miss_cost_per_line=miss_cost,
        max_transfer_hops=1,
    )
    match random.randrange(6):
        case 0:
            return replace(shipped, line_split=LineSplit.ALWAYS, max_shipments=None)
        case 1:
            return replace(shipped, on_hand_only=True)
        case 2:
            return replace(shipped, substitution=SubstitutionMode.ALWAYS)
        case 3:
            return replace(shipped, capacity_is_hard=False, capacity_penalty=Rate(3))
        case 4:
            return replace(shipped, line_split=LineSplit.NEVER, kits_from_parts=False)
        case _:
            return shipped
