"""Lints on any text file: names of data sets, addresses and places of one machine, links that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.tidy.source import Finding, Source

DATA_SETS = re.compile(r"brunel|supplygraph|\bscms\b", re.IGNORECASE)

# Hosts and places are written in two parts so that this file does not name them.
HOSTS = ("py" + "pi", "python" + "hosted", "npm" + "js", "yarn" + "pkg")
REGISTRIES = rf"\b(?:{'|'.join(HOSTS)})\.(?:org|com|io|dev)\b"
PLACES = (
    "/" + "work/",
    "/" + "opt/py" + "pi",
    "/" + "opt/wheels",
    "/" + "root/",
    "/" + "tmp/w/",
    "/" + "home/",
    "/" + "Users/",
)
ADDRESSES = re.compile("|".join([REGISTRIES] + [rf"(?<![\w.]){re.escape(place)}" for place in PLACES]))
IN_LOCK = re.compile(r"://|--(extra-)?index-url|--find-links|file:| @ ")


def names_no_data_set(source: Source) -> list[Finding]:
    """A module of the product knows no data set: converters live in bench."""
    return [source.finding(line, f"names the data set {name}") for line, name in _matches(source, DATA_SETS)]


def names_no_machine(source: Source) -> list[Finding]:
    """No registry's host and no path of one machine; no address at all in a lock file."""
    found = [source.finding(line, f"names {name}") for line, name in _matches(source, ADDRESSES)]
    if source.path.endswith(".lock"):
        found += [source.finding(line, f"a lock names no address: {name}") for line, name in _matches(source, IN_LOCK)]
    return found


def _matches(source: Source, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        for match in pattern.finditer(line):
            yield number, match[0]


FENCE = re.compile(r"^\s*(```|~~~)")
MARKDOWN_LINK = re.compile(r"(?<!\\)!?\[(?:[^\]\\]|\\.)*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE_LINK = re.compile(r"^\s*\[[^\]]+\]:\s*<?(\S+?)>?(?:\s+\".*\")?\s*$")
RST_LINK = re.compile(r"`[^`<]*<([^`>]+)>`_|^\.\. _[^:]+:\s*(\S+)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")


def dead_links(source: Source, read: Callable[[str], str | None]) -> list[Finding]:
    """Every relative link leads to a file of the repository and, in Markdown, to a heading that is there.

    `read` gives the text of a file by its path from the root, "" for a folder, and None when there is neither.
    """
    found = []
    for line, target in _links(source):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue
        name, _, anchor = target.partition("#")
        path = _resolved(source.path, name) if name else source.path
        text = None if path is None else source.text if path == source.path else read(path)
        if text is None:
            found.append(source.finding(line, f"link to {target}: there is no such file"))
        elif anchor and path is not None and path.endswith(".md") and anchor not in _anchors(text):
            found.append(source.finding(line, f"link to {target}: there is no such heading"))
    return found


def _links(source: Source) -> Iterator[tuple[int, str]]:
    patterns = (RST_LINK,) if source.path.endswith(".rst") else (MARKDOWN_LINK, REFERENCE_LINK)
    fenced = False
    for number, line in enumerate(source.text.splitlines(), start=1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            plain = line if source.path.endswith(".rst") else re.sub(r"`[^`]*`", "", line)
            for pattern in patterns:
                for match in pattern.finditer(plain):
                    yield number, next(group for group in match.groups() if group)


def _resolved(path: str, target: str) -> str | None:
    """The path from the root that a link in the file at `path` means; None when it leaves the repository."""
    parts = [] if target.startswith("/") else path.split("/")[:-1]
    for part in target.strip("/").split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {".", ""}:
            parts.append(part)
    return "/".join(parts)


def _anchors(text: str) -> set[str]:
    """The anchors that the headings of a Markdown text make, as GitHub names them."""
    found: set[str] = set()
    fenced = False
    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced and (match := HEADING.match(line)):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1])
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            found.add(slug if slug not in found else f"{slug}-1")
    return found
