"""The file of a SQLite database as such: copied while it is in use, and checked."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StoreDamaged, StoreFailed, StoreFull
from storage.lmdb.rows import lacks_room


def copy_database(source: Path, copy: Path) -> None:
    """Copy a database that may be in use, as one moment has it. Raises StoreDamaged, StoreFull, StoreFailed."""
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with _database(source, "rw") as opened, _database(copy, "rw") as copied:
            opened.backup(copied)
            copied.execute("PRAGMA journal_mode = DELETE")
        check_database(copy, source)
    except sqlite3.Error as error:
        if lacks_room(copy):
            raise StoreFull(f"no space left: copying {source}") from error
        raise StoreFailed(f"copying {source} failed: {error}") from error


def check_database(path: Path, name: Path) -> None:
    """Raises StoreDamaged when the database `path`, called `name` in what is raised, is not sound."""
    try:
        with _database(path, "ro") as opened:
            found = [str(row[0]) for row in opened.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        raise StoreDamaged(f"{name} is damaged: {found[0]}")


@contextmanager
def _database(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{_quoted(path)}?mode={mode}", uri=True)
    try:
        yield connection
    finally:
        connection.close()


def _quoted(path: Path) -> str:
    """For a URI of SQLite."""
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
