"""Makes a problem that fails something smaller, and prints what is left of it, so that a person can read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import islice
from typing import TypeVar

from poolwise.core.sourcing.problem import Problem
from poolwise.core.values import Rate, replace

T = TypeVar("T")

MOST_TRIES = 1_500


def shrink(problem: Problem, fails: Callable[[Problem], bool]) -> Problem:
    """The smallest problem found, by leaving out or resetting one thing at a time, for which `fails` is still true."""
    place = since_success = 0
    for _ in range(MOST_TRIES):
        simpler = next(islice(simpler_than(problem), place, None), None)
        if simpler is None:
            # Round again, as one thing may be needed only by another that is gone by now.
            place = 0
            continue
        if _fails(simpler, fails):
            problem, since_success = simpler, 0
            continue
        place, since_success = place + 1, since_success + 1
        if since_success > sum(1 for _ in simpler_than(problem)):
            break
    return problem


def _fails(problem: Problem, fails: Callable[[Problem], bool]) -> bool:
    try:
        return fails(problem)
    except (AssertionError, KeyError, IndexError, StopIteration, ValueError):
        # What was left out was needed.
        return False


def simpler_than(value: T) -> Iterator[T]:
    """The value with one thing less in it: an element left out, or a field back at its default."""
    nested: Iterator[object] = iter(())
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        nested = _simpler_tuple(value)
    elif isinstance(value, Mapping):
        nested = _simpler_table(value)
    elif is_dataclass(value) and not isinstance(value, (type, Rate)):
        nested = _simpler_fields(value)
    yield from nested  # type: ignore[misc]  # each branch yields the type of its argument


def _simpler_tuple(values: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
    for place in range(len(values)):
        yield values[:place] + values[place + 1 :]
    for place, value in enumerate(values):
        for simpler in simpler_than(value):
            yield (*values[:place], simpler, *values[place + 1 :])


def _simpler_table(table: Mapping[object, object]) -> Iterator[Mapping[object, object]]:
    for left_out in table:
        yield {key: value for key, value in table.items() if key != left_out}
    for changed, value in table.items():
        for simpler in simpler_than(value):
            yield {**table, changed: simpler}


def _simpler_fields(value: T) -> Iterator[T]:
    for each in fields(value):  # type: ignore[arg-type]  # the caller asked whether it is a dataclass
        own, default = getattr(value, each.name), _default(each)
        simpler = list(simpler_than(own)) if each.init else []
        if each.init and default is not MISSING and own != default:
            simpler.insert(0, default)
        for changed in simpler:
            # An order without lines, for example, cannot be made.
            with suppress(AssertionError):
                yield replace(value, **{each.name: changed})  # type: ignore[type-var]  # the same


def _default(each: Field[object]) -> object:
    return each.default if each.default_factory is MISSING else each.default_factory()


def described(value: object, indent: str = "") -> str:
    """A value as text, one thing a line, without the fields that have their default."""
    if isinstance(value, Rate):
        return str(value)
    if isinstance(value, Mapping):
        return "".join(f"\n{indent}{key}: {described(each, indent + '  ')}" for key, each in value.items()) or "{}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "(" + ", ".join(f"{name}={described(getattr(value, name))}" for name in value._fields) + ")"
    if isinstance(value, tuple):
        return "".join(f"\n{indent}- {described(each, indent + '  ')}" for each in value) or "()"
    if is_dataclass(value) and not isinstance(value, type):
        shown = {
            each.name: described(getattr(value, each.name), indent + "  ")
            for each in fields(value)
            if getattr(value, each.name) != _default(each)
        }
        if any("\n" in text for text in shown.values()):
            return "".join(f"\n{indent}{name} = {text}" for name, text in shown.items())
        return ", ".join(f"{name}={text}" for name, text in shown.items())
    return str(value)
