"""Reads bodies and queries: strictly, with every fault at once (law 12).

The fast path is one strict decode. Only when it fails is the input read again, field by field, to list all that is
wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Final, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import FieldInfo

from poolwise.core.values import Fault, Refused
from poolwise.web.forms import UNLIKE

_T = TypeVar("_T")
_Query = TypeVar("_Query", bound=msgspec.Struct)

MOST_FAULTS: Final = 100
MOST_PARAMETERS: Final = 200


def read_body(raw: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """A JSON body. Refuses what is no JSON ("body_unreadable") and what has faults ("body_invalid")."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        first = error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("body_unreadable", [Fault("", f"the body is no JSON: {error}")]) from error
    try:
        data: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("body_unreadable", [Fault("", f"the body is no JSON: {error}")]) from error
    faults = _first(faults_of(data, decoder.type, ""))
    raise Refused("body_invalid", faults or [_fault(str(first), "")])


def read_query(text: str, type_: type[_Query]) -> _Query:
    """The query of a URL as a struct. Repeated names make lists; texts are read as numbers, dates and so on."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except (UnicodeDecodeError, ValueError) as error:
        raise Refused("query_invalid", [Fault("", "the query cannot be read: too many names, or no UTF-8")]) from error
    fields = _fields_of(type_)
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    faults = [Fault(name, "there is no such parameter") for name in given if name not in fields]
    data: dict[str, str | list[str]] = {}
    for name, values in given.items():
        if "\0" in "".join(values):
            faults.append(Fault(name, "holds a character that no text may hold"))
        if name in fields and is_list(fields[name].type):
            data[name] = [part for value in values for part in value.split(",")]
        elif len(values) > 1:
            faults.append(Fault(name, "is given more than once"))
        else:
            data[name] = values[0]
    if not faults:
        try:
            return msgspec.convert(data, type_, strict=False)
        except msgspec.ValidationError as error:
            faults = _first(faults_of(data, type_, "", strict=False)) or [_fault(str(error), "")]
    raise Refused("query_invalid", faults)


def faults_of(data: object, type_: object, path: str, strict: bool = True) -> Iterator[Fault]:
    """Everything wrong with `data` as `type_`, struct by struct and element by element."""
    struct = _struct_in(type_)
    if isinstance(data, dict) and struct is not None:
        yield from _faults_of_struct(data, struct, path, strict)
        return
    element = _element_of(type_)
    if isinstance(data, list) and element is not None and _struct_in(element) is not None:
        found = False
        for place, part in enumerate(data):
            for fault in faults_of(part, element, f"{path}[{place}]", strict):
                found = True
                yield fault
        if found:
            return
        data = [msgspec.convert(part, element, strict=strict) for part in data]
    try:
        msgspec.convert(data, type_, strict=strict)
    except msgspec.ValidationError as error:
        fault = _fault(str(error), path)
        if "[...]" in fault.field and isinstance(data, dict):
            # The decoder does not say under which name of a mapping the fault is.
            bad = next((name for name in data if not _fits({name: data[name]}, type_, strict)), "")
            fault = Fault(_joined(path, str(bad)) + fault.field.partition("[...]")[2], fault.reason)
        if fault.reason.startswith("invalid enum value"):
            fault = Fault(fault.field, f"{fault.reason}; it is one of {', '.join(_choices(type_))}")
        yield fault


def _choices(type_: object) -> list[str]:
    """What may be chosen from where a type is, or holds, an enumeration or literal texts."""
    if get_origin(type_) is Literal:
        return [str(choice) for choice in get_args(type_)]
    if isinstance(type_, type) and issubclass(type_, Enum):
        return [str(member.value) for member in type_]
    return [choice for part in get_args(type_) for choice in _choices(part)]


def _fits(data: object, type_: object, strict: bool) -> bool:
    try:
        msgspec.convert(data, type_, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _faults_of_struct(
    data: Mapping[object, object], struct: type[msgspec.Struct], path: str, strict: bool
) -> Iterator[Fault]:
    fields = _fields_of(struct)
    for name in data:
        if name not in fields:
            yield Fault(_joined(path, str(name)), "there is no such field")
    for name, field in fields.items():
        inside = _joined(path, str(name))
        if name in data:
            yield from faults_of(data[name], field.type, inside, strict)
        elif field.required:
            yield Fault(inside, "is needed")


@cache
def _fields_of(struct: type[msgspec.Struct]) -> dict[object, FieldInfo]:
    """The fields of a struct by the name they are sent under. To work them out takes a millisecond."""
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}


def _struct_in(type_: object) -> type[msgspec.Struct] | None:
    """The struct that a type is, or may be besides None."""
    if get_origin(type_) is Annotated:
        return _struct_in(get_args(type_)[0])
    if get_origin(type_) in (Union, UnionType):
        return next((found for part in get_args(type_) if (found := _struct_in(part)) is not None), None)
    return type_ if isinstance(type_, type) and issubclass(type_, msgspec.Struct) else None


def _element_of(type_: object) -> object | None:
    """The type of the elements of a list."""
    if get_origin(type_) is Annotated:
        return _element_of(get_args(type_)[0])
    if get_origin(type_) in (Union, UnionType):
        return next((found for part in get_args(type_) if (found := _element_of(part)) is not None), None)
    return get_args(type_)[0] if get_origin(type_) in (list, tuple) and get_args(type_) else None


def is_list(type_: object) -> bool:
    """Whether a type is a list, or may be one besides None."""
    return _element_of(type_) is not None


def _fault(message: str, path: str) -> Fault:
    """A complaint of the decoder, `Expected ... - at `$.x``, as field and reason."""
    reason, _, where = message.partition(" - at `$")
    inside = where.rstrip("`")
    field = path + inside if inside.startswith("[") else _joined(path, inside.removeprefix("."))
    for pattern, unlike in UNLIKE.items():
        if reason.endswith(f"matching regex {pattern!r}"):
            return Fault(field, unlike)
    return Fault(field, reason[:1].lower() + reason[1:])


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _first(faults: Iterator[Fault]) -> list[Fault]:
    """At most MOST_FAULTS of them."""
    return [fault for _, fault in zip(range(MOST_FAULTS), faults, strict=False)]
