"""Ids: UUIDs of version 7, composed from the flow's time and a generator that is handed in.

Nothing here reads a clock or makes chance of its own, so that equal seeds give equal journals (law 18).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
RANDOM_BITS: Final = 74


class Ids:
    """Makes ids that sort by time (RFC 9562, version 7)."""

    def __init__(self, random_bits: Callable[[int], int]) -> None:
        """`random_bits(n)` gives n random bits: `secrets.randbits`, or that of a seeded generator."""
        self._random_bits = random_bits

    def new(self, at: datetime) -> UUID:
        """A new id for something that happens at an instant."""
        milliseconds = (at - _EPOCH) // _MILLISECOND
        chance = self._random_bits(RANDOM_BITS)
        high, low = chance >> 62, chance & ((1 << 62) - 1)
        return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)
