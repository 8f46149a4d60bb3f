"""Which files are there, and which are new: by stat alone, so that "nothing new" is said before anything heavy is imported."""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path

from waymark.core.home import Home, read_json, write_atomically
from waymark.core.settings import Project

KNOWN_FILE = "known_files.json"
Stamp = tuple[int, int]
Known = dict[str, Stamp]
_ESCAPED = re.compile(r"\[([*?[])\]")  # as glob.escape writes it


def source_files(project: Project, source: str) -> list[Path]:
    """The source's files as its globs find them, sorted. A folder that a glob names is listed too (and refused later), unless the glob is recursive."""
    found: set[str] = set()
    for pattern in project.file_globs(source):
        recursive = "**" in pattern
        found.update(path for path in glob.glob(pattern, recursive=True) if not (recursive and os.path.isdir(path)))
        plain = _ESCAPED.sub(r"\1", pattern)
        if not glob.has_magic(_ESCAPED.sub("", pattern)) and not os.path.lexists(plain):
            found.add(plain)
    return [Path(path) for path in sorted(found)]


def stamp(path: Path) -> Stamp:
    """(bytes, mtime in ns); (-1, -1) where there is nothing to be read."""
    try:
        state = path.stat()
    except OSError:
        return (-1, -1)
    return (state.st_size, state.st_mtime_ns)


def known_files(home: Home) -> dict[str, Known]:
    """Per source, the files that its last committed ingestion knew, by path. Empty where the warehouse is gone."""
    document = (read_json(home.root / KNOWN_FILE) or {}) if home.warehouse.exists() else {}
    return {
        source: {str(path): (int(pair[0]), int(pair[1])) for path, pair in files.items() if isinstance(pair, list) and len(pair) == 2}
        for source, files in document.items()
        if isinstance(files, dict)
    }


def save_known(home: Home, source: str, known: Known) -> None:
    """Keeps them, durably. Called after the commit: a crash between costs a second look at the files, no more."""
    document = dict(read_json(home.root / KNOWN_FILE) or {})
    document[source] = {path: list(pair) for path, pair in sorted(known.items())}
    write_atomically(home.root / KNOWN_FILE, json.dumps(document, indent=0, sort_keys=True) + "\n")


def new_files(project: Project, source: str, known: dict[str, Known] | None = None) -> list[Path]:
    """Files that the last ingestion has not seen as they are now; the mapping itself among them, if it changed.

    known: what `known_files` gave, if it is at hand.
    """
    seen = (known_files(project.home) if known is None else known).get(source, {})
    watched = [project.mapping_path(source), *source_files(project, source)]
    return [path for path in watched if seen.get(str(path)) != stamp(path)]
