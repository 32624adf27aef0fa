"""The generated part of docs/how-to/policy.md: every key and fact, from the tables and dataclasses they live in.

`python -m tests.core.policy_page` writes it again; a test says when that is due.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from poolwise.core.policy.expressions import DATE_FUNCTIONS, FACTS, FUNCTIONS
from poolwise.core.policy.language import (
    BUFFER_KEYS,
    OFFERS_KEYS,
    POLICY_KEYS,
    RETURN_KEYS,
    RULE_KEYS,
    SERVICE_LEVEL_KEYS,
    Key,
    default_of,
)
from poolwise.core.policy.terms import Buffer, Offers, ReturnTerms, Rule, SourcingPolicy
from poolwise.core.values import ServiceLevel

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "policy.md"
BEGIN = "<!-- generated: python -m tests.core.policy_page -->"
END = "<!-- end of the generated part -->"

Owner = type[SourcingPolicy | ServiceLevel | Buffer | Rule | ReturnTerms | Offers]

TABLES: Sequence[tuple[str, Owner, Sequence[Key]]] = (
    ("The policy", SourcingPolicy, POLICY_KEYS),
    ("A service level", ServiceLevel, SERVICE_LEVEL_KEYS),
    ("A buffer", Buffer, BUFFER_KEYS),
    ("A rule", Rule, RULE_KEYS),
    ("Returns", ReturnTerms, RETURN_KEYS),
    ("Offers", Offers, OFFERS_KEYS),
)


def generated() -> str:
    """The tables of keys, facts and functions as Markdown."""
    parts = [part for title, owner, keys in TABLES for part in (f"### {title}", _keys(owner, keys))]
    facts = "\n".join(
        ["| fact | type | meaning |", "|---|---|---|"]
        + [f"| `{fact.path}` | {fact.type} | {fact.meaning} |" for fact in FACTS.values()]
    )
    calls = ", ".join(f"`{name}`" for name in FUNCTIONS)
    days = ", ".join(f"`{name}`" for name in DATE_FUNCTIONS)
    parts += ["### Facts", facts, f"### Functions\n\n{calls}; of a day: {days}."]
    return "\n\n".join(parts)


def _keys(owner: Owner, keys: Sequence[Key]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        default = "required" if key.required else f"`{json.dumps(default_of(owner, key))}`"
        lines.append(f"| `{key.name}` | {key.kind} | {default} | {key.meaning} |")
    return "\n".join(lines)


def replaced(page: str) -> str:
    """The page with its generated part written again."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{generated()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
