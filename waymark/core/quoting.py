"""Names, texts and paths, quoted for what reads them: SQL, DuckDB's patterns of files, addresses of SQLite, a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path


def name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def exact(path: Path | str) -> str:
    """The path with what DuckDB's readers of files would take for a pattern escaped."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def file_list(paths: Iterable[Path | str]) -> str:
    """SQL: a list of files for DuckDB's readers, each of which is the file of that very name."""
    return f"[{', '.join(literal(exact(path)) for path in paths)}]"


def read_only_address(path: Path) -> str:
    """The address by which SQLite (with uri=True) opens this file, and only to read it; it makes none."""
    return f"{path.absolute().as_uri()}?mode=ro"


def typed(*words: Path | str) -> str:
    """The words as they are to be typed into a shell: a path stays one word whatever is in it."""
    return shlex.join(map(str, words))


def project_option(directory: Path) -> str:
    """What follows a command of Waymark's to name the project in `directory` (absolute): nothing from inside of it, else the shorter path from here."""
    here = Path.cwd()
    if directory == here:
        return ""
    return f" --project {typed(directory.relative_to(here) if directory.is_relative_to(here) else directory)}"
