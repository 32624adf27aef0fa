"""Fields of plain lines, looked up without an object for each."""

from __future__ import annotations

from poolwise.connect.directory.fields import LONGEST_TEXT, UNKNOWN, cut


def test_a_text_that_only_begins_like_a_known_one_is_unknown() -> None:
    """Of a long text only the beginning is compared: more than that must not be taken for what is known."""
    longest = "a" * LONGEST_TEXT
    known = {longest.encode(): 7, b"": 8}
    texts = [longest, longest + "a", longest + "b", longest, "a", ""]
    (items, _), _ = cut("".join(f"{text},x\n" for text in texts).encode(), 2)
    assert list(items.look_up(lambda text: known.get(text, UNKNOWN))) == [7, UNKNOWN, UNKNOWN, 7, UNKNOWN, 8]


def test_a_number_of_more_digits_than_are_read_is_none() -> None:
    numbers, are = cut(b"123456789012,x\n1234567890123,x\n12a,x\n,x\n", 2)[0][0].whole_numbers()
    assert list(are) == [True, False, False, True]
    assert (numbers[0], numbers[3]) == (123456789012, UNKNOWN)
