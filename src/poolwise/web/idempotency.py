"""Keys of writes: the same key and body have one effect and one answer (law 5), whoever of two is first.

The answer commits with the effect, as a hash of the request and a reference. A second request with the key finds the
commit refused, looks the answer up and renders it again. While the first is still at work here, the second is told so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from threading import Lock
from typing import Final, cast
from uuid import UUID

from poolwise.core.values import Conflict, replace
from poolwise.flows.identity import Ids
from poolwise.flows.ports import Answer, Books, Effects, Transaction
from poolwise.web.endpoint import Key, Reply
from poolwise.web.errors import refused

HEADER: Final = "idempotency-key"
REPLAYED: Final = {"Idempotency-Replayed": "true"}
LONGEST_KEY: Final = 255
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
MOST_TRIES: Final = 5


def key_of(headers: Mapping[str, str], sender: str, title: str, path: str, body: bytes) -> Key:
    """The key of a request that writes. Refuses one that has none, or one that is no printable ASCII."""
    text = headers.get(HEADER, "")
    if not text:
        raise refused("key_missing", "every request that writes names itself: send an Idempotency-Key", HEADER)
    if _KEY.fullmatch(text) is None:
        raise refused("key_invalid", f"is 1 to {LONGEST_KEY} visible ASCII characters", HEADER)
    return Key(sender, text, sha256(b"\0".join((title.encode(), path.encode(), body))).digest())


class InHand:
    """The keys of the requests this process is working on."""

    def __init__(self) -> None:
        self._keys: set[tuple[str, str]] = set()
        self._lock = Lock()

    def take(self, key: Key) -> None:
        """Hold a key until it is let go. Refuses one that is held already."""
        with self._lock:
            if (key.sender, key.text) in self._keys:
                raise refused("in_progress", "a request with this key is at work; repeat it in a moment", HEADER)
            self._keys.add((key.sender, key.text))

    def let_go(self, key: Key) -> None:
        """The request with this key is answered."""
        with self._lock:
            self._keys.discard((key.sender, key.text))


def once(
    books: Books,
    key: Key,
    do: Callable[[], Reply],
    again: Callable[[Answer], Reply],
    *,
    look_first: bool = False,
) -> Reply:
    """Do a write under a key, or give the answer on record again.

    `do` records the answer with its effect and raises Conflict when somebody else has the key. `look_first` is for
    effects that do not hold the answer themselves.
    """
    if look_first and (known := answer_on_record(books, key)) is not None:
        return replayed(again(known))
    for tried in range(MOST_TRIES):
        try:
            return do()
        except Conflict:
            known = answer_on_record(books, key)
            if known is not None:
                return replayed(again(known))
            if tried == MOST_TRIES - 1:
                raise
    raise AssertionError("the loop returns or raises")


def answer_on_record(books: Books, key: Key) -> Answer | None:
    """The answer given under a key. Refuses the key when it was another request's."""
    with books.transaction() as transaction:
        known = transaction.answer(key.sender, key.text)
    if known is not None and known.body_hash != key.body_hash:
        raise refused("key_reused", "the key belongs to another request; send this one under a key of its own", HEADER)
    return known


def replayed(reply: Reply) -> Reply:
    """An answer that was given before."""
    return replace(reply, headers={**reply.headers, **REPLAYED})


class Foretold(Ids):
    """Ids of which the first is known beforehand, so that the answer on record can name what is about to be made."""

    def __init__(self, ids: Ids, first: UUID) -> None:
        self._ids = ids
        self._first: UUID | None = first

    def new(self, at: datetime) -> UUID:
        """The foretold id once, then new ones."""
        first, self._first = self._first, None
        return self._ids.new(at) if first is None else first


class Answering:
    """Books whose recordings also hold the answers of several requests that are done together."""

    def __init__(self, books: Books, answers: Sequence[Answer]) -> None:
        self._books = books
        self._answers = answers

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction of the books."""
        with self._books.transaction() as transaction:
            # Everything but `record` is the transaction's own.
            yield cast(Transaction, _Recording(transaction, self._answers))


class _Recording:
    def __init__(self, transaction: Transaction, answers: Sequence[Answer]) -> None:
        self._transaction = transaction
        self._answers = answers

    def __getattr__(self, name: str) -> object:
        return getattr(self._transaction, name)

    def record(self, effects: Effects) -> None:
        self._transaction.record(replace(effects, answers=[*effects.answers, *self._answers]))
