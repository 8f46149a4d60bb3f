"""References of persons in the audit log: random, so that the log says nothing of an erased person once the row that maps its reference is gone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from waymark.core.errors import StorageError
from waymark.core.home import Home, write_once

_TABLES = """
    create table if not exists key (value blob not null);
    create table if not exists subjects (digest text primary key, reference text not null unique);
"""


class SubjectReferences:
    """The mapping from a subject (a customer id, say) to its reference. It holds keyed digests, under a key of its own, and is for the home's owner alone."""

    def __init__(self, home: Home) -> None:
        self.path = home.audit / "subjects.sqlite"

    def of(self, subjects: Iterable[str]) -> list[str]:
        """The references of these subjects, each made where there is none yet; in the subjects' order. Raises StorageError where they cannot be kept."""
        wanted = list(subjects)
        with self._opened() as database:
            digests = [self._digest(database, subject) for subject in wanted]
            database.executemany("insert or ignore into subjects values (?, ?)", [(digest, f"p_{secrets.token_hex(8)}") for digest in digests])
            found = dict(database.execute(f"select digest, reference from subjects where digest in ({', '.join('?' * len(digests))})", digests))
        return [str(found[digest]) for digest in digests]

    def known(self, subject: str) -> str | None:
        """The reference of a subject that the log speaks of; None where it speaks of none such."""
        if not self.path.exists():
            return None
        with self._opened() as database:
            found = database.execute("select reference from subjects where digest = ?", [self._digest(database, subject)]).fetchone()
        return str(found[0]) if found else None

    def forget(self, subjects: Iterable[str]) -> int:
        """Deletes the rows of these subjects, overwriting their bytes: from then on nobody can tell of whom the log spoke. How many there were."""
        if not self.path.exists():
            return 0
        with self._opened() as database:
            digests = [self._digest(database, subject) for subject in subjects]
            deleted = sum(database.execute("delete from subjects where digest = ?", [digest]).rowcount for digest in digests)
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as database:
            database.execute("vacuum")
        return deleted

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self.path.exists():
                write_once(self.path, "", mode=0o600)  # SQLite takes an empty file for a new database, and keeps its mode
            database = sqlite3.connect(self.path, timeout=30)
        except (OSError, sqlite3.Error) as error:
            raise _unusable(self.path, error) from error
        try:
            database.execute("pragma secure_delete = on")
            with database:
                database.execute("begin immediate")
                for statement in _TABLES.split(";"):
                    database.execute(statement)
                database.execute("insert into key select ? where not exists (select 1 from key)", [secrets.token_bytes(32)])
                yield database
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error
        finally:
            database.close()

    @staticmethod
    def _digest(database: sqlite3.Connection, subject: str) -> str:
        (key,) = database.execute("select value from key").fetchone()
        return hmac.new(key, subject.encode(), hashlib.sha256).hexdigest()


def _unusable(path: Path, error: Exception) -> StorageError:
    return StorageError(f"the references of the audit log cannot be kept ({error})", where=str(path), remedy="Only the home's owner can: run as that user.")
