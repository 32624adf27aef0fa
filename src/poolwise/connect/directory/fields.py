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

    def _texts(self, longest: int) -> NDArray[np.bytes_]:
        """The fields, side by side; of those that are longer than `longest` the beginning."""
        width = max(1, min(longest, int(self.lengths.max(initial=0))))
        everywhere = np.ndarray((len(self.data) - width + 1,), f"S{width}", self.data, strides=(1,))
        texts = everywhere[self.starts]
        _bytes_of(texts)[np.arange(width) >= self.lengths[:, None]] = 0
        return texts


def cut(text: bytes, width: int) -> list[Fields]:
    """The columns of lines that all have `width` fields, and neither quotes nor NUL."""
    data = np.frombuffer(text + bytes(LONGEST_TEXT), np.uint8)
    (ends,) = np.nonzero((data == ord(",")) | (data == ord("\n")))
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    return [Fields(data, starts[place::width], (ends - starts)[place::width]) for place in range(width)]


def _bytes_of(texts: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    return texts.view(np.uint8).reshape(len(texts), texts.itemsize)
