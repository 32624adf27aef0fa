"""Take plain lines to pieces as arrays: no object for a field, and one look at what many rows in a row say alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

UNKNOWN: Final = -1
LONGEST_TEXT: Final = 64
"""Bytes of a field that is looked up."""
LONGEST_WHOLE: Final = 12
"""Digits of a whole number that surely is a lawful quantity."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A column: where in `data` each of its fields begins, and how long it is, in bytes."""

    data: NDArray[np.uint8]
    starts: Ints
    lengths: Ints

    def look_up(self, number: Callable[[bytes], int]) -> Ints:
        """What `number` says of each field, asked once where fields that follow one another are the same.

        It is UNKNOWN of a field that is longer than LONGEST_TEXT.
        """
        texts = self._texts(LONGEST_TEXT)
        first = np.ones(len(texts), bool)
        first[1:] = texts[1:] != texts[:-1]
        (heads,) = np.nonzero(first)
        found = np.fromiter(map(number, texts[heads].tolist()), np.int64, len(heads))
        found = np.repeat(found, np.diff(heads, append=len(texts)))
        found[self.lengths > LONGEST_TEXT] = UNKNOWN
        return found

    def whole_numbers(self, nothing: int = UNKNOWN) -> tuple[Ints, Flags]:
        """The fields as whole numbers, `nothing` where one is empty; and which of them are numbers, or empty."""
        digits = _bytes_of(self._texts(LONGEST_WHOLE)) - np.uint8(ord("0"))
        inside = np.arange(digits.shape[1]) < self.lengths[:, None]
        numbers = np.zeros(len(digits), np.int64)
        for place in range(digits.shape[1]):
            numbers = np.where(inside[:, place], numbers * 10 + digits[:, place], numbers)
        numbers[self.lengths == 0] = nothing
        return numbers, np.all((digits <= 9) | ~inside, axis=1) & (self.lengths <= LONGEST_WHOLE)

    def text(self, place: int) -> str:
        """The field at a place; a byte that is no UTF-8 is a lone surrogate."""
        start = self.starts[place]
        return self.data[start : start + self.lengths[place]].tobytes().decode(errors="surrogateescape")

    def _texts(self, longest: int) -> NDArray[np.bytes_]:
        """The fields, side by side; of those that are longer than `longest` the beginning."""
        width = max(1, min(longest, int(self.lengths.max(initial=0))))
        everywhere = np.ndarray((len(self.data) - width + 1,), f"S{width}", self.data, strides=(1,))
        texts = everywhere[self.starts]
        if self.lengths.min(initial=width) < width:
            _bytes_of(texts)[np.arange(width) >= self.lengths[:, None]] = 0
        return texts


def cut(text: bytes, width: int) -> tuple[list[Fields], Ints]:
    """The columns of those lines that have `width` fields; and how many fields each line has.

    Every line ends with a line feed, before which there may be a carriage return. There are neither quotes nor NUL.
    """
    data = np.frombuffer(text + bytes(LONGEST_TEXT), np.uint8)
    ends = np.flatnonzero((data == ord(",")) | (data == ord("\n")))
    starts = np.concatenate((ends[:0], [0], ends[:-1] + 1))[: len(ends)]
    lasts = np.flatnonzero(data[ends] == ord("\n"))
    widths = np.diff(lasts, prepend=-1)
    ends[lasts] -= data[ends[lasts] - 1] == ord("\r")
    if np.any(widths != width):
        fits = np.repeat(widths == width, widths)
        starts, ends = starts[fits], ends[fits]
    columns = zip(*(np.ascontiguousarray(each.reshape(-1, width).T) for each in (starts, ends - starts)), strict=True)
    return [Fields(data, *column) for column in columns], widths


def _bytes_of(texts: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    return texts.view(np.uint8).reshape(len(texts), texts.itemsize)
