"""`--complete`: what is not named is gone - but only then, and never something newer."""

from __future__ import annotations

from pathlib import Path

from poolwise.core.ledger import Account
from poolwise.flows.masterdata import in_force
from tests.connect.depot import SMALL, Depot, rejected, write

HEADER = "item,node,pool,quantity,as_of"
FIRST = f"{HEADER}\nA,N,P,5,2026-08-01T00:00:00Z\nB,N,P,6,2026-08-01T00:00:00Z\nA,M,P,7,2026-08-01T00:00:00Z\n"
SECOND = f"{HEADER}\nA,N,P,5,2026-08-02T00:00:00Z\n"


def stock(depot: Depot) -> dict[tuple[str, str], int]:
    return {
        (each.key.item, each.key.node): each.balance(Account.AVAILABLE)
        for each in depot.books.shelves.positions.values()
    }


def test_absent_rows_mean_nothing(tmp_path: Path):
    depot = Depot()
    depot.take(write(tmp_path / "1", {**SMALL, "stock.csv": FIRST}))
    depot.take(write(tmp_path / "2", {"items.csv": "item,scale\nA,0\n", "stock.csv": SECOND}))
    edition = in_force(depot.editions)
    assert edition is not None
    assert sorted(edition.catalog.items) == ["A", "B", "G"]
    assert stock(depot) == {("A", "N"): 5, ("B", "N"): 6, ("A", "M"): 7}


def test_a_complete_directory_removes_master_data_it_does_not_name(tmp_path: Path):
    depot = Depot()
    depot.take(write(tmp_path / "1", SMALL))
    depot.take(write(tmp_path / "2", {"items.csv": "item,scale\nA,0\nB,0\n"}), complete=True)
    edition = in_force(depot.editions)
    assert edition is not None
    assert (sorted(edition.catalog.items), sorted(edition.network.nodes)) == (["A", "B"], ["M", "N"])


def test_a_file_with_an_unreadable_row_removes_nothing(tmp_path: Path):
    depot = Depot()
    depot.take(write(tmp_path / "1", SMALL))
    done = depot.take(write(tmp_path / "2", {"items.csv": "item,scale\nA,x\n"}), complete=True)
    assert rejected(done) == [("items", 2, "scale")]
    edition = in_force(depot.editions)
    assert edition is not None
    assert sorted(edition.catalog.items) == ["A", "B", "G"]


def test_a_complete_snapshot_empties_what_it_does_not_name_at_its_nodes(tmp_path: Path):
    depot = Depot()
    depot.take(write(tmp_path / "1", {**SMALL, "stock.csv": FIRST}))
    done = depot.take(write(tmp_path / "2", {"stock.csv": SECOND}), complete=True)
    assert done.files["stock"].changed == 1
    assert stock(depot) == {("A", "N"): 5, ("B", "N"): 0, ("A", "M"): 7}
