"""What is exported can be imported: elsewhere it makes the same world, here it changes nothing."""

from __future__ import annotations

from pathlib import Path

from tests.connect.depot import FIVE_NODES, SMALL, Depot, contents, rejected, write


def test_the_example_imports_without_a_reject():
    depot = Depot()
    done = depot.take(FIVE_NODES)
    assert rejected(done) == []
    assert done.files["stock"].changed == 18
    assert len(depot.books.shelves.orders) == 8
    assert done.policies == {"default": 1}


def test_the_same_again_changes_nothing(tmp_path: Path):
    depot = Depot()
    first = depot.take(FIVE_NODES)
    depot.give(tmp_path / "before")
    events = len(depot.books.shelves.outbox)
    again = depot.take(FIVE_NODES)
    depot.give(tmp_path / "after")
    assert again.changed == 0
    assert again.edition == first.edition
    assert len(depot.books.shelves.outbox) == events
    assert contents(tmp_path / "before") == contents(tmp_path / "after")


def test_an_export_imported_where_it_comes_from_changes_nothing(tmp_path: Path):
    depot = Depot()
    depot.take(FIVE_NODES)
    depot.give(tmp_path / "one")
    done = depot.take(tmp_path / "one")
    assert (rejected(done), done.changed) == ([], 0)
    depot.give(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_export_imported_elsewhere_makes_the_same_world(tmp_path: Path):
    here, there = Depot(), Depot()
    first = here.take(FIVE_NODES)
    here.give(tmp_path / "one")
    done = there.take(tmp_path / "one")
    assert (rejected(done), done.edition) == ([], first.edition)
    there.give(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_names_that_the_api_takes_come_back(tmp_path: Path):
    here, there = Depot(), Depot()
    name = "a name, of " + "x" * 189
    orders = f'order,channel,zone,customer,item,quantity,together\n"{name}",a shop,Z,"{name}",A,1,"{name}"\n'
    receipts = f'reference,item,node,pool,quantity,due_on,lot\n"{name}",A,N,P,10,2026-08-10,"{name}"\n'
    stock = f'item,node,pool,quantity,as_of,lot\nA,N,P,5,2026-08-01T10:00:00Z,"{name}"\n'
    told = {**SMALL, "orders.csv": orders, "receipts.csv": receipts, "stock.csv": stock}
    assert rejected(here.take(write(tmp_path / "in", told))) == []
    here.give(tmp_path / "one")
    assert rejected(there.take(tmp_path / "one")) == []
    there.give(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert all(name in contents(tmp_path / "two")[file] for file in ("orders.csv", "receipts.csv", "stock.csv"))


def test_what_has_arrived_is_not_counted_twice(tmp_path: Path):
    here, there = Depot(), Depot()
    receipts = "reference,item,node,pool,quantity,due_on,arrived,sequence\nPO,A,N,P,10,2026-08-10,4,1\n"
    here.take(write(tmp_path / "in", {**SMALL, "receipts.csv": receipts}))
    here.give(tmp_path / "one")
    there.take(tmp_path / "one")
    there.give(tmp_path / "two")
    assert "A,N,P,4," in contents(tmp_path / "one")["stock.csv"]
    assert contents(tmp_path / "one")["stock.csv"] == contents(tmp_path / "two")["stock.csv"]


def test_jsonl_says_the_same_as_csv(tmp_path: Path):
    lines = '{"item": "A", "node": "N", "pool": "P", "quantity": 5, "as_of": "2026-08-01T00:00:00Z", "sequence": 3}\n'
    plain = "item,node,pool,quantity,as_of,sequence\nA,N,P,5,2026-08-01T00:00:00Z,3\n"
    one, two = Depot(), Depot()
    one.take(write(tmp_path / "one", {**SMALL, "stock.jsonl": lines}))
    two.take(write(tmp_path / "two", {**SMALL, "stock.csv": plain}))
    one.give(tmp_path / "a")
    two.give(tmp_path / "b")
    assert contents(tmp_path / "a")["stock.csv"] == contents(tmp_path / "b")["stock.csv"]


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path):
    depot = Depot()
    stock = "item,node,pool,quantity,as_of\r\nA,N,P,5,2026-08-01T00:00:00Z\r\n"
    done = depot.take(write(tmp_path, {**SMALL, "stock.csv": b"\xef\xbb\xbf" + stock.encode()}))
    assert (rejected(done), done.files["stock"].changed) == ([], 1)
