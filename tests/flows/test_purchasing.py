"""What is bought of a supplier: its lines, and what of them is not known."""

from __future__ import annotations

from poolwise.core.catalog import Catalog, Item
from poolwise.core.edition.build import Edition
from poolwise.core.network import Echelon, Lane, Network, Node, Partner, Zone
from poolwise.core.values import MILLION, Rate
from poolwise.flows.purchasing import number_of, purchase_lines, sent_to, shipment_of, total_of

ITEMS = {"A": Item("A", unit_cost=Rate(25, 1)), "B": Item("B"), "C": Item("C", scale=3, unit_cost=Rate(4))}
REFERENCES = {
    ("sku", "acme", "A-2"): "A",
    ("ean", "acme", "A-1"): "A",
    ("sku", "other", "O"): "B",
    ("ean", "", "E"): "C",
}
NODES = {
    "OWN": Node("OWN"),
    "SITE": Node("SITE", echelon=Echelon.SUPPLIER, partner="acme"),
    "DEPOT": Node("DEPOT", partner="acme"),
    "3PL": Node("3PL", partner="nord"),
    "NOBODYS": Node("NOBODYS", echelon=Echelon.SUPPLIER),
}
PARTNERS = {"acme": Partner("acme", kind="supplier"), "nord": Partner("nord", kind="3pl")}
LANES = {"out": Lane("out", "SITE", "Z", "r"), "hub": Lane("hub", "SITE", "OWN", "r", to_node=True)}
ZONES = {"Z": Zone("Z"), "DESK": Zone("DESK", collect_at="OWN")}
EDITION = Edition(
    "e", Network(nodes=NODES, partners=PARTNERS, lanes=LANES, zones=ZONES), Catalog(ITEMS, cross_references=REFERENCES)
)


def test_what_has_no_cost_has_no_amount_and_no_total() -> None:
    lines = purchase_lines(EDITION, "acme", {"C": 1_500, "B": 2, "A": 3})

    assert [(line.item, line.identifier, line.quantity, line.amount) for line in lines] == [
        ("A", "A-1", 3, 7_500_000), ("B", "", 2, None), ("C", "", 1_500, 6 * MILLION)]  # fmt: skip
    assert (total_of(lines), total_of([lines[0], lines[2]])) == (None, 13_500_000)


def test_what_is_bought_is_what_a_supplier_has() -> None:
    assert {node: EDITION.network.supplier_of(node) for node in (*NODES, "GONE")} == {
        "OWN": "", "SITE": "acme", "DEPOT": "acme", "3PL": "", "NOBODYS": "", "GONE": ""}  # fmt: skip


def test_it_goes_to_the_customer_unless_a_node_of_ours_passes_it_on() -> None:
    ways = (("Z", ("out",)), ("Z", ("hub", "x")), ("DESK", ("gone",)))
    assert [sent_to(EDITION, zone, lanes) for zone, lanes in ways] == ["", "OWN", "OWN"]


def test_a_number_names_order_and_shipment() -> None:
    assert shipment_of(number_of("SO-1", 20_001)) == ("SO-1", 20_001)
    assert [shipment_of(text) for text in ("SO", "-1", "SO-", "SO-x", "SO-²", "SO-" + "9" * 20)] == [None] * 6
