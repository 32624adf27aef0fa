"""Lints on Python files: shape, purity of core, types, documentation. Each takes one file and returns its findings."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.tidy.source import Finding, Source
from tests.tidy.sql_text import literal_strings, looks_like_sql

MOST_FUNCTION_LINES = 70
MOST_FILE_LINES = 800

BANNED_NAMES = frozenset("base common helper helpers manager managers misc service services util utils".split())
BANNED_ENDINGS = ("_common", "_helpers", "_manager", "_misc", "_service", "_utils")

CORE = "src/poolwise/core"
STORE = "src/poolwise/store"
NO_FLOAT = (
    f"{CORE}/cartons.py",
    f"{CORE}/ledger.py",
    f"{CORE}/values.py",
    *[f"{CORE}/sourcing/{name}.py" for name in ("blocks", "exact", "nodes", "portions")],
)

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Calls and names that read a clock, an environment or chance, or whose value differs from process to process.
IMPURE_ATTRIBUTES = frozenset(
    {
        ("date", "today"),
        ("datetime", "now"),
        ("datetime", "today"),
        ("datetime", "utcnow"),
        ("os", "environ"),
        ("os", "getenv"),
        ("sys", "argv"),
        ("time", "monotonic"),
        ("time", "monotonic_ns"),
        ("time", "perf_counter"),
        ("time", "time"),
        ("time", "time_ns"),
    }
)
IMPURE_MODULES = frozenset({"random", "secrets", "uuid"})
IMPURE_CALLS = frozenset(
    "breakpoint getenv hash id input open print today urandom utcnow uuid1 uuid3 uuid4 uuid5 uuid7".split()
)


def function_length(source: Source) -> list[Finding]:
    """At most 70 lines from `def` to the last line, docstring included, decorators not."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                text = f"function {node.name} has {lines} lines, more than {MOST_FUNCTION_LINES}"
                found.append(source.finding(node.lineno, text))
    return found


def file_length(source: Source) -> list[Finding]:
    """At most 800 lines a file."""
    lines = len(source.text.splitlines())
    if lines <= MOST_FILE_LINES:
        return []
    return [source.finding(lines, f"file has {lines} lines, more than {MOST_FILE_LINES}: split it by decision")]


def module_name(source: Source) -> list[Finding]:
    """No module or package whose name says nothing, or gathers everything."""
    parts = source.path.removesuffix(".py").split("/")
    bad = [part for part in parts if part in BANNED_NAMES or part.endswith(BANNED_ENDINGS)]
    return [source.finding(1, f"'{part}' is a banned module name: name the decision it holds") for part in bad]


def sql_outside_store(source: Source) -> list[Finding]:
    """SQL lives in store and nowhere else."""
    return [
        source.finding(literal.line, "SQL outside store")
        for literal in literal_strings(source.tree)
        if looks_like_sql(literal.text)
    ]


def sql_is_a_constant(source: Source) -> list[Finding]:
    """SQL is a module-level constant, never put together from strings."""
    found = []
    for literal in literal_strings(source.tree):
        if looks_like_sql(literal.text):
            if literal.composed:
                text = "SQL put together from strings: use a constant and parameters (psycopg.sql for a name)"
                found.append(source.finding(literal.line, text))
            elif literal.in_function:
                found.append(source.finding(literal.line, "SQL inside a function: make it a module-level constant"))
    return found


