"""Files of the lake: written under temporary names, synced, renamed, and only then registered; recovery removes what was never registered."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from waymark.core.errors import StorageError
from waymark.core.home import Home, sync_file, sync_folder
from waymark.core.quoting import file_list, literal
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.files import KNOWN_FILE

_TEMPORARY = ".tmp-"
SCRATCH = "ingest"
# Ends the name of a file that has the column `comparables`. Other files lack it, and no view of `raw` has it: what is compared is for identity alone.
COMPARES = "_compares"


def events_folder(home: Home, source: str) -> Path:
    return home.raw_lake / f"{source}_events"


def scratch_folder(home: Home) -> Path:
    """Where plain copies of compressed or transcoded files stand while they are read. Emptied by recovery."""
    folder = home.scratch / SCRATCH
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    return folder


def write_partitions(connection: Connection, query: str, home: Home, source: str, batch_id: int, *, compares: bool = False) -> list[tuple[str, int, int]]:
    """Writes a query's rows as `event_date=…/b<batch>_<n>[_compares].parquet`; (path under the home, rows, bytes) of each file.

    When it returns the files are durable under their final names, and known to nobody yet.
    """
    folder = events_folder(home, source)
    temporary = folder / f"{_TEMPORARY}{batch_id:08d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    connection.execute(
        f"copy ({query}) to {literal(str(temporary))} (format parquet, partition_by (event_date), compression zstd, overwrite_or_ignore true)"
    ).fetchall()
    moves: list[tuple[Path, Path]] = []
    for day in sorted(path for path in temporary.iterdir() if path.is_dir()):
        for number, file in enumerate(sorted(day.iterdir())):
            moves.append((file, folder / day.name / f"b{batch_id:08d}_{number}{COMPARES if compares else ''}.parquet"))
    counts = _row_counts(connection, [source_file for source_file, _ in moves])
    written = [(str(target.relative_to(home.root)), counts[str(file)], file.stat().st_size) for file, target in moves]
    with ThreadPoolExecutor(max_workers=8) as pool:  # fsync waits for the disk, not for Python
        list(pool.map(sync_file, [file for file, _ in moves]))
    folders = sorted({target.parent for _, target in moves})
    for target_folder in folders:
        target_folder.mkdir(parents=True, exist_ok=True)
    for file, target in moves:
        os.replace(file, target)
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(sync_folder, [*folders, folder, folder.parent]))
    shutil.rmtree(temporary)
    return written


def write_quarantine(connection: Connection, query: str, home: Home, source: str, batch_id: int) -> tuple[str, int, int]:
    """Writes refused rows to one file, mode 600 in a folder of mode 700; (path under the home, rows, bytes)."""
    folder = home.quarantine / source
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(home.quarantine, 0o700)
    os.chmod(folder, 0o700)
    temporary, target = folder / f"{_TEMPORARY}{batch_id:08d}.parquet", folder / f"b{batch_id:08d}.parquet"
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    connection.execute(f"copy ({query}) to {literal(str(temporary))} (format parquet, compression zstd)").fetchall()
    os.chmod(temporary, 0o600)
    count = _row_counts(connection, [temporary])[str(temporary)]
    sync_file(temporary)
    os.replace(temporary, target)
    sync_folder(folder)
    return str(target.relative_to(home.root)), count, target.stat().st_size


def _row_counts(connection: Connection, files: list[Path]) -> dict[str, int]:
    if not files:
        return {}
    found = rows(connection, f"select file_name, num_rows from parquet_file_metadata({file_list(files)}) order by file_name")
    return {str(file): int(str(count)) for file, count in found}


def recover(connection: Connection, home: Home) -> list[str]:
    """Brings the lake's folders in line with the registry: removes files that no transaction registered, and checks those that one did.

    Returns the removed paths. Raises StorageError where a registered file is gone or has another size.
    """
    remove_replaced(connection, home)
    registered = {str(path): int(str(size)) for path, size in rows(connection, "select path, bytes from raw.lake_files order by path")}
    kept = {str(path) for (path,) in rows(connection, "select path from raw.quarantine_files order by path")}
    _check_registry_is_current(connection, home, set(registered))
    removed = []
    for top, known in ((home.raw_lake, set(registered)), (home.quarantine, kept)):
        if not top.exists():
            continue
        for temporary in sorted(top.glob(f"*/{_TEMPORARY}*")):
            removed.append(str(temporary))
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
        for file in sorted(top.rglob("*.parquet")):
            if str(file.relative_to(home.root)) not in known:
                removed.append(str(file))
                file.unlink()
    shutil.rmtree(home.scratch / SCRATCH, ignore_errors=True)
    for path, size in registered.items():
        file = home.root / path
        found = file.stat().st_size if file.exists() else None
        if found != size:
            state = "is gone" if found is None else f"has {found} bytes, not {size}"
            raise StorageError(
                f"a file of the lake {state}", where=str(file), remedy="Restore it from a backup, or ingest again into a fresh home (WAYMARK_HOME)."
            )
    for path in sorted(kept):
        if not (home.root / path).exists():  # refused rows may be deleted by hand: nothing downstream reads them
            connection.execute("delete from raw.quarantine_files where path = ?", [path])
    return removed


def remove_replaced(connection: Connection, home: Home) -> None:
    """Removes the files that a committed removal of events wrote anew, and then forgets their names."""
    replaced = [str(path) for (path,) in rows(connection, "select path from raw.replaced_files order by path")]
    if not replaced:
        return
    folders = {(home.root / path).parent for path in replaced}
    for path in replaced:
        (home.root / path).unlink(missing_ok=True)
    for folder in sorted(folder for folder in folders if folder.is_dir()):
        if any(folder.iterdir()):
            sync_folder(folder)
        else:
            folder.rmdir()
            sync_folder(folder.parent)
    connection.execute("delete from raw.replaced_files")


def _check_registry_is_current(connection: Connection, home: Home, registered: set[str]) -> None:
    """A crash leaves files of the next batch alone. Other strangers mean that the warehouse was removed, or restored from an older copy:
    then the lake knows more than the registry, and nothing of it may be removed."""
    known = " union all ".join(f"select max(batch_id) as id from raw.{table}" for table in ("lake_files", "ingestion_log", "quarantine_files"))
    newest = rows(connection, f"select max(id) from ({known})")
    next_id = int(str(newest[0][0] or 0)) + 1
    strangers = [file for file in sorted(home.raw_lake.rglob("b*.parquet")) if str(file.relative_to(home.root)) not in registered]
    foreign = [file for file in strangers if file.name.split("_")[0] != f"b{next_id:08d}"]
    if foreign or (strangers and next_id == 1 and (home.root / KNOWN_FILE).exists()):
        raise StorageError(
            f"the lake holds {len(strangers)} files that the warehouse does not know: it was removed, or restored from an older copy",
            where=str(home.warehouse),
            remedy="Put back the warehouse.duckdb that belongs to this lake, or ingest everything into a fresh home (WAYMARK_HOME).",
        )


def discard(home: Home, source: str, batch_id: int) -> None:
    """Removes the files of a batch that could not be committed."""
    for top in (events_folder(home, source), home.quarantine / source):
        shutil.rmtree(top / f"{_TEMPORARY}{batch_id:08d}", ignore_errors=True)
        for file in [*top.glob(f"*/b{batch_id:08d}_*.parquet"), *top.glob(f"b{batch_id:08d}.parquet"), *top.glob(f"{_TEMPORARY}{batch_id:08d}.parquet")]:
            file.unlink(missing_ok=True)
