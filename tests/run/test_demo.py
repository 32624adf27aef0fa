"""`poolwise demo` runs from nothing to figures, and leaves a network that can be asked about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from poolwise.core.values import Refused
from poolwise.run.demo import private_folder
from poolwise.run.demo_live import Pace
from poolwise.run.demo_screen import Caption, Screen, Verdict, plain_line, sparkline
from poolwise.sim.figures import Figures

KEYS = {
    "seed", "nodes", "items", "processes", "history_days", "lived", "delivered", "orders", "lines",
    "fill_rate", "split_rate", "cost_per_order",
    "kg_co2e_per_order", "orders_per_second", "laws_broken",
}  # fmt: skip
ENDLESS_S = 240


def poolwise(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "from poolwise.run.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=ENDLESS_S,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_a_headless_run_prints_its_figures_breaks_no_law_and_can_be_explained(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    ran = poolwise("demo", "--headless", "--json", "--orders", "40", "--seed", "11", "--history", "2", "--live", "1",
                   "--data", str(folder))  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert set(figures) == KEYS
    assert (figures["orders"], figures["seed"], figures["laws_broken"]) == (40, 11, 0)
    assert figures["history_days"] == 2
    assert figures["lived"] > figures["delivered"]
    assert figures["lines"] >= 40
    assert 0.8 <= figures["fill_rate"] <= 1
    assert figures["cost_per_order"] > 0
    server = str(folder / "server")
    listed = poolwise("check", "--full", "--json", POOLWISE_DATA_FOLDER=server)
    poolwise("db", "stop", POOLWISE_DATA_FOLDER=server)
    assert json.loads(listed.stdout.splitlines()[-1])["findings"] == []


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(Refused, match="holds other files"), private_folder(tmp_path):
        pass
    assert (tmp_path / "letters.txt").read_text(encoding="utf-8") == "dear"


def test_its_own_folder_is_emptied_and_used_again(tmp_path: Path) -> None:
    with private_folder(tmp_path / "demo") as folder:
        (folder / "network").mkdir()
    with private_folder(tmp_path / "demo") as folder:
        assert not (folder / "network").exists()


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = private_folder(tmp_path / "demo"), private_folder(tmp_path / "demo")
    with first, pytest.raises(Refused, match="another demo runs"), second:
        pass


def screen(orders: int = 90) -> Screen:
    caption = Caption(7, 48, 2_000, 100, "EUR", {"LYO-DC": "regional", "PAR-S1": "last_mile"}, ("web", "store"))
    figures = Figures(
        accepted=95, orders=orders, lines=180, lines_waiting=9, split=12, waiting=4, cost=640_000_000,
        co2e_mg=81_000_000, picks={"web": 150, "store": 20}, parcels={"LYO-DC": 80, "PAR-S1": 20},
    )  # fmt: skip
    shown = Screen(caption, figures)
    for second in range(10):
        shown.moment(float(second), second * 10)
    shown.add(Verdict("SO-1001", 2, "LYO-DC", "Wed 25", "6.84", "cheapest of 9; next: MIL-DC +0.84", "one"))
    return shown


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (118, 34)])
def test_the_screen_fits_any_terminal_and_says_everything(width: int, height: int) -> None:
    console = Console(width=width, height=height, record=True, color_system=None, file=StringIO())
    console.print(screen().frame(width, height), height=height)
    lines = console.export_text().rstrip("\n").split("\n")
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for word in ("orders/s", "95.0%", "13.3%", "7.11", "0.90", "lines by pool", "parcels by echelon", "+0.84"):
        assert word in text


def test_without_a_screen_a_line_says_the_same() -> None:
    line = plain_line(screen())
    assert "90 orders" in line
    assert "fill 95.0%" in line
    assert line.endswith("SO-1001 from LYO-DC: cheapest of 9; next: MIL-DC +0.84")


def test_before_the_first_order_nothing_is_divided_by_zero() -> None:
    empty = Screen(Caption(7, 1, 1, 1, "EUR", {}, ()), Figures())
    Console(file=StringIO()).print(empty.frame(80, 24), height=24)
    assert "0 orders" in plain_line(empty)
    assert sparkline([]) == ""


def test_keys_set_the_pace() -> None:
    pace = Pace()
    for key in "++++++":
        pace.key(key)
    assert pace.speed == 3_600
    pace.key("-")
    assert pace.speed == 900
    pace.key(" ")
    assert pace.speed == 0
    pace.key(" ")
    assert pace.speed == 900
    for key in "-" * 9:
        pace.key(key)
    assert (pace.speed, pace.over) == (1, False)
    pace.key("q")
    assert pace.over
