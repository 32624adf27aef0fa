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


def test_a_short_is_sourced_again_elsewhere_and_no_event_is_lost_on_the_stream():
    found = report("doorstep", "pgbench_s_ms")
    assert (found["orders"], found["shorts"]) == (100, 2)
    assert (found["refused"], found["backordered"], found["lost"], found["doubled"], found["wrong"]) == (0, 0, 0, 0, 0)
    figures = ("short_to_sourced", "accepted_to_stream", "sourced_to_stream", "accepted_to_sourced")
    assert all(found[f"{figure}_ms"]["median"]["max"] > 0 for figure in figures)


def test_a_history_of_many_lives_is_lawful():
    found = report("history", "first_over_last", "first_over_last_of_fresh")
    few, many = found["movements"]
    assert 2_500 <= few < 5_000 <= many
    assert [len(found[each]) for each in ("rates", "fresh_rates", "idle_worker_rss_mb")] == [2, 2, 2]
    few, many = found["open_orders"]
    assert few == 100
    assert many >= 1_000
    assert found["laws_broken"] == []


def test_a_relay_loses_and_doubles_nothing():
    found = report("webhooks", "drained_per_second", "arrived_p99_ms", "relay_cpu_ms_per_event")
    assert (found["lost"], found["doubled"]) == (0, 0)
