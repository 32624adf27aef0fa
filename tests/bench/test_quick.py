"""The benchmarks of speed, made small: they print what others read, and find nothing wrong. No time is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def report(name: str, *figures: str) -> dict[str, object]:
    """What a quick run prints; `figures` are numbers above zero in it."""
    command = [sys.executable, "-m", f"bench.{name}", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(done.stdout)
    assert all(found[figure] > 0 for figure in figures)
    return found


def test_a_snapshot_books_what_changed_and_a_killed_one_ends_the_same():
    found = report("feed", "snapshot_seconds", "peak_mb", "events_per_second")
    assert found["wrong"] == []
    assert found["movements"] == 200


def test_a_basket_is_answered_as_the_files_say():
    found = report("availability", "in_process_p99_ms", "http_p99_ms")
    assert found["positions"] == 2_000
    assert found["wrong"] == []


def test_every_order_that_is_answered_is_decided():
    found = report("latency", "accept_p99_ms", "decide_p99_ms", "single_per_second", "bulk_orders_per_second")
    assert found["orders"] == 100
    assert found["lost"] == 0


def test_shipments_of_every_shape_are_packed():
    found = report("cartons", "boxes")
    assert len(found["shapes"]) == 10
    assert all(0 < shape["at_least"] <= shape["boxes"] for shape in found["shapes"])
