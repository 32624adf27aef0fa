"""Writes the description of the API to docs/reference/openapi.json: `python -m poolwise.web.reference [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec

import poolwise
from poolwise.web import routes
from poolwise.web.openapi import description
from poolwise.web.operations import Measured

PLACE: Final = Path("docs/reference/openapi.json")


def text() -> str:
    """The document as it is kept."""
    endpoints = routes.endpoints(Measured(lambda: 0, lambda: 0))
    raw = msgspec.json.encode(description(endpoints, poolwise.__version__))
    return msgspec.json.format(raw, indent=2).decode() + "\n"


def main() -> None:
    """Write it."""
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
