"""Read and write the policies of a directory: `policy.yaml`, or several files in the folder `policy`.

YAML turns 0.5 into a float and `no` into false; here every number that is not whole stays text, so that rates are
exact (law 11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

import poolwise
from poolwise.connect.directory.reading import Reject
from poolwise.core.policy.language import parse_policy, to_data
from poolwise.core.policy.terms import SourcingPolicy
from poolwise.core.values import Refused

MOST_BYTES: Final = 5_000_000


SHIPPED: Final = Path(poolwise.__file__).parent / "policies"
"""The policies that come with the product."""


@cache
def default_policy() -> SourcingPolicy:
    """The sourcing policy that Poolwise starts with."""
    return parse_policy(read_yaml(SHIPPED / "default.yaml"))


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy that was read, and from which file."""

    file: str
    policy: SourcingPolicy


def policy_paths(directory: Path) -> list[Path]:
    """The policy files of a directory, in order of their names."""
    single = [path for name in ("policy.yaml", "policy.yml") if (path := directory / name).is_file()]
    return single + sorted(path for path in directory.glob("policy/*") if path.suffix in {".yaml", ".yml"})


def read_policies(directory: Path) -> tuple[list[PolicyFile], list[Reject]]:
    """Every policy of a directory that is well formed, and what is wrong with the others."""
    found: list[PolicyFile] = []
    rejects: list[Reject] = []
    for path in policy_paths(directory):
        name = path.relative_to(directory).as_posix()
        try:
            policy = parse_policy(read_yaml(path))
        except Refused as refused:
            rejects += [Reject(name, 0, fault.field, fault.reason) for fault in refused.problems]
            continue
        except ValueError as error:
            rejects.append(Reject(name, 0, "", str(error)))
            continue
        if any(other.policy.code == policy.code for other in found):
            rejects.append(Reject(name, 0, "code", f"another file has the policy '{policy.code}' already"))
        else:
            found.append(PolicyFile(name, policy))
    return found, rejects


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file. Raises ValueError with the reason."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"is larger than {MOST_BYTES} bytes")
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_ExactLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"is no YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError("is not valid UTF-8") from error


def write_policies(directory: Path, policies: Iterable[SourcingPolicy]) -> None:
    """Write each policy to its own file in the folder `policy`."""
    folder = directory / "policy"
    for policy in policies:
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.dump(to_data(policy), Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True)
        (folder / f"{quote(policy.code, safe=' ')}.yaml").write_text(text, encoding="utf-8")


class _ExactLoader(yaml.SafeLoader):
    """Reads no float, and only true and false as booleans; a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{name}' is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


# What a plain word may stand for besides text; 1:30 is no number here, and neither are 0.5 and 1e3.
_ExactLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^(?:0|-?[1-9][0-9]*)$", list("-0123456789")),
    ("merge", r"^<<$", ["<"]),
):
    _ExactLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
