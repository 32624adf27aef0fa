"""The list of lints: which rule is for which files.

`test_tidy` runs them on the repository, `test_lints_fire` on planted faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.tidy import python_lints, sql_lints, text_lints
from tests.tidy.source import Finding, Source

SRC = "src/poolwise"


def _python(*folders: str) -> Callable[[Source], bool]:
    return lambda source: source.is_python and source.inside(*folders)


def _store_sql(source: Source) -> bool:
    return source.inside(f"{SRC}/store") and source.path.endswith((".py", ".sql"))


def _hot_sql(source: Source) -> bool:
    return source.is_python and source.inside(f"{SRC}/store") and source.path != f"{SRC}/store/views.py"


@dataclass(frozen=True, slots=True)
class Rule:
    """A lint and the files it is for."""

    check: Callable[[Source], list[Finding]]
    applies: Callable[[Source], bool]

    def findings(self, source: Source) -> list[Finding]:
        """What the lint finds, empty where it does not apply."""
        return self.check(source) if self.applies(source) else []


ALL_PYTHON = _python("src", "tests", "bench")

RULES: dict[str, Rule] = {
    "a function has at most 70 lines": Rule(python_lints.function_length, ALL_PYTHON),
    "a file has at most 800 lines": Rule(
        python_lints.file_length,
        lambda source: source.inside("src", "tests", "bench") and source.path.endswith((".py", ".sql")),
    ),
    "a module name says what is decided": Rule(python_lints.module_name, ALL_PYTHON),
    "every public name is documented": Rule(python_lints.documented, _python("src")),
    "no Any outside connect": Rule(
        python_lints.no_any, lambda source: _python("src")(source) and not source.inside(f"{SRC}/connect")
    ),
    "an ignored type error has a reason": Rule(python_lints.reasoned_ignores, ALL_PYTHON),
    "core reads no clock, id, environment or chance": Rule(python_lints.pure_core, _python(python_lints.CORE)),
    "core iterates over no set": Rule(python_lints.ordered_core, _python(python_lints.CORE)),
    "no float for quantity or money": Rule(python_lints.no_float, _python(*python_lints.NO_FLOAT)),
    "no SQL outside store": Rule(
        python_lints.sql_outside_store, lambda source: _python("src")(source) and not source.inside(f"{SRC}/store")
    ),
    "SQL is a module-level constant": Rule(python_lints.sql_is_a_constant, _python(f"{SRC}/store")),
    "a constant holds one statement": Rule(sql_lints.one_statement_each, _python(f"{SRC}/store")),
    "no SQL reads the clock": Rule(sql_lints.no_clock_in_sql, _store_sql),
    "SQL is portable to cells": Rule(sql_lints.portable_sql, _store_sql),
    "cell comes first in hot keys": Rule(sql_lints.cell_first_in_keys, _store_sql),
    "a statement on a hot table names cell": Rule(sql_lints.hot_statements_name_cell, _hot_sql),
    "the product names no data set": Rule(text_lints.names_no_data_set, lambda source: source.inside("src")),
    "no file names a registry or a machine": Rule(text_lints.names_no_machine, lambda _source: True),
}
