"""The reference page of the network directory, written from the specifications of its files."""

from __future__ import annotations

from collections.abc import Iterator

from poolwise.connect.directory.columns import Column, File
from poolwise.connect.directory.master import ENVELOPE, MASTER_FILES
from poolwise.connect.directory.messages import MESSAGE_FILES

INTRODUCTION = """\
# The network directory

*Written by `poolwise docs` from the code that reads the files. Do not edit.*

A network directory is a folder with one file for each kind of data. `poolwise import DIR` takes what is there;
`poolwise export DIR` writes all of it. [A small example](../../examples/five-nodes/README.md) shows every file.

* A file is either `NAME.csv` or `NAME.jsonl`. CSV is UTF-8 (a byte order mark does no harm), separated by commas,
  with a header; columns may stand in any order, and those that are not required may be left out. JSONL has one object
  a line; lists stand for what CSV separates by spaces.
* An unknown or missing column refuses the whole file. Any other mistake refuses its row only: the reject file gives
  file, row, field and reason of each, and the good rows are booked.
* The same again changes nothing. An import that was interrupted goes on where it was.
* Rows that are not there mean nothing, unless `--complete` says that they are all there are.
* Policies are YAML: `policy.yaml`, or several files in the folder `policy`. What they may say is in the
  [guide to policies](../how-to/policy.md).

Every file of master data may end in two more columns, which say how new a row is:
"""


def page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, *_table(ENVELOPE), ""]
    files = [*MASTER_FILES.values(), *MESSAGE_FILES.values()]
    parts.append("Files: " + " · ".join(f"[{file.name}](#{file.name})" for file in files))
    for file in files:
        parts += ["", *_section(file)]
    return "\n".join(parts) + "\n"


def _section(file: File) -> Iterator[str]:
    yield f"## {file.name}"
    yield ""
    yield file.meaning
    yield ""
    if file.key:
        keys = ", ".join(f"`{name}`" for name in file.key)
        yield f"Two rows differ in {keys}." if len(file.key) == 1 else f"Two rows differ in one of {keys}."
        yield ""
    yield from _table(column for column in file.columns if column not in ENVELOPE)
    if file.notes:
        yield ""
        yield file.notes


def _table(columns: Iterator[Column] | tuple[Column, ...]) -> Iterator[str]:
    yield "| column | form | | meaning | unit | example |"
    yield "|---|---|---|---|---|---|"
    for column in columns:
        need = "required" if column.required else f"default `{column.default}`" if column.default else ""
        example = f"`{column.example}`" if column.example else ""
        cells = (f"`{column.name}`", column.kind.form, need, column.meaning, column.unit, example)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
