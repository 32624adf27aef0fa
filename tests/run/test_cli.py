"""What the command line refuses, and when it says that something runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from poolwise.run.cli import app
from tests.conftest import Database


@pytest.mark.parametrize(
    ("typed", "blamed"),
    [
        ("work --processes -1", "--processes"),
        ("work --processes 0", "--processes"),
        ("up --workers -1", "--workers"),
        ("up --workers 65", "--workers"),
        ("demo --processes 0", "--processes"),
        ("token issue a --days -1", "--days"),
        ("token issue a --days 999999999999", "--days"),
        ("explain O-1 --attempt 0", "--attempt"),
    ],
)
def test_a_number_out_of_range_is_refused_by_the_option_it_was_typed_for(typed: str, blamed: str) -> None:
    done = CliRunner().invoke(app, typed.split(), env={"NO_COLOR": "1", "COLUMNS": "200"})
    assert (done.exit_code, f"Invalid value for '{blamed}'" in done.output) == (2, True), done.output


def test_up_says_so_when_the_api_answers(database: Database, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"DATABASE_URL": database.url, "OWNER_URL": database.owner_url, "PORT": str(port)}
    env = os.environ | {f"POOLWISE_{name}": value for name, value in settings.items()} | {"NO_COLOR": "1"}
    started = [sys.executable, "-c", "from poolwise.run.cli import main; main()", "up"]
    with subprocess.Popen(
        started, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        try:
            assert running.stdout is not None
            line = next(line for line in running.stdout if "is up" in line)
            assert f":{port}/" in line
            assert httpx.get(f"http://127.0.0.1:{port}/v1/openapi.json", timeout=60).status_code == 200
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
