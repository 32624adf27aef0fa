"""Reference pages are generated: what is committed is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwise.run.cli import app
from poolwise.run.reference import pages

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(pages(app)))
def test_the_committed_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == pages(app)[name], "run: make docs"
