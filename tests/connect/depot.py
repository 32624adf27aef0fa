"""A place to import to, in memory, and directories to import from."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from poolwise.connect.directory.exporting import Exported, export_directory
from poolwise.connect.directory.importing import Imported, Target, import_directory
from poolwise.core.edition.build import Edition
from poolwise.core.messages import OrderMessage
from poolwise.flows.identity import Ids
from poolwise.flows.intake import Accepted, Counter, Rejected, accept
from poolwise.flows.masterdata import read_version
from poolwise.flows.ports import Books, Editions
from poolwise.store.contents import MemoryContents
from poolwise.store.editions import MemoryEditions
from poolwise.store.memory import MemoryBooks

FIVE_NODES = Path(__file__).parents[2] / "examples" / "five-nodes"
NOW = datetime(2026, 8, 3, 8, tzinfo=UTC)

SMALL: Mapping[str, str] = {
    "network.csv": "currency\nEUR\n",
    "nodes.csv": "node\nN\nM\n",
    "pools.csv": "pool\nP\n",
    "items.csv": "item,scale\nA,0\nB,0\nG,3\n",
    "zones.csv": "zone,country\nZ,DE\n",
    "rates.csv": "rates,up_to_kg,fixed\nR,10,5\n",
    "lanes.csv": "lane,origin,destination,rates\nL,N,Z,R\n",
    "policy.yaml": "code: default\nservice_levels: {standard: {}}\n",
}
"""The smallest network in which everything can be stated."""


def write(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write the files of a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory


def target(books: Books, editions: Editions, seed: int = 1, minutes: float = 0) -> Target:
    """A target whose clock stands still some minutes after NOW."""
    ids = Ids(random.Random(seed).getrandbits)

    def accept_orders(
        edition: Edition, messages: Sequence[OrderMessage], now: datetime
    ) -> Sequence[Accepted | Rejected]:
        policy = read_version(editions.policies()[0])
        return accept(books, Counter(edition, policy, ids, "import", 1), messages, now)

    return Target(books, editions, ids, lambda: NOW + timedelta(minutes=minutes), accept_orders)


class Depot:
    """Memory books and editions that directories are imported to."""

    def __init__(self) -> None:
        self.books, self.editions = MemoryBooks(), MemoryEditions()
        self._imports = 0

    def take(
        self, directory: Path, *, complete: bool = False, dry_run: bool = False, reject_path: Path | None = None
    ) -> Imported:
        """Import a directory, each time a minute later."""
        self._imports += 1
        to = target(self.books, self.editions, self._imports, self._imports)
        return import_directory(directory, to, complete=complete, dry_run=dry_run, reject_path=reject_path)

    def give(self, directory: Path) -> Exported:
        """Export to a directory."""
        return export_directory(directory, self.editions, MemoryContents(self.books))


def contents(directory: Path) -> dict[str, str]:
    """All files of a directory, by their path in it."""
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def rejected(done: Imported) -> list[tuple[str, int, str]]:
    """File, row and field of what was rejected; warnings left out."""
    return [(reject.file, reject.row, reject.field) for reject in done.rejects if not reject.warning]
