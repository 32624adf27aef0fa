"""The supervisor of the embedded server, on real servers: kills, races, stale files, odd folders and users."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from poolwise.store import embedded
from poolwise.store.embedded import EmbeddedServer
from poolwise.store.postgres import DatabaseUnavailable

SOURCE = Path(embedded.__file__).parents[2]
NOBODY = 65534
IS_ROOT = os.geteuid() == 0

# Becomes the user after its imports: Python itself may be installed where that user cannot read.
START = """
import os, sys
from pathlib import Path
from poolwise.store.embedded import EmbeddedServer
folder, user = Path(sys.argv[1]), int(sys.argv[2])
if user != os.geteuid():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
print(EmbeddedServer(folder, durable=False).start())
"""


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    """Makes supervisors, on `data` of the test's folder or another one; their servers are stopped after the test."""
    made: list[EmbeddedServer] = []

    def make(folder: Path = tmp_path / "data") -> EmbeddedServer:
        made.append(EmbeddedServer(folder, durable=False))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def starter(folder: Path, user: int | None = None) -> subprocess.Popen[str]:
    """Another process that starts the server of a folder and prints the owner's URL."""
    return subprocess.Popen(
        [sys.executable, "-c", START, str(folder), str(os.geteuid() if user is None else user)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path])},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ask(url: str, question: str = "SELECT current_user") -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def write_a_row(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('acknowledged')")


def process_of(server: EmbeddedServer) -> int:
    process = server.status().process
    assert process is not None, "the server runs"
    return process


def test_a_started_server_answers_all_three_roles_and_starting_again_changes_nothing(
    new_server: Callable[..., EmbeddedServer],
) -> None:
    server = new_server()
    url = server.start()
    process = process_of(server)
    assert server.start() == url == server.owner_url()
    assert process_of(server) == process
    urls = (url, server.application_url(), server.partner_url())
    assert [ask(url) for url in urls] == ["poolwise_owner", "poolwise_app", "poolwise_partner"]
    assert ask(url, "SELECT current_database()") == "poolwise"


def test_no_role_of_poolwise_is_an_administrator(new_server: Callable[..., EmbeddedServer]) -> None:
    server = new_server()
    server.start()
    rights = "SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls) FROM pg_roles "
    assert ask(server.superuser_url(), rights + "WHERE rolname LIKE 'poolwise%'") is False


def test_the_server_listens_on_no_network_and_runs_in_utc_with_everything_kept_safe(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = new_server()
    server.start()
    shown = {name: ask(server.owner_url(), f"SHOW {name}") for name in ("listen_addresses", "timezone", "max_wal_size")}
    assert shown == {"listen_addresses": "", "timezone": "UTC", "max_wal_size": "4GB"}
    server.stop()
    durable = EmbeddedServer(tmp_path / "data")
    assert [ask(durable.start(), f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]


def test_nothing_in_the_folder_is_open_to_other_users(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = new_server()
    server.start()
    folder = tmp_path / "data"
    open_to_others = [path.name for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o007]
    assert set(open_to_others) <= {".s.PGSQL.5432"}, "a socket's own mode is 0777, its folder is private"
    assert (folder / "secrets.json").stat().st_mode & 0o077 == 0


def test_what_was_acknowledged_survives_kill_9_of_the_server(new_server: Callable[..., EmbeddedServer]) -> None:
    server = new_server()
    write_a_row(server.start())
    os.kill(process_of(server), signal.SIGKILL)
    server.start()
    assert ask(server.owner_url(), "SELECT word FROM kept") == "acknowledged"


def test_a_busy_orphan_of_a_killed_server_does_not_block_the_next_start(
    new_server: Callable[..., EmbeddedServer],
) -> None:
    server = new_server()
    server.start()
    busy = "DO $$ BEGIN LOOP END LOOP; END $$"
    with psycopg.connect(server.owner_url(), autocommit=True) as connection:
        orphan = connection.info.backend_pid

        def be_busy() -> None:
            with pytest.raises(psycopg.OperationalError):
                connection.execute(busy)

        thread = threading.Thread(target=be_busy)
        thread.start()
        while ask(server.superuser_url(), f"SELECT state FROM pg_stat_activity WHERE pid = {orphan}") != "active":
            time.sleep(0.01)
        os.kill(process_of(server), signal.SIGKILL)
        server.start()
        thread.join()
    assert ask(server.owner_url()) == "poolwise_owner"
    assert not Path(f"/proc/{orphan}/cwd").exists()


def test_killing_the_starting_process_at_any_moment_leaves_a_folder_that_starts(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    delays_s = (0.3, 0.5, 0.7, 1.0, 1.5)
    began = time.monotonic()
    processes = [starter(tmp_path / str(delay_s)) for delay_s in delays_s]
    for process, delay_s in zip(processes, delays_s, strict=True):
        time.sleep(max(0.0, began + delay_s - time.monotonic()))
        process.kill()
        complaints = process.communicate()[1]
        assert process.returncode in {0, -signal.SIGKILL}, complaints
    for delay_s in delays_s:
        assert ask(new_server(tmp_path / str(delay_s)).start()) == "poolwise_owner"


def test_the_server_outlives_the_process_that_started_it(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    process = starter(tmp_path / "data")
    url, complaints = process.communicate()
    assert process.returncode == 0, complaints
    assert ask(url.strip()) == "poolwise_owner"
    server = new_server()
    assert server.start() == url.strip()
    assert os.getsid(process_of(server)) != os.getsid(0), "Ctrl-C in this terminal does not reach it"


def test_a_pid_file_that_names_a_live_foreign_process_is_not_believed(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = new_server()
    write_a_row(server.start())
    pid_file = tmp_path / "data" / "cluster" / "postmaster.pid"
    left_over = pid_file.read_text().split("\n", 1)[1]
    os.kill(process_of(server), signal.SIGKILL)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            pid_file.write_text(f"{stranger.pid}\n{left_over}")
            assert server.status().state == "stopped"
            server.start()
            assert process_of(server) != stranger.pid
            server.stop()
            assert stranger.poll() is None, "the stranger was left in peace"
        finally:
            stranger.kill()


def test_a_server_that_somebody_else_runs_on_the_cluster_is_not_joined_by_a_second(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = new_server()
    server.start()
    folder = tmp_path / "data"
    (folder / "alive.lock").rename(folder / "lost.lock")
    (folder / "socket" / ".s.PGSQL.5432").rename(folder / "socket" / "lost")
    process = process_of(server)
    with pytest.raises(DatabaseUnavailable, match=f"Process {process} runs PostgreSQL"):
        server.start()
    (folder / "lost.lock").rename(folder / "alive.lock")
    (folder / "socket" / "lost").rename(folder / "socket" / ".s.PGSQL.5432")


def test_many_processes_starting_one_folder_at_once_get_one_server(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    processes = [starter(tmp_path / "data") for _ in range(5)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, answers
    assert len({url for url, _ in answers}) == 1
    assert (tmp_path / "data" / "server.log").read_text().count("ready to accept connections") == 1
    new_server()


def test_ten_quick_stops_and_starts_lose_nothing(new_server: Callable[..., EmbeddedServer]) -> None:
    server = new_server()
    write_a_row(server.start())
    for _ in range(10):
        server.stop()
        server.stop()
        server.start()
    assert ask(server.owner_url(), "SELECT word FROM kept") == "acknowledged"


def test_stops_and_starts_of_two_processes_at_once_end_well(new_server: Callable[..., EmbeddedServer]) -> None:
    one, other = new_server(), new_server()
    one.start()

    def stop_again_and_again() -> None:
        for _ in range(10):
            other.stop()

    stopper = threading.Thread(target=stop_again_and_again)
    stopper.start()
    for _ in range(10):
        one.start()
    stopper.join()
    assert ask(one.start()) == "poolwise_owner"


def test_a_folder_whose_path_is_too_long_for_a_socket_works(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    folder = tmp_path / ("long" * 20) / "wörds with spaces & %41" / ("path" * 20)
    server = new_server(folder)
    assert ask(server.start()) == "poolwise_owner"
    link = server.status().socket
    assert link is not None
    assert link.readlink() == folder / "socket"
    url = server.owner_url()
    link.unlink()
    assert server.start() == url, "a link that was cleared away is made anew"
    server.stop()
    assert not link.parent.exists()
    link.parent.mkdir(mode=0o777)
    link.parent.chmod(0o777)
    assert server.start() != url, "a folder that others can write is not trusted"
    link.parent.rmdir()


def test_a_folder_whose_short_link_is_not_made_yet_counts_as_not_started(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    folder = tmp_path / ("long" * 20) / ("path" * 20)
    server = new_server(folder)
    server.start()
    server.stop()
    kept = json.loads((folder / "secrets.json").read_text())
    del kept["socket_link"]
    (folder / "secrets.json").write_text(json.dumps(kept))
    assert server.status().state == "stopped"
    assert ask(server.start()) == "poolwise_owner"


def test_a_folder_below_a_private_folder_works_and_the_parent_stays_private(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    before = private.stat()
    server = new_server(private / "data")
    assert ask(server.start()) == "poolwise_owner"
    after = private.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert (private / "data" / "cluster" / "PG_VERSION").exists(), "the data is where it was asked to be"


@pytest.mark.skipif(shutil.which("lsof") is None, reason="install lsof to see how macOS finds the server's processes")
def test_without_a_proc_folder_the_same_processes_are_found(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = new_server()
    server.start()
    process = process_of(server)
    monkeypatch.setattr(embedded, "PROCESSES", tmp_path / "absent")
    assert process_of(server) == process
    server.stop()
    assert server.status().state == "stopped"


@pytest.mark.skipif(not IS_ROOT, reason="start this test as root to see the unprivileged account at work")
def test_as_root_the_server_runs_as_an_unprivileged_account(new_server: Callable[..., EmbeddedServer]) -> None:
    server = new_server()
    server.start()
    assert server.status().account in embedded.UNPRIVILEGED_ACCOUNTS
    assert Path(f"/proc/{process_of(server)}").stat().st_uid != 0


@pytest.mark.skipif(not IS_ROOT, reason="start this test as root to see binaries copied that the account cannot reach")
def test_as_root_binaries_that_the_account_cannot_reach_are_copied(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedServer, "_can_execute", lambda *_: False)
    copies = Path(tempfile.mkdtemp(prefix="poolwise-binaries-", dir="/var/tmp"))
    copies.chmod(0o755)
    monkeypatch.setattr(embedded, "BINARIES_FOR_ROOT", copies / "cache")
    server = new_server()
    try:
        assert ask(server.start()) == "poolwise_owner"
        assert Path(f"/proc/{process_of(server)}/exe").readlink().is_relative_to(copies)
        server.stop()
    finally:
        shutil.rmtree(copies)


def test_a_plain_user_starts_it_as_itself(tmp_path: Path) -> None:
    """As root this runs as `nobody`; otherwise as who runs the tests, like every other test here."""
    folder = Path(tempfile.mkdtemp(prefix="poolwise-plain-"))
    user = NOBODY if IS_ROOT else None
    if user is not None:
        os.chown(folder, user, user)
    try:
        process = starter(folder / "data", user)
        url, complaints = process.communicate()
        assert process.returncode == 0, complaints
        assert ask(url.strip()) == "poolwise_owner"
        server = EmbeddedServer(folder / "data")
        assert (folder / "data").stat().st_uid == (NOBODY if IS_ROOT else os.geteuid())
        if IS_ROOT:
            with pytest.raises(DatabaseUnavailable, match="belongs to the user"):
                server.stop()
        os.kill(process_of(server), signal.SIGINT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_folder_with_other_files_is_refused_and_left_alone(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir(mode=0o755)
    (folder / "letter.txt").write_text("private")
    with pytest.raises(DatabaseUnavailable, match="files that are not Poolwise's"):
        new_server(folder).start()
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_cannot_be_made_is_refused(new_server: Callable[..., EmbeddedServer], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match="cannot be used"):
        new_server(tmp_path / "file" / "data").start()


def test_lost_or_wrong_passwords_are_named_with_the_remedy(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = new_server()
    server.start()
    secrets = tmp_path / "data" / "secrets.json"
    kept = secrets.read_text()
    secrets.write_text(re.sub(r'("(?:postgres|poolwise_\w+)": ")', r"\1wrong", kept))
    with pytest.raises(DatabaseUnavailable, match="are not those of the server") as refused:
        server.start()
    assert "Restore that file" in refused.value.remedy
    secrets.unlink()
    with pytest.raises(DatabaseUnavailable, match=r"secrets\.json is missing"):
        server.start()
    secrets.write_text(kept)
    server.start()


def test_a_cluster_that_cannot_start_says_why_and_where_to_read_more(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = new_server()
    server.start()
    server.stop()
    version = tmp_path / "data" / "cluster" / "PG_VERSION"
    version.write_text("9.6\n")
    with pytest.raises(DatabaseUnavailable, match=r"9\.6.*server\.log"):
        server.start()
    version.write_text("18\n")
    assert ask(server.start()) == "poolwise_owner"


def test_a_full_server_is_running(new_server: Callable[..., EmbeddedServer]) -> None:
    server = new_server()
    url = server.start()
    taken: list[psycopg.Connection[tuple[object, ...]]] = []
    try:
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(url))
        assert server.start() == url
    finally:
        for connection in taken:
            connection.close()


def test_a_recovery_is_waited_for_and_reported(
    new_server: Callable[..., EmbeddedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "REPORT_S", 0)
    server = new_server()
    with psycopg.connect(server.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000000) AS number")
    os.kill(process_of(server), signal.SIGKILL)
    heard: list[str] = []
    patient = EmbeddedServer(tmp_path / "data", durable=False, progress=heard.append)
    assert ask(patient.start(), "SELECT count(*) FROM kept") == 1_000_000
    assert "PostgreSQL is starting" in heard
    assert any("redo" in sentence or "recovery" in sentence for sentence in heard), heard


def test_status_tells_absent_stopped_and_running(new_server: Callable[..., EmbeddedServer], tmp_path: Path) -> None:
    server = new_server()
    states = [server.status().state]
    server.start()
    states.append(server.status().state)
    server.stop()
    states.append(server.status().state)
    assert states == ["absent", "running", "stopped"]


def test_a_url_before_the_first_start_says_to_start(new_server: Callable[..., EmbeddedServer]) -> None:
    with pytest.raises(DatabaseUnavailable, match="poolwise db start"):
        new_server().application_url()
