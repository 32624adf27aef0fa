"""Finds SQL in Python and takes SQL apart: just enough of both languages for the lints."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

# What begins a statement. English that begins alike ("Select a pool from the list") lacks the marks of SQL.
STATEMENT = re.compile(
    r"""^\s*(
        select\b.+?(\bfrom\s+[\w{"]|\w\s*\()   | select\s+\d
      | insert\s+into\s+[\w.{}"]+\s*(\(|values\b|select\b|default\b)
      | update\s+(only\s+)?[\w.{}"]+(\s+(as\s+)?\w+)?\s+set\s+[\w"(]+
      | delete\s+from\s+[\w.{}"]+
      | merge\s+into\s
      | with\s+(recursive\s+)?\w+\s*(\([^)]*\)\s*)?as\s+((not\s+)?materialized\s*)?\(
      | (create|alter|drop)\s+(or\s+replace\s+|unique\s+|unlogged\s+|temp\w*\s+)*
        (table|index|role|user|database|schema|view|materialized|policy|function|trigger|type|sequence|extension)\s+\w
      | copy\s+[\w.{}"]+\s*(\([^)]*\)\s*)?(from|to)\s+(stdin|stdout)
      | truncate\s+(table\s+)?\w+
      | lock\s+table\s
      | grant\s.+\s(on|to)\s | revoke\s.+\son\s
      | set\s+(local\s+)?\w+\s*(=|to)\s
      | (listen|notify|unlisten)\s+\w+\s*(,|;|$)
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
MARKS = re.compile(
    r"%s|%\(|\{\}|\$\d|=|\*|\(|;|\bwhere\b.*\S|\bjoin\b|\bstdin\b|\bstdout\b"
    r"|\b(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|CREATE|ALTER|DROP|COPY|TRUNCATE|LOCK|GRANT|REVOKE|SET|LISTEN|NOTIFY)\b"
    r"|^\s*(delete\s+from|drop|truncate)\s+(table\s+)?\w+\s*$"
    r"|^\s*select\s+(\d+|[\w, ]+\s+from\s+\w+)\s*$"
)


def looks_like_sql(text: str) -> bool:
    """Whether a string begins a statement of SQL and has its marks (parameters, operators, upper-case keywords)."""
    stripped = strip_comments(text)
    return bool(STATEMENT.match(stripped) and MARKS.search(stripped))


@dataclass(frozen=True, slots=True)
class Literal:
    """A string written in a Python file. `composed` when it is an f-string or is added to, formatted or filled in."""

    text: str
    line: int
    in_function: bool
    composed: bool


def literal_strings(tree: ast.Module) -> Iterator[Literal]:
    """Every string of a module that is not documentation, in order of place."""
    yield from _literals(tree, in_function=False, composed=False)


def _literals(node: ast.AST, *, in_function: bool, composed: bool) -> Iterator[Literal]:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return
        case ast.Constant(value=str() as text):
            yield Literal(text, node.lineno, in_function, composed)
            return
        case ast.JoinedStr(values=values):
            parts = [v.value if isinstance(v, ast.Constant) and isinstance(v.value, str) else "{}" for v in values]
            yield Literal("".join(parts), node.lineno, in_function, composed=True)
            return
        case ast.BinOp(op=ast.Add() | ast.Mod()):
            composed = True
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()), attr="format" | "format_map" | "join")):
            composed = True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            in_function = True
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _literals(child, in_function=in_function, composed=composed)


PIECES = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^']|'')*')
      | (?P<body>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<end>;)
      | (?P<other>[^-/'$;]+|.)""",
    re.DOTALL | re.VERBOSE,
)


def strip_comments(sql: str) -> str:
    """The SQL with comments as blanks; line numbers stay."""
    return "".join(_blank(piece[0]) if piece.lastgroup == "comment" else piece[0] for piece in PIECES.finditer(sql))


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: as written without comments, its line, and with the content of string constants blanked."""

    text: str
    line: int
    bare: str


def statements(sql: str, first_line: int = 1) -> list[Statement]:
    """Split at the semicolons that are not inside strings, comments or function bodies."""
    found: list[Statement] = []
    written: list[str] = []
    bare: list[str] = []

    def close(offset: int) -> None:
        text = "".join(written)
        if text.strip():
            start = offset - len(text.lstrip())
            found.append(Statement(text.strip(), first_line + sql.count("\n", 0, start), "".join(bare).strip().lower()))
        written.clear()
        bare.clear()

    for piece in PIECES.finditer(sql):
        if piece["end"] is not None:
            close(piece.start())
        elif piece["comment"] is not None:
            written.append(_blank(piece[0]))
            bare.append(_blank(piece[0]))
        else:
            written.append(piece[0])
            bare.append(f"'{_blank(piece[0][1:-1])}'" if piece["text"] is not None else piece[0])
    close(len(sql))
    return found


TOKEN = re.compile(r"[a-z_][\w$]*(?:\.[a-z_][\w$]*)*|%\(\w+\)s|%s|\$\d+|\d+|\S")


def tables(bare: str) -> list[str]:
    """The names that a statement reads or writes as tables, in order, repeated as often as they are named."""
    tokens: list[str] = TOKEN.findall(bare.replace('"', ""))
    found: list[str] = []
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        if token == "from" and before != "distinct":
            found += _from_list(tokens, place + 1)
        elif token in {"into", "copy"}:
            found += tokens[place + 1 : place + 2]  # a parenthesis after it lists columns, it calls nothing
        elif token == "join" or (token == "update" and before not in {"for", "do", "key"}):
            found += _from_list(tokens, place + 1)[:1]
        elif token == "using" and "delete" in tokens[:1]:
            found += _from_list(tokens, place + 1)
    return [name.rpartition(".")[2] for name in found]


def _from_list(tokens: list[str], place: int) -> list[str]:
    """The names of `a, b AS x, unnest(...) u, ONLY c`, up to the first token that does not continue such a list."""
    found: list[str] = []
    while True:
        while tokens[place : place + 1] in (["only"], ["lateral"]):
            place += 1
        if place >= len(tokens) or not re.match(r"[a-z_(]", tokens[place]):
            return found
        name, place = tokens[place], place + (tokens[place] != "(")
        if tokens[place : place + 1] == ["("]:
            place = _after_parenthesis(tokens, place)
        else:
            found.append(name)
        if tokens[place : place + 1] == ["as"]:
            place += 1
        if place < len(tokens) and re.match(r"[a-z_]", tokens[place]):
            place += 1
            if tokens[place : place + 1] == ["("]:
                place = _after_parenthesis(tokens, place)
        if tokens[place : place + 1] != [","]:
            return found
        place += 1


def _after_parenthesis(tokens: list[str], place: int) -> int:
    depth = 0
    while place < len(tokens):
        depth += {"(": 1, ")": -1}.get(tokens[place], 0)
        place += 1
        if depth == 0:
            break
    return place


def parenthesised(text: str, start: int) -> str:
    """The inside of the parenthesis that opens at or after `start`; empty when there is none."""
    opened = text.find("(", start)
    depth = 0
    for place in range(opened, len(text)) if opened >= 0 else ():
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return text[opened + 1 : place]
    return ""


def top_level_parts(body: str) -> list[str]:
    """Split at the commas that are outside every parenthesis."""
    parts, depth, part = [], 0, ""
    for letter in body:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += letter
    return [*parts, part.strip()]


def column_names(text: str) -> list[str]:
    """The plain names of a column list, in order (`cell, node DESC` gives cell, node)."""
    return [part.replace('"', "").split()[0] for part in top_level_parts(text) if part.split()]
