"""Zones that are the counter of a node: which rows fit together, and that no address is in them."""

from __future__ import annotations

import pytest

from poolwise.core.edition.build import edition_of, opened
from poolwise.core.edition.checks import check
from poolwise.core.edition.rows import NodeRow, Row, Section, key_of
from poolwise.core.network import Network, Node, Zone


def faults(zones: list[Zone], nodes: list[Node]) -> list[tuple[str, str, str]]:
    """Section, key and field of what is wrong, without warnings."""
    rows: dict[Section, dict[str, Row]] = {
        Section.ZONES: {key_of(zone): zone for zone in zones},
        Section.NODES: {node.code: NodeRow(node) for node in nodes},
    }
    return [(fault.section, fault.key, fault.field) for fault in check(rows, None).faults if not fault.warning]


@pytest.mark.parametrize(
    ("zones", "nodes", "found"),
    [
        ([Zone("Z", collect_at="N")], [Node("N", service_area=frozenset({"Z"}))], []),
        ([Zone("Z", collect_at="M")], [Node("N")], [("zones", "Z", "collect_at")]),
        ([Zone("Z", collect_at="N"), Zone("Y", collect_at="N")], [Node("N")], [("zones", "Z", "collect_at")]),
        (
            # A bad node takes its counter with it, and that the node which serves only there, and so on.
            [Zone("Z", collect_at="N"), Zone("Y", collect_at="M")],
            [Node("N", calendar="none"), Node("M", service_area=frozenset({"Z"}))],
            [("nodes", "N", "calendar"), ("zones", "Z", "collect_at"), ("nodes", "M", "service_area"),
             ("zones", "Y", "collect_at")],
        ),
    ],
)  # fmt: skip
def test_a_counter_has_a_node_and_a_node_one_counter(
    zones: list[Zone], nodes: list[Node], found: list[tuple[str, str, str]]
) -> None:
    assert faults(zones, nodes) == found


def test_no_address_is_at_a_counter() -> None:
    desk = Zone("DESK", latitude_udeg=1, longitude_udeg=1, collect_at="N")
    network = Network(zones={zone.code: zone for zone in (desk, Zone("Z", "DE", ("9",), 50_000_000, 9_000_000))})

    assert (network.zone_of("DE", "80331"), network.zone_of("DE", "90402")) == (None, "Z")
    assert network.zone_near(1, 1) == "Z"
    assert (network.zone_collected_at("N"), network.zone_collected_at("M"), network.zone_collected_at("")) == (
        "DESK", None, None)  # fmt: skip
    assert [network.collected_at(zone) for zone in ("DESK", "Z", "gone")] == ["N", "", ""]


def test_an_edition_without_counters_keeps_its_name_and_one_with_them_opens_again() -> None:
    rows: dict[Section, dict[str, Row]] = {Section.NODES: {"N": NodeRow(Node("N"))}}
    plain, parts = edition_of(check(rows | {Section.ZONES: {"Z": Zone("Z")}}, None))
    other, kept = edition_of(check(rows | {Section.ZONES: {"Z": Zone("Z", collect_at="N")}}, None))

    assert b"collect_at" not in b"".join(part.body for part in parts)
    assert opened(kept).network.zones["Z"].collect_at == "N"
    assert plain.hash != other.hash