def pure_core(source: Source) -> list[Finding]:
    """No clock, ids, environment, randomness or process-dependent value: these are arguments."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.expr) and (name := _impure_name(node)):
            found.append(source.finding(node.lineno, f"{name} in core: hand it in as an argument"))
        elif isinstance(node, ast.Import) and any(alias.name == "uuid" for alias in node.names):
            found.append(source.finding(node.lineno, "import uuid in core: only the type UUID may be imported"))
        elif isinstance(node, ast.ImportFrom) and node.module == "uuid" and [a.name for a in node.names] != ["UUID"]:
            found.append(source.finding(node.lineno, "core imports only the type UUID from uuid"))
    return found


def _impure_name(node: ast.expr) -> str:
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=attribute) if (owner, attribute) in IMPURE_ATTRIBUTES:
            return f"{owner}.{attribute}"
        case ast.Attribute(value=ast.Attribute(attr=owner), attr=attribute) if (owner, attribute) in IMPURE_ATTRIBUTES:
            return f"{owner}.{attribute}"
        case ast.Attribute(value=ast.Name(id=owner), attr=attribute) if owner in IMPURE_MODULES:
            return f"{owner}.{attribute}"
        case ast.Call(func=ast.Name(id=called)) if called in IMPURE_CALLS:
            return f"{called}()"
        case _:
            return ""


def ordered_core(source: Source) -> list[Finding]:
    """Nothing iterates over a set in core: its order differs from process to process."""
    found = []
    for node in ast.walk(source.tree):
        for iterated in _iterated(node):
            if _is_set(iterated):
                found.append(source.finding(iterated.lineno, "iterates over a set: sort it first"))
    return found


def _iterated(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.For() | ast.comprehension():
            yield node.iter
        case ast.Call(func=ast.Name(id="list" | "tuple" | "enumerate" | "iter" | "zip" | "map" | "next")):
            yield from node.args
        case _:
            pass


def _is_set(node: ast.expr) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
            return _is_set(left) or _is_set(right)
        case _:
            return False


def no_float(source: Source) -> list[Finding]:
    """Quantities and money are integers: no float literal, no `float`, no true division."""
    found = []
    for node in ast.walk(source.tree):
        match node:
            case ast.Constant(value=float() as value):
                found.append(source.finding(node.lineno, f"float {value} where quantities and money are integers"))
            case ast.Name(id="float"):
                found.append(source.finding(node.lineno, "float where quantities and money are integers"))
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                found.append(source.finding(node.lineno, "true division makes a float: use // or divide_rounded"))
            case _:
                pass
    return found


def no_any(source: Source) -> list[Finding]:
    """No `Any` outside connect, where foreign documents are read."""
    found = []
    for node in ast.walk(source.tree):
        match node:
            case ast.Name(id="Any") | ast.Attribute(value=ast.Name(id="typing" | "t"), attr="Any"):
                found.append(source.finding(node.lineno, "Any outside connect: say what it is, or object"))
            case ast.ImportFrom(module="typing" | "typing_extensions") if any(a.name == "Any" for a in node.names):
                found.append(source.finding(node.lineno, "Any outside connect: say what it is, or object"))
            case _:
                pass
    return found


REASONED_IGNORE = re.compile(r"#\s*type:\s*ignore\[[\w, -]+\]\s+#\s*\S+(\s+\S+)+")


def reasoned_ignores(source: Source) -> list[Finding]:
    """A `type: ignore` names its code and, in a second comment, its reason in two words or more."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        ignores = token.type == tokenize.COMMENT and re.search(r"type:\s*ignore", token.string)
        if ignores and not REASONED_IGNORE.search(token.string):
            text = "type: ignore without a code and a reason: `# type: ignore[code]  # why it is right`"
            found.append(source.finding(token.start[0], text))
    return found


def documented(source: Source) -> list[Finding]:
    """Every public module, class, function and method has a docstring.

    A method that fills in one of its base class inherits that docstring: it is exempt when the class has a base.
    Methods of a class whose bases are only values (enum, exception, named tuple) are not.
    """
    found = []
    if not ast.get_docstring(source.tree):
        found.append(source.finding(1, "module without a docstring"))
    for node, owner in _definitions(source.tree.body, None):
        if ast.get_docstring(node) is None and not _is_exempt(node, owner):
            found.append(source.finding(node.lineno, f"{node.name} has no docstring"))
    return found


def _definitions(
    body: list[ast.stmt], owner: ast.ClassDef | None
) -> Iterator[tuple[Function | ast.ClassDef, ast.ClassDef | None]]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node, owner
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, node)
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _definitions(node.body, owner)


VALUE_BASES = frozenset(
    "Enum Exception Generic IntEnum NamedTuple Protocol Refused StrEnum Struct TypedDict object".split()
)


def _is_exempt(node: Function | ast.ClassDef, owner: ast.ClassDef | None) -> bool:
    decorators = {getattr(decorator, "id", getattr(decorator, "attr", "")) for decorator in node.decorator_list}
    if decorators & {"overload", "override", "setter"}:
        return True
    if isinstance(node, ast.ClassDef) or owner is None:
        return False
    bases = {_base_name(base) for base in owner.bases}
    return bool(bases - VALUE_BASES)


def _base_name(base: ast.expr) -> str:
    match base:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return _base_name(value)
        case _:
            return ""
