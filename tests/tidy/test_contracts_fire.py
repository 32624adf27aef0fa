"""Every import contract of .importlinter breaks when it is crossed, on a scratch tree with every module there is."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.source import ROOT

CORE_MODULES = """
    values catalog network edition messages orders ledger availability verify promising backorders cartons fulfilment
    returns measures incidents partners policy/terms policy/expressions policy/language policy/evaluate
    policy/lifecycle sourcing/problem sourcing/plan sourcing/solver sourcing/partition sourcing/record
    sourcing/routes sourcing/costs sourcing/tariff sourcing/options sourcing/build sourcing/divide
    sourcing/exact sourcing/portions sourcing/prices sourcing/columns sourcing/wave sourcing/explain sourcing/bound
"""
LAWFUL = {
    "core/catalog": "from poolwise.core import values",
    "core/sourcing/exact": "from poolwise.core import availability\nfrom poolwise.core.sourcing import solver",
    "core/sourcing/solver": "import highspy",
    "core/verify": "from poolwise.core.policy import terms\nfrom poolwise.core.sourcing import plan, problem",
    "core/sourcing/plan": "from poolwise.core.sourcing.problem import x",
    "flows/source": "from poolwise.core.sourcing import exact",
    "store/books": "import psycopg\nfrom poolwise.flows import ports",
    "flows/ports": "from poolwise.core import ledger",
    "web/app": "import litestar\nfrom poolwise.flows import source",
    "connect/port": "from poolwise.core import messages",
    "sim/world": "from poolwise.store import books",
    "run/cli": "import litestar\nfrom poolwise.sim import world\nfrom poolwise.web import app",
}

RINGS = "Rings: run > sim > web, connect, store > flows > core"
LADDER = "The ladder inside core"
POLICY = "The ladder inside core.policy"
SOURCING = "The ladder inside core.sourcing"
PURE = "Core knows no input or output, clock, randomness, ids, logging or async"
SOLVER = "Only core.sourcing.solver imports highspy"
REACH = "The verifier shares no code with the engines (law 15)"
NAMES = "The verifier names only values, catalog, network, orders, policy.terms, sourcing.problem and sourcing.plan"
DATABASE = "Only store imports psycopg and the embedded server"
WEB = "Only web and run import litestar"
SENDING = "Only connect sends anything out"

PLANTS = [
    ("core/ledger", "from poolwise.flows import ports", RINGS),
    ("flows/source", "from poolwise.store import books", RINGS),
    ("web/app", "from poolwise.store import books", RINGS),
    ("store/books", "from poolwise.connect import port", RINGS),
    ("web/app", "def f():\n    from poolwise.sim import world", RINGS),
    ("sim/world", "from poolwise.run import cli", RINGS),
    ("reports/monthly", "x = 1", RINGS),
    ("core/values", "from poolwise.core import catalog", LADDER),
    ("core/ledger", "from poolwise.core.policy import terms", LADDER),
    ("core/availability", "from poolwise.core.sourcing import problem", LADDER),
    ("core/reports", "x = 1", LADDER),
    ("core/policy/terms", "from poolwise.core.policy import language", POLICY),
    ("core/sourcing/plan", "from poolwise.core.sourcing import solver", SOURCING),
    ("core/sourcing/exact", "from poolwise.core.sourcing import wave", SOURCING),
    ("core/sourcing/greedy", "x = 1", SOURCING),
    ("core/orders", "import os.path", PURE),
    ("core/orders", "from time import time", PURE),
    ("core/network", "import logging", PURE),
    ("core/policy/language", "import yaml", PURE),
    ("core/sourcing/wave", "import asyncio", PURE),
    ("core/sourcing/exact", "import highspy", SOLVER),
    ("core/sourcing/options", "import highspy", SOLVER),
    ("core/policy/evaluate", "import highspy", SOLVER),
    ("flows/source", "import highspy", SOLVER),
    ("core/verify", "from poolwise.core.sourcing import exact", REACH),
    ("core/verify", "from poolwise.core.sourcing.routes import x", REACH),
    ("core/sourcing/problem", "from poolwise.core import availability", REACH),
    ("core/verify", "from poolwise.core.policy import evaluate", REACH),
    ("core/verify", "from poolwise.core import ledger", NAMES),
    ("flows/source", "import psycopg", DATABASE),
    ("web/app", "from psycopg_pool import ConnectionPool", DATABASE),
    ("store/books", "import litestar", WEB),
    ("web/app", "import httpcore", SENDING),
    ("run/cli", "from standardwebhooks import Webhook", SENDING),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A lawful package with every module that the contracts name."""
    for name in [f"core/{module}" for module in CORE_MODULES.split()] + list(LAWFUL):
        write(tmp_path, name, LAWFUL.get(name, "x = 1"))
    (tmp_path / ".importlinter").write_text((ROOT / ".importlinter").read_text())
    return tmp_path


def write(tree: Path, name: str, text: str) -> None:
    path = tree / "poolwise" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.relative_to(tree).parents:
        if folder.name:
            (tree / folder / "__init__.py").touch()
    path.write_text(path.read_text() + "\n" + text if path.exists() else text)


def broken_contracts(tree: Path) -> list[str]:
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo"]
    answer = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, env={"COLUMNS": "300"})
    assert re.search(r"Contracts: \d+ kept, \d+ broken", answer.stdout), answer.stdout + answer.stderr
    return re.findall(r"^(.*?) BROKEN$", answer.stdout, re.MULTILINE)


def test_a_lawful_tree_keeps_every_contract(tree: Path) -> None:
    assert broken_contracts(tree) == []


@pytest.mark.parametrize(("module", "line", "contract"), PLANTS)
def test_a_crossing_breaks_its_contract(tree: Path, module: str, line: str, contract: str) -> None:
    write(tree, module, line)

    assert contract in broken_contracts(tree)


def contracts() -> dict[str, dict[str, set[str]]]:
    """The contracts by name: for each option, the words of its value."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    sections = [parser[name] for name in parser.sections() if ":contract:" in name]
    return {
        section["name"]: {key: set(re.findall(r"[\w.*]+", section[key])) for key in section} for section in sections
    }


def test_every_contract_has_a_plant() -> None:
    assert {contract for _, _, contract in PLANTS} == set(contracts())


def test_the_lists_of_modules_follow_the_ladders() -> None:
    policy = {f"*.core.policy.{module}" for module in contracts()[POLICY]["layers"]}
    ladder = {f"*.core.sourcing.{module}" for module in contracts()[SOURCING]["layers"]}

    reached = contracts()[REACH]["forbidden_modules"]
    solvers = contracts()[SOLVER]["source_modules"]

    assert policy - reached == {"*.core.policy.terms"}
    assert ladder - reached == {"*.core.sourcing.problem", "*.core.sourcing.plan"}
    assert ladder - solvers == {"*.core.sourcing.solver"}
