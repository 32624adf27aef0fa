"""The type checker sees a field that does not exist, or is of another type, when a value is replaced."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.source import ROOT

TEXT = """
from poolwise.core.values import Rate, replace
from poolwise.flows.ports import Todo

def changed(todo: Todo, rate: Rate) -> tuple[Todo, Rate]:
    return replace(todo, attempt=2), replace(rate, numerator=1)

def wrong(todo: Todo, rate: Rate) -> None:
    replace(todo, atempt=2)
    replace(todo, attempt="2")
    replace(rate, numerater=1)
    replace(rate, numerator="1")
"""


@pytest.mark.slow
def test_a_field_that_is_replaced_exists_and_has_its_type(tmp_path: Path) -> None:
    path = tmp_path / "replaced.py"
    path.write_text(TEXT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(path)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    lines = [line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line]
    assert lines == ["9", "10", "11", "12"], done.stdout
