"""The repository keeps its own rules (STYLE.md). A failure names file, line and rule."""

from __future__ import annotations

import configparser
import re
import tomllib

import pytest

from tests.tidy.rules import RULES
from tests.tidy.source import ROOT, Source, read_sources
from tests.tidy.text_lints import dead_links


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return read_sources()


@pytest.mark.parametrize("name", RULES)
def test_rule_holds(name: str, sources: list[Source]) -> None:
    found = sorted(finding for source in sources for finding in RULES[name].findings(source))

    assert not found, "\n" + "\n".join(map(str, found))


def test_every_link_between_documents_leads_somewhere(sources: list[Source]) -> None:
    documents = [source for source in sources if source.path.endswith((".md", ".rst"))]

    found = [finding for source in documents for finding in dead_links(source, _read)]

    assert not found, "\n" + "\n".join(map(str, found))


def _read(path: str) -> str | None:
    target = ROOT / path
    if target.is_dir():
        return ""
    return target.read_text(encoding="utf-8", errors="replace") if target.is_file() else None


def test_the_import_contracts_make_no_exception() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")

    assert [section for section in contracts.sections() if contracts.has_option(section, "ignore_imports")] == []


def test_every_dependency_has_its_reason_on_record() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    page = (ROOT / "docs/decisions/0010-few-dependencies-each-with-a-reason.md").read_text()
    reasons = {
        name for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for name in re.split(r",? [(]|, ", row)
    }

    assert {re.split(r"[\[><=]", name)[0] for name in wanted} - reasons == set()


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"

    assert [
        path.name
        for path in sorted(folder.glob("[0-9]*.md"))
        if f"({path.name})" not in (folder / "README.md").read_text()
    ] == []


def test_the_repository_was_read(sources: list[Source]) -> None:
    paths = {source.path for source in sources}

    assert {"Makefile", "pyproject.toml", "requirements.lock", "src/poolwise/__init__.py"} <= paths
