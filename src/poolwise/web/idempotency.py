"""Keys of writes: the same key and body have one effect and one answer (law 5), whoever of two is first.

The answer commits with the effect, as a hash of the request and a reference. A second request with the key finds the
commit refused, looks the answer up and renders it again. While the first is still at work here, the second is told so.

A refusal that was decided on what is in the books is an answer like any other: it is kept, so that a message that was
refused never has an effect later. What was refused for its form, or before it was looked at, leaves the key free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from threading import Lock
from typing import Final

import msgspec

from poolwise.core.values import Conflict, replace
from poolwise.flows.intake import Rejected
from poolwise.flows.ports import Answer, Books
from poolwise.web.endpoint import Key, Reply
from poolwise.web.errors import REPLAYED, STATUS_OF, GivenAgain, Rejection, refusal_of, refused, rejection

HEADER: Final = "idempotency-key"
LONGEST_KEY: Final = 255
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
MOST_TRIES: Final = 5
FIRST_REFUSAL: Final = 400
UNSAID: Final = "was refused when it was sent first; send the order again under another key to see why"


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
        return _given_again(known, again)
    for tried in range(MOST_TRIES):
        try:
            return do()
        except Conflict:
            known = answer_on_record(books, key)
            if known is not None:
                return _given_again(known, again)
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


def _given_again(known: Answer, again: Callable[[Answer], Reply]) -> Reply:
    if known.status >= FIRST_REFUSAL:
        kept = msgspec.json.decode(known.reference, type=Rejection)
        raise GivenAgain(kept.code, refusal_of(kept))
    reply = again(known)
    return replace(reply, headers={**reply.headers, **REPLAYED})


def kept(key: Key, status: int, reference: str) -> Answer:
    """An answer to be kept under a key."""
    return Answer(key.sender, key.text, key.body_hash, status, reference)


def kept_refusal(key: Key, refusal: Rejected) -> Answer:
    """A refusal to be kept under a key."""
    return kept(key, STATUS_OF.get(refusal.code, 422), msgspec.json.encode(without_address(refusal)).decode())


def without_address(refusal: Rejected) -> Rejection:
    """A refusal as it is kept: what it says of the address is left out (law 17)."""
    told = rejection(refusal.code, refusal.problems)
    hidden = [
        msgspec.structs.replace(problem, reason=UNSAID) if problem.field.startswith("ship_to") else problem
        for problem in told.problems
    ]
    return msgspec.structs.replace(told, problems=hidden)
