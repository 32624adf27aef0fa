"""The forms that many requests and answers share: texts with limits, decimals as text, cursors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from poolwise.core.catalog import Catalog
from poolwise.core.values import MILLION, Fault, Quantity, Refused, base_to_text

# They end in `\Z`: for Python, `$` is before the newline at the end of a text, too.
PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*\Z"
DECIMAL: Final = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,18})?\Z"
COUNTRY: Final = r"^[A-Z]{0,2}\Z"
CURRENCY: Final = r"^([A-Z]{3})?\Z"
HOLD: Final = r"^[A-Za-z0-9_-]{1,64}\Z"
UNLIKE: Final[Mapping[str, str]] = {
    PRINTABLE: "holds a control character",
    DECIMAL: "is not a plain decimal number as text, such as 2 or 5.5",
    COUNTRY: "is not a country code of two capital letters",
    CURRENCY: "is not a currency code of three capital letters",
    HOLD: "is not 1 to 64 letters, digits, _ and -",
}
"""What is wrong with a text that does not match a pattern."""

Text = Annotated[str, Meta(max_length=200, pattern=PRINTABLE)]
Code = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE)]
LongText = Annotated[str, Meta(max_length=1_000, pattern=PRINTABLE)]
Decimal = Annotated[
    str,
    Meta(
        pattern=DECIMAL,
        max_length=40,
        description="A plain decimal number as text, so that nothing is lost on the way.",
        examples=["2", "5.5"],
    ),
]
# No pattern here: the decoder corrupts memory where one choice is a text with a pattern and another a list.
_FactText = Annotated[str, Meta(max_length=200)]
Fact = bool | Annotated[int, Meta(ge=-(10**15), le=10**15)] | _FactText | None | list[_FactText]
Limit = Annotated[int, Meta(ge=1, le=500, description="At most so many; the cursor `next` leads to the rest.")]
Cursor = Annotated[str, Meta(max_length=1_000, description="The `next` of the page before; empty for the first page.")]

_T = TypeVar("_T")


def quantity_text(catalog: Catalog, item: str, units: Quantity) -> str:
    """Base units of an item in its own unit."""
    known = catalog.items.get(item)
    return base_to_text(units, 0 if known is None else known.scale)


def cost_text(amount: int) -> str:
    """Millionths of the costing currency as a decimal number."""
    return base_to_text(amount, len(str(MILLION)) - 1)


def to_cursor(*parts: object) -> str:
    """Where the next page begins, as one opaque word."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def from_cursor(text: str, type_: type[_T]) -> _T:
    """What `to_cursor` wrote. Refuses anything else."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, binascii.Error, UnicodeError, ValueError) as error:
        raise Refused("query_invalid", [Fault("cursor", "is not a cursor of ours")]) from error


def page_of(found: Sequence[_T], limit: int) -> tuple[Sequence[_T], bool]:
    """The first `limit` of what was found when one more was asked for, and whether there are more."""
    return found[:limit], len(found) > limit
