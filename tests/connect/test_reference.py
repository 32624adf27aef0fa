"""The reference page says what the code does, and every example in it is one that the code takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwise.connect.directory.columns import Column, File
from poolwise.connect.directory.master import MASTER_FILES
from poolwise.connect.directory.messages import MESSAGE_FILES
from poolwise.connect.directory.reference import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "network-directory.md"
FILES = [*MASTER_FILES.values(), *MESSAGE_FILES.values()]
COLUMNS = [(file, column) for file in FILES for column in file.columns]


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "write it again: poolwise docs"


@pytest.mark.parametrize(("file", "column"), COLUMNS, ids=[f"{file.name}.{column.name}" for file, column in COLUMNS])
def test_examples_and_defaults_are_what_the_column_takes(file: File, column: Column):
    for text in (column.example, column.default):
        if text:
            assert column.kind.write(column.kind.read(text))
