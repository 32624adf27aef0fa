"""Runs `poolwise import` as the command it is, and tells what it took: seconds, CPU, and the most memory it held."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from bench.hall import beside
from poolwise.connect.directory.importing import Imported, Progress, import_directory
from poolwise.run.bootstrap import opened
from poolwise.run.directories import target_of
from poolwise.run.settings import Settings

PROGRAM: Final = Path(sys.executable).with_name("poolwise")
LOOK_S: Final = 0.02
PATIENCE_S: Final = 600


@dataclass(frozen=True, slots=True)
class Run:
    """One import: wall time from start to end of the process, its CPU time, its largest resident memory in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    files: dict[str, dict[str, int]]


def bring_in(settings: Settings, directory: Path) -> Run:
    """Import a directory with the command."""
    environment = {**os.environ, "POOLWISE_DATABASE_URL": settings.database_url}
    command = [str(PROGRAM), "import", str(directory), "--json", "--rejects", str(directory / "rejects.csv")]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    peak = _Peak(process.pid)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the import ended with {process.returncode}"
    return Run(seconds, used.ru_utime + used.ru_stime, peak.most_mb(), json.loads(said)["files"])


class _Peak:
    """Watches the largest resident memory of a process: what `wait4` tells includes the parent's, before the exec."""

    def __init__(self, process: int) -> None:
        self._status, self._most_kb = Path(f"/proc/{process}/status"), 0
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                return
            told = next((line for line in lines if line.startswith("VmHWM:")), None)
            if told is None:
                return
            self._most_kb = max(self._most_kb, int(told.split()[1]))
            time.sleep(LOOK_S)

    def most_mb(self) -> float:
        """In MB, once the process has ended."""
        self._watcher.join()
        return self._most_kb / 1_000


def bring_in_part(settings: Settings, directory: Path, rows_in_a_chunk: int, killed_at: int = 0) -> Imported | None:
    """Import in a process of its own, which is killed (kill -9) when it has read the stock file up to a row."""
    receiving, sending = beside.Pipe(duplex=False)
    process = beside.Process(target=_part, args=(settings, directory, rows_in_a_chunk, killed_at, sending))
    process.start()
    sending.close()
    process.join(PATIENCE_S)
    expected = -signal.SIGKILL if killed_at else 0
    assert process.exitcode == expected, f"the import ended with {process.exitcode}, not with {expected}"
    return None if killed_at else receiving.recv()


def _part(settings: Settings, directory: Path, rows_in_a_chunk: int, killed_at: int, sending: Connection) -> None:
    def step(progress: Progress) -> None:
        if killed_at and progress.file == "stock" and progress.done >= killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with opened(settings) as app:
        target = replace(target_of(app), rows_in_a_chunk=rows_in_a_chunk)
        done = import_directory(directory, target, reject_path=directory / "rejects.csv", progress=step)
    sending.send(done)
