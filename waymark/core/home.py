"""The project's home: where everything that a run makes is kept, and the lock that lets one writer in at a time."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from waymark.core.clock import wall_now
from waymark.core.errors import LockHeldError, StorageError

SCHEMA_VERSION = 3
# What is no part of a folder's name to DuckDB (? and \), to dbt (# in a database's path, {{ {% {# in its profile), to Dagster (%41 in an address of SQLite;
# * ? [ where it looks for its settings: it would find none, and send statistics of use).
_NO_NAME = re.compile(r"[?#*\[\\\n]|%[0-9A-Fa-f]{2}|\{[{%]")


class Home:
    """Paths under a home (`.waymark/` in the project folder, or `WAYMARK_HOME`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.landing = root / "landing"
        self.lake = root / "lake"
        self.raw_lake = root / "lake" / "raw"
        self.quarantine = root / "lake" / "quarantine"
        self.warehouse = root / "warehouse.duckdb"
        self.published_dir = root / "published"
        self.published = root / "published" / "waymark.duckdb"
        self.manifest = root / "published" / "manifest.json"
        self.mlflow = root / "mlflow"
        self.dagster = root / "dagster"
        self.exports = root / "exports"
        self.quality = root / "quality"
        self.logs = root / "logs"
        self.dbt = root / "dbt"
        self.scratch = root / "scratch"
        self.secret_file = root / "secret"
        self.lock_file = root / "writer.lock"
        self.world = root / "world.json"
        self.unpublished = root / "unpublished"
        self.docs = root / "docs"
        self.services = root / "services"
        self.privacy = root / "privacy"
        self.audit = root / "audit"
        self.version_file = root / "schema_version"

    def role_file(self, role: str) -> Path:
        """The published file of a role; there is one where the settings name the role."""
        return self.published_dir / role / "waymark.duckdb"

    def mark_unpublished(self) -> None:
        """From here until a snapshot is out, the warehouse may hold what no reader sees; a later run must not say "nothing new"."""
        if not self.unpublished.exists():
            write_atomically(self.unpublished, "")

    def check_path(self) -> None:
        """Raises StorageError where the home cannot be, because of how a folder above it is named: a library would look elsewhere, and find nothing there."""
        if found := _NO_NAME.search(str(self.root)):
            raise StorageError(
                f"there is {found[0]!r} in the path of the home, which DuckDB, dbt or Dagster does not take for a part of a folder's name",
                where=str(self.root),
                remedy="Rename that folder, or keep the home elsewhere: set WAYMARK_HOME to another folder. The project itself may stay where it is.",
            )

    def ensure(self, *, upgrading: bool = False) -> None:
        """Makes the folders.

        upgrading: an older schema version is let pass, and stays written. Raises StorageError where the disk does not allow it, or the home is of
        another schema version.
        """
        try:
            for folder in (self.root, self.landing, self.raw_lake, self.quarantine, self.published_dir, self.dagster, self.logs, self.dbt, self.scratch):
                folder.mkdir(parents=True, exist_ok=True)
            os.chmod(self.quarantine, 0o700)
            probe = self.root / ".write_probe"
            probe.write_text("")
            probe.unlink(missing_ok=True)  # of two processes at once one may remove it for both
            if self.version() is None:
                self.write_version()
        except OSError as error:
            raise StorageError(
                f"the home cannot be written ({error.strerror})",
                where=str(self.root),
                remedy="Free space or grant write permission, or set WAYMARK_HOME to another folder.",
            ) from error
        self.check_version(upgrading=upgrading)

    def version(self) -> int | None:
        """The schema version that the home says; None for a fresh one, 0 for one that has a warehouse and says none.

        Raises StorageError where it says something else.
        """
        try:
            text = self.version_file.read_text().strip()
        except FileNotFoundError:
            return 0 if self.warehouse.exists() else None
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError("the home's schema version cannot be read", where=str(self.version_file), remedy="Grant read permission.") from error
        if not text.isdecimal():
            raise StorageError(
                f"the home's schema version is '{text[:20]}', which is no number",
                where=str(self.version_file),
                remedy="Remove the file, then: waymark upgrade",
            )
        return int(text)

    def write_version(self) -> None:
        """Says that the home is as this Waymark lays it out."""
        write_atomically(self.version_file, f"{SCHEMA_VERSION}\n")

    def check_version(self, *, upgrading: bool = False) -> None:
        """Raises StorageError if another schema version made this home; upgrading: only if a newer one did."""
        found = self.version()
        if found is None or found == SCHEMA_VERSION or (upgrading and found < SCHEMA_VERSION):
            return
        if found < SCHEMA_VERSION:
            raise StorageError(
                f"the home has schema version {found}, this Waymark writes {SCHEMA_VERSION}",
                where=str(self.root),
                remedy="Rebuild its tables from the lake: waymark upgrade. What is published can be read meanwhile.",
            )
        raise StorageError(
            f"the home has schema version {found}, this Waymark knows up to {SCHEMA_VERSION}",
            where=str(self.root),
            remedy="Use the Waymark that made it, or a newer one; or run into a fresh home (WAYMARK_HOME).",
        )

    def writer(self) -> str | None:
        """Who holds the writer lock (its process, since when), or None. Holds it for nobody else: a writer that comes meanwhile tries again by itself."""
        return lock_holder(self.lock_file)

    @contextmanager
    def reading(self) -> Iterator[str | None]:
        """Keeps writers waiting while the warehouse is looked at, which is to be brief: whoever has it open lets no run go on.

        Yields None, or who writes at this moment: then nothing waits, and the warehouse is not to be opened.
        """
        with _shared(self.lock_file) as holder:
            yield holder

    @contextmanager
    def writer_lock(self, *, timeout_seconds: float = 600, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Holds the home's writer lock; waits for another holder, or for who reads the warehouse, then raises LockHeldError that names it.

        The kernel drops the lock with its process, so a killed run never leaves one behind.
        """
        import fcntl

        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            deadline, told = monotonic() + timeout_seconds, False
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        raise
                    holder = os.pread(handle, 500, 0).decode(errors="replace").strip() or "a process that looks at it"
                    if monotonic() >= deadline:
                        raise LockHeldError(f"the home is held by {holder}", where=str(self.root), remedy="Wait for that run to end, or stop it.") from error
                    if on_wait and not told:
                        on_wait(holder)
                        told = True
                    sleep(0.1)
            note_holder(handle, f"process {os.getpid()}, since {wall_now().isoformat(timespec='seconds')}Z")
            try:
                yield
            finally:
                note_holder(handle, "")
        finally:
            os.close(handle)


def note_holder(handle: int, text: str) -> None:
    """Writes into a lock file what its holder says of itself; "": nothing any more.

    In one step, with blanks up to the end of a longer note before it: a reader, or who comes after a kill, must not find an empty one.
    """
    if text:
        os.pwrite(handle, text.encode().ljust(os.fstat(handle).st_size), 0)
    else:
        os.ftruncate(handle, 0)


def lock_holder(path: Path) -> str | None:
    """What the process that holds this lock file wrote into it, or None where nobody holds it."""
    with _shared(path) as holder:
        return holder


@contextmanager
def _shared(path: Path) -> Iterator[str | None]:
    """Holds a lock file together with others who do no more than that, and yields None; or what the process that holds it alone wrote into it."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    holder = None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            holder = os.pread(handle, 10_000, 0).decode(errors="replace").strip() or "an unknown process"
        yield holder
    finally:
        os.close(handle)


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Writes a small file so that a reader sees the old or the new one, never a part; durable when it returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _fill(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), text, mode)
    rename_durably(temporary, path)


def write_once(path: Path, text: str, *, mode: int = 0o644) -> bool:
    """Writes a small file whole unless there is one of that name; of several processes at once exactly one is told True. Durable when it returns."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        _fill(handle, text, mode)
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))  # a disk without hard links: claim the name, then fill it
            os.replace(temporary, path)
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _fill(handle: int, text: str, mode: int) -> None:
    """Writes all of the text, durably, and closes."""
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def rename_durably(source: Path, target: Path) -> None:
    """Renames over `target` and syncs the folder, so that the rename outlives a power cut."""
    os.replace(source, target)
    sync_folder(target.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copies a large file inside the kernel; a disk that can share blocks between files shares them. Not durable until `sync_file`."""
    with open(source, "rb") as reading, open(target, "wb") as writing:
        left = os.fstat(reading.fileno()).st_size
        try:
            while left > 0 and (done := os.copy_file_range(reading.fileno(), writing.fileno(), left)) > 0:
                left -= done
        except (AttributeError, OSError) as error:  # macOS, or a disk that cannot
            if isinstance(error, OSError) and error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        if left > 0:
            reading.seek(0)
            writing.seek(0)
            shutil.copyfileobj(reading, writing, 1 << 20)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Forces a file that another library wrote to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, object] | None:
    """A JSON object, or None where there is no readable one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
