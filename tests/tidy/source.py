"""What a lint reads and what it says: a file of the repository, and a finding in it."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT_SUFFIXES = frozenset(
    "cfg css csv html ini js json jsonl lock md py pyi rst sh sql svg toml ts tsx txt yaml yml".split()
)
TEXT_NAMES = frozenset({"LICENSE", "Makefile", ".gitignore", ".importlinter", ".ci/run"})


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to put right, with its place."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        """The form that editors understand."""
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Source:
    """A text file: its path from the root of the repository, with forward slashes, and its content."""

    path: str
    text: str

    @property
    def is_python(self) -> bool:
        """Whether the lints that read the syntax tree apply."""
        return self.path.endswith(".py")

    def inside(self, *folders: str) -> bool:
        """Whether the file lies in one of these folders (or is one of these files)."""
        return any(self.path == folder or self.path.startswith(folder + "/") for folder in folders)

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed syntax tree."""
        return ast.parse(self.text, filename=self.path)

    def finding(self, line: int, text: str) -> Finding:
        """A finding in this file."""
        return Finding(self.path, line, text)


def tracked_paths(root: Path = ROOT) -> list[str]:
    """Every file that git tracks or would track; every file at all where there is no git (a source archive)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        answer = subprocess.run(command, cwd=root, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return sorted(_walked_paths(root))
    return sorted({path for path in os.fsdecode(answer.stdout).split("\0") if path and (root / path).is_file()})


def _walked_paths(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") or name == ".ci"]
        for name in names:
            yield (Path(folder) / name).relative_to(root).as_posix()


def read_sources(root: Path = ROOT) -> list[Source]:
    """The text files of the repository, in order of path."""
    sources = []
    for path in tracked_paths(root):
        if path in TEXT_NAMES or path.rpartition(".")[2] in TEXT_SUFFIXES:
            sources.append(Source(path, (root / path).read_text(encoding="utf-8", errors="replace")))
    return sources
