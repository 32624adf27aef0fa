"""Whatever is in a file, it is refused by row, field and reason, the rest is booked, and nothing else happens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from poolwise.connect.directory.importing import Imported
from poolwise.connect.directory.kinds import LONGEST_CODE
from poolwise.connect.directory.reading import LONGEST_FIELD
from poolwise.core.values import Refused
from tests.connect.depot import SMALL, Depot, rejected, write

STOCK = "item,node,pool,quantity,as_of,sequence,basis,expires_on,lot"
RECEIPTS = "reference,item,node,pool,quantity,due_on,arrived,cancelled,sequence"
ORDERS = "order,channel,zone,country,postcode,item,quantity,unit_price,priority,requested_date,max_shipments,facts,pack"
BOX = "node,box,length_cm,width_cm,height_cm,max_weight_kg,fill,tare_kg"
AT = "2026-08-01T00:00:00Z"
HUGE = "9" * 30
LONG = "x" * (LONGEST_CODE + 1)


def take(tmp_path: Path, files: Mapping[str, str | bytes | None]) -> tuple[Depot, Imported]:
    """Import the smallest network with other files; None leaves one out."""
    depot = Depot()
    there = {name: text for name, text in {**SMALL, **files}.items() if text is not None}
    return depot, depot.take(write(tmp_path, there))


# file, header, bad row, field: the row is refused for that field and no other.
BAD_ROWS: list[tuple[str, str, str, str]] = [
    ("network", "currency", "euro", "currency"),
    ("exchange_rates", "currency,since,rate", "USD,2026-01-01,0", "rate"),
    ("exchange_rates", "currency,since,rate", "USD,2026-01-01,NaN", "rate"),
    ("exchange_rates", "currency,since,rate", "USD,01.02.2026,1", "since"),
    ("exchange_rates", "currency,since,rate", "USD,2026-02-30,1", "since"),
    ("exchange_rates", "currency,since,rate", "EUR,2026-01-01,1", "currency"),
    ("exchange_rates", "currency,since,rate", f"USD,2026-01-01,{HUGE}", "rate"),
    ("partners", "partner,name", ",x", "partner"),
    ("partners", "partner,name", "a b,x", "partner"),
    ("partners", "partner,name", f"{LONG},x", "partner"),
    ("partners", "partner,name", "a,x\x07y", "name"),
    ("calendars", "calendar,working_days", "c,Monday", "working_days"),
    ("calendars", "calendar,holidays", "c,DE", "holiday_years"),
    ("calendars", "calendar,holidays,holiday_years", "c,XX,2026", "holidays"),
    ("calendars", "calendar,holidays,holiday_years", "c,DE,2026-2126", "holiday_years"),
    ("calendars", "calendar,closed", "c,2026-13-01", "closed"),
    ("zones", "zone,country", "Y,Germany", "country"),
    ("zones", "zone,latitude", "Y,91", "latitude"),
    ("zones", "zone,latitude", "Y,1e3", "latitude"),
    ("zones", "zone,time_zone", "Y,Middle/Earth", "time_zone"),
    ("zones", "zone,cell", "Y,40000", "cell"),
    ("nodes", "node,echelon", "X,galactic", "echelon"),
    ("nodes", "node,status", "X,gone", "status"),
    ("nodes", "node,cut_off", "X,25:00", "cut_off"),
    ("nodes", "node,cut_off", "X,3pm", "cut_off"),
    ("nodes", "node,calendar", "X,none", "calendar"),
    ("nodes", "node,partner", "X,none", "partner"),
    ("nodes", "node,service_area", "X,Z none", "service_area"),
    ("nodes", "node,cost_per_line", "X,-1", "cost_per_line"),
    ("nodes", "node,cost_per_line", "X,1.", "cost_per_line"),
    ("nodes", "node,cost_per_line,currency", "X,1,USD", "currency"),
    ("nodes", "node,handling_days", "X,1.5", "handling_days"),
    ("nodes", "node,changed_at", "X,2026-01-01T00:00:00", "changed_at"),
    ("nodes", "node,sequence", "X,-1", "sequence"),
    ("pools", "pool,protection", "X,-1", "protection"),
    ("pools", "pool,protection", f"X,{HUGE}", "protection"),
    ("pools", "pool,zones", "X,none", "zones"),
    ("rates", "rates,above_kg,up_to_kg", "S,5,5", "up_to_kg"),
    ("rates", "rates,above_kg,up_to_kg", "R,5,20", "above_kg"),
    ("rates", "rates,up_to_kg", "S,0", "up_to_kg"),
    ("rates", "rates,up_to_kg,fixed", "S,1,Infinity", "fixed"),
    ("lanes", "lane,origin,destination,rates", "X,none,Z,R", "origin"),
    ("lanes", "lane,origin,destination,rates", "X,N,none,R", "destination"),
    ("lanes", "lane,origin,destination,rates", "X,N,Z,none", "rates"),
    ("lanes", "lane,origin,destination,rates,to_node", "X,N,N,R,true", "destination"),
    ("lanes", "lane,origin,destination,rates,to_node", "X,N,Z,R,true", "destination"),
    ("lanes", "lane,origin,destination,rates,to_node", "X,N,Z,R,maybe", "to_node"),
    ("lanes", "lane,origin,destination,rates,transit", "X,N,Z,R,1:0.5 2:0.4", "transit"),
    ("lanes", "lane,origin,destination,rates,transit", "X,N,Z,R,1:0.5 1:0.5", "transit"),
    ("lanes", "lane,origin,destination,rates,transit", "X,N,Z,R,1:1.5 2:-0.5", "transit"),
    ("lanes", "lane,origin,destination,rates,transit", "X,N,Z,R,fast", "transit"),
    ("lanes", "lane,origin,destination,rates,calendar", "X,N,Z,R,none", "calendar"),
    ("lanes", "lane,origin,destination,rates,distance_km", "X,N,Z,R,-5", "distance_km"),
    ("capacities", "node,unit,limit", "none,orders,5", "node"),
    ("capacities", "node,unit,limit", "N,hugs,5", "unit"),
    ("capacities", "node,unit,limit", "N,orders,5.5", "limit"),
    ("capacities", "node,unit,limit,since,until", "N,orders,5,12:00,09:00", "until"),
    ("capacities", "node,unit,limit,slot", "N,orders,5,100", "slot"),
    ("items", "item,scale", "X,7", "scale"),
    ("items", "item,weight_kg", "X,-1", "weight_kg"),
    ("items", "item,weight_kg", "X,0.0000000001", "weight_kg"),
    ("items", "item,weight_kg", "X,heavy", "weight_kg"),
    ("items", "item,unit_cost,currency", "X,1,USD", "currency"),
    ("packs", "item,pack,contains", "none,case,12", "item"),
    ("packs", "item,pack,contains", "A,case,0", "contains"),
    ("packs", "item,pack,contains", "A,each,1", "pack"),
    ("packs", "item,pack,contains", "A,case,999999999999999", "contains"),
    ("boxes", BOX, "none,S,20,15,10,5,0.8,0", "node"),
    ("boxes", BOX, ",,20,15,10,5,0.8,0", "box"),
    ("boxes", BOX, ",S,0,15,10,5,0.8,0", "length_cm"),
    ("boxes", BOX, ",S,20,-1,10,5,0.8,0", "width_cm"),
    ("boxes", BOX, ",S,20,15,,5,0.8,0", "height_cm"),
    ("boxes", BOX, ",S,20,15,10,0,0.8,0", "max_weight_kg"),
    ("boxes", BOX, ",S,20,15,10,5,0,0", "fill"),
    ("boxes", BOX, ",S,20,15,10,5,1.01,0", "fill"),
    ("boxes", BOX, ",S,20,15,10,5,0.8,-1", "tare_kg"),
    ("bills", "kit,item,quantity", "none,A,1", "kit"),
    ("bills", "kit,item,quantity", "A,none,1", "item"),
    ("bills", "kit,item,quantity", "A,B,0.5", "quantity"),
    ("bills", "kit,item,quantity", "A,A,1", "item"),
    ("substitutions", "item,substitute", "A,none", "substitute"),
    ("substitutions", "item,substitute", "A,A", "substitute"),
    ("substitutions", "item,substitute,quantity", "A,B,-1", "quantity"),
    ("cross_references", "scheme,identifier,item", "gtin,4006381333930,A", "identifier"),
    ("cross_references", "scheme,identifier,item", "gtin,123,A", "identifier"),
    ("cross_references", "scheme,identifier,item", "sku,1,none", "item"),
    ("cross_references", "scheme,partner,identifier,item", "sku,none,1,A", "partner"),
    ("stock", STOCK, f"none,N,P,1,{AT},,,,", "item"),
    ("stock", STOCK, f"A,none,P,1,{AT},,,,", "node"),
    ("stock", STOCK, f"A,N,none,1,{AT},,,,", "pool"),
    ("stock", STOCK, f"A,N,P,-1,{AT},,,,", "quantity"),
    ("stock", STOCK, f"A,N,P,1.5,{AT},,,,", "quantity"),
    ("stock", STOCK, f"A,N,P,NaN,{AT},,,,", "quantity"),
    ("stock", STOCK, f"A,N,P,{HUGE},{AT},,,,", "quantity"),
    ("stock", STOCK, f"A,N,P,9999999999999,{AT},,,,", "quantity"),
    ("stock", STOCK, f"A,N,P,,{AT},,,,", "quantity"),
    ("stock", STOCK, "A,N,P,1,yesterday,,,,", "as_of"),
    ("stock", STOCK, "A,N,P,1,2026-08-01T00:00:00,,,,", "as_of"),
    ("stock", STOCK, "A,N,P,1,2099-01-01T00:00:00Z,,,,", "as_of"),
    ("stock", STOCK, f"A,N,P,1,{AT},1.5,,,", "sequence"),
    ("stock", STOCK, f"A,N,P,1,{AT},,gross,,", "basis"),
    ("stock", STOCK, f"A,N,P,1,{AT},,,soon,", "expires_on"),
    ("stock", STOCK, f"A,N,P,1,{AT},,,,~available", "lot"),
    ("receipts", RECEIPTS, "PO,none,N,P,1,2026-09-01,,,", "item"),
    ("receipts", RECEIPTS, "PO,A,N,P,-1,2026-09-01,,,", "quantity"),
    ("receipts", RECEIPTS, "PO,A,N,P,1.5,2026-09-01,,,", "quantity"),
    ("receipts", RECEIPTS, "PO,A,N,P,1,tomorrow,,,", "due_on"),
    ("receipts", RECEIPTS, "PO,A,N,P,1,2026-09-01,x,,", "arrived"),
    ("receipts", RECEIPTS, "PO,A,N,P,1,2026-09-01,,perhaps,", "cancelled"),
    ("receipts", RECEIPTS, ",A,N,P,1,2026-09-01,,,", "reference"),
    ("orders", ORDERS, "S,web,Z,,,none,1,,,,,,", "item"),
    ("orders", ORDERS, "S,web,Z,,,A,0,,,,,,", "quantity"),
    ("orders", ORDERS, "S,web,Z,,,A,1.5,,,,,,", "quantity"),
    ("orders", ORDERS, "S,web,Z,,,A,-1,,,,,,", "quantity"),
    ("orders", ORDERS, f"S,web,Z,,,A,{HUGE},,,,,,", "quantity"),
    ("orders", ORDERS, "S,web,none,,,A,1,,,,,,", "zone"),
    ("orders", ORDERS, "S,web,,FR,75001,A,1,,,,,,", "postcode"),
    ("orders", ORDERS, "S,,Z,,,A,1,,,,,,", "channel"),
    ("orders", ORDERS, ",web,Z,,,A,1,,,,,,", "order"),
    ("orders", ORDERS, "S,web,Z,,,A,1,1.234,,,,,", "unit_price"),
    ("orders", ORDERS, "S,web,Z,,,A,1,,1000,,,,", "priority"),
    ("orders", ORDERS, "S,web,Z,,,A,1,,,soon,,,", "requested_date"),
    ("orders", ORDERS, "S,web,Z,,,A,1,,,,0,,", "max_shipments"),
    ("orders", ORDERS, "S,web,Z,,,A,1,,,,,[1],", "facts"),
    ("orders", ORDERS, "S,web,Z,,,A,1,,,,,,crate", "quantity"),
]
GOOD_ROW = {
    "network": None,
    "stock": f"A,M,P,1,{AT},,,,",
    "receipts": "PO-GOOD,A,M,P,1,2026-09-01,,,",
    "orders": "GOOD,web,Z,,,A,1,,,,,,",
}


@pytest.mark.parametrize(("file", "header", "row", "field"), BAD_ROWS)
def test_a_bad_row_is_refused_for_its_field_and_changes_nothing(
    file: str, header: str, row: str, field: str, tmp_path: Path
):
    base = SMALL.get(f"{file}.csv")
    text = f"{header}\n{row}\n"
    if base and file != "network":
        # The bad row stands among the good ones of the network, under their columns and its own.
        text = merged(base, header, row)
    depot, done = take(tmp_path, {f"{file}.csv": text})
    line = len(text.splitlines())
    assert rejected(done) == [(file, line, field)]
    clean, expected = take(tmp_path / "clean", {"network.csv": None} if file == "network" else {})
    assert done.edition == expected.edition
    assert depot.books.shelves.positions == clean.books.shelves.positions
    assert not depot.books.shelves.orders


def merged(base: str, header: str, row: str) -> str:
    """The file of the network with a row of other columns added."""
    names = base.splitlines()[0].split(",")
    all_names = list(dict.fromkeys([*names, *header.split(",")]))
    rows = [dict(zip(names, line.split(","), strict=True)) for line in base.splitlines()[1:]]
    rows.append(dict(zip(header.split(","), row.split(","), strict=True)))
    return (
        "\n".join([",".join(all_names), *(",".join(each.get(name, "") for name in all_names) for each in rows)]) + "\n"
    )


@pytest.mark.parametrize("file", ["stock", "receipts", "orders"])
@pytest.mark.parametrize("damage", ["too few", "too many", "no utf-8", "unclosed quote"])
def test_a_damaged_row_does_not_hinder_the_good_ones_before_it(file: str, damage: str, tmp_path: Path):
    header = {"stock": STOCK, "receipts": RECEIPTS, "orders": ORDERS}[file]
    good = GOOD_ROW[file]
    assert good
    other = good.replace("GOOD", "BAD").replace(",M,", ",N,")
    bad = {
        "too few": other[:-3].encode(),
        "too many": other.encode() + b",1,2",
        "no utf-8": other.encode().replace(b"A", b"\xff\xfe", 1)
        if file != "orders"
        else other.encode()[:-1] + b"\xe9,",
        "unclosed quote": b'"' + other.encode(),
    }[damage]
    content = f"{header}\n{good}\n".encode() + bad + b"\n"
    _, done = take(tmp_path, {f"{file}.csv": content})
    assert {(found[0], found[1]) for found in rejected(done)} <= {(file, 3), (file, 2)}
    assert done.files[file].rejected
    if file != "orders":
        assert done.files[file].changed == 1


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("stock.csv", b"", "is empty"),
    ("stock.csv", "item,node\n".encode("utf-16"), "UTF-16"),
    ("stock.csv", b"item;node;pool;quantity;as_of\n", "not separated by commas"),
    ("stock.csv", b"item,node,pool,quantity\nA,N,P,1\n", "no column 'as_of'"),
    ("stock.csv", b"item,node,pool,qantity,as_of\nA,N,P,1,x\n", "is it 'quantity'?"),
    ("stock.csv", b"item,item,node,pool,quantity,as_of\n", "twice"),
    ("nodes.csv", b'"node\n', "header cannot be read"),
    ("nodes.csv", b"name\nx\n", "no column 'node'"),
    ("wharves.csv", b"wharf\n1\n", "no file of a network directory"),
    ("policy.yaml", b"code: x\ncode: y\n", "twice"),
    ("policy.yaml", b"code: [", "is no YAML"),
    ("policy.yaml", b"\xff", "UTF-8"),
    ("policy.yaml", b"code: x\nfoo: 1\n", "foo"),
]


@pytest.mark.parametrize(("name", "content", "reason"), BAD_FILES)
def test_a_file_that_cannot_be_trusted_is_refused_whole(name: str, content: bytes, reason: str, tmp_path: Path):
    _, done = take(tmp_path, {name: content})
    assert [reject for reject in done.rejects if reject.row == 0 and reason in f"{reject.field} {reject.reason}"]


def test_two_forms_of_a_file_are_refused(tmp_path: Path):
    _, done = take(tmp_path, {"stock.csv": f"{STOCK}\n", "stock.jsonl": ""})
    assert [("stock", 0, "")] == rejected(done)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("[1]", ""),
        ("{", ""),
        ('{"item": NaN}', ""),
        ('{"item": "A", "node": "N", "pool": "P", "quantity": 1, "as_of": "2026-08-01T00:00:00Z", "x": 1}', "x"),
        ('{"item": "A", "node": "N", "pool": "P", "quantity": true, "as_of": "2026-08-01T00:00:00Z"}', "quantity"),
        ('{"item": "A", "node": "N", "pool": "P", "quantity": 1e400, "as_of": "2026-08-01T00:00:00Z"}', "quantity"),
        ('{"item": "A", "node": "N", "pool": "P", "quantity": 1}', "as_of"),
        ('{"item": {"a": 1}, "node": "N", "pool": "P", "quantity": 1, "as_of": "2026-08-01T00:00:00Z"}', "item"),
        ("[" * 100_000, ""),
    ],
)
def test_a_bad_line_of_json_is_refused(line: str, field: str, tmp_path: Path):
    good = '{"item": "A", "node": "N", "pool": "P", "quantity": 0.0, "as_of": "2026-08-01T00:00:00Z"}'
    _, done = take(tmp_path, {"stock.jsonl": f"{line}\n\n{good}\n"})
    assert [(found[1], found[2]) for found in rejected(done)] == [(1, field)]
    assert done.files["stock"].rows == 2


def test_a_huge_field_ends_the_file_but_not_the_import(tmp_path: Path):
    stock = f"{STOCK}\nA,N,P,1,{AT},,,,\n" + "B" * (LONGEST_FIELD + 1) + f",N,P,1,{AT},,,,\n"
    _, done = take(tmp_path, {"stock.csv": stock})
    assert rejected(done) == [("stock", 3, "")]
    assert done.files["stock"].changed == 1


def test_rows_are_numbered_by_the_line_on_which_they_begin(tmp_path: Path):
    partners = 'partner,name\na,"one\ntwo"\nb,\n\nc c,\n'
    _, done = take(tmp_path, {"partners.csv": partners})
    assert rejected(done) == [("partners", 2, "name"), ("partners", 6, "partner")]


def test_a_cycle_of_kits_is_broken_where_it_closes(tmp_path: Path):
    _, done = take(tmp_path, {"bills.csv": "kit,item,quantity\nA,B,1\nB,G,1\nG,A,1\n"})
    assert rejected(done) == [("bills", 4, "item")]


def test_a_row_that_hangs_on_a_bad_row_is_bad_too(tmp_path: Path):
    nodes = "node,cost_per_line\nN,1\nM,-1\n"
    lanes = "lane,origin,destination,rates\nL,N,Z,R\nK,M,Z,R\n"
    _, done = take(tmp_path, {"nodes.csv": nodes, "lanes.csv": lanes})
    assert rejected(done) == [("nodes", 3, "cost_per_line"), ("lanes", 3, "origin")]


def test_the_same_key_twice_is_refused_unless_it_says_the_same(tmp_path: Path):
    _, done = take(tmp_path, {"nodes.csv": "node,name\nN,\nM,\nM,\nN,other\n"})
    assert rejected(done) == [("nodes", 5, "")]


def test_a_zone_nobody_reaches_is_a_warning(tmp_path: Path):
    _, done = take(tmp_path, {"zones.csv": "zone,country\nZ,DE\nY,FR\n"})
    assert [(reject.row, reject.warning) for reject in done.rejects] == [(3, True)]
    assert (done.rejected, done.warnings) == (0, 1)


def test_an_order_with_one_bad_row_is_not_taken_at_all(tmp_path: Path):
    orders = "order,channel,zone,item,quantity\nS1,web,Z,A,1\nS1,,,B,x\nS2,web,Z,A,1\nS2,app,,B,1\nS3,web,Z,A,1\n"
    depot, done = take(tmp_path, {"orders.csv": orders})
    assert rejected(done) == [("orders", 3, "quantity"), ("orders", 5, "channel")]
    assert [record.order.number for record in depot.books.shelves.orders.values()] == ["S3"]


def test_a_directory_that_is_none_is_refused(tmp_path: Path):
    for directory, code in ((tmp_path / "none", "directory_missing"), (tmp_path, "directory_empty")):
        with pytest.raises(Refused) as refused:
            Depot().take(directory)
        assert refused.value.code == code


def test_the_reject_file_has_file_row_field_and_reason(tmp_path: Path):
    directory = write(tmp_path / "in", {**SMALL, "stock.csv": f"{STOCK}\nA,N,P,x,{AT},,,,\n"})
    path = tmp_path / "out" / "rejects.csv"
    Depot().take(directory, reject_path=path)
    assert path.read_text().splitlines() == [
        "file,row,field,reason,kind",
        "stock,2,quantity,'x' is not a plain decimal number (at most 15 digits before and 18 after the point),rejected",
    ]
    write(directory, {"stock.csv": f"{STOCK}\n"})
    Depot().take(directory, reject_path=path)
    assert not path.exists()


def test_a_dry_run_keeps_nothing(tmp_path: Path):
    directory = write(tmp_path, {**SMALL, "stock.csv": f"{STOCK}\nA,N,P,1,{AT},,,,\nB,N,P,x,{AT},,,,\n"})
    depot = Depot()
    done = depot.take(directory, dry_run=True)
    assert rejected(done) == [("stock", 3, "quantity")]
    assert depot.editions.in_force() == ""
    assert not depot.books.shelves.positions
