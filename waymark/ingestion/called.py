"""Files that are called after erased persons, as a copy of somebody's data often is (`takeout_ann@example.org.csv`): they get another name.

With them changes what the home says of files: the log, the refused rows, and the list of known files. An identifier is told in a name where it stands between
any signs, and an id only where it has eight characters and more and is no number, because a shorter one stands anywhere by accident.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from pathlib import Path
from urllib.parse import unquote

from waymark.core.errors import WaymarkError
from waymark.core.home import rename_durably, sync_folder
from waymark.core.settings import Project
from waymark.core.warehouse import rows
from waymark.ingestion.erased import Erased
from waymark.ingestion.files import known_files, save_known, source_files
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.quarantine import quarantined_files, rename_quarantined
from waymark.privacy import identifier_message
from waymark.privacy.needles import is_telling, parts_of
from waymark.privacy.tombstones import tombstone

_IS_NUMBER = re.compile(r"[+]?(?:[ ().\-/]*[0-9]){7,15}")
_FRESH, _LETTERS = "erased-", 12


class FileNames:
    """Of the persons whose records `erased` tells. label: of their request; a name that an earlier one gave is not given again."""

    def __init__(self, project: Project, mappings: MappingOf[str, Mapping], erased: Erased, label: str = "") -> None:
        self.project, self.landing, self.erased, self.label = project, project.home.landing, erased, label
        self.mappings = mappings
        self.digests = {str(digest) for (digest,) in rows(erased.connection, f"select distinct digest from {erased.tombstones}")}
        own = [kind for kind in ("anonymous_id", "user_id") if kind in erased.kinds]
        self.spaces = sorted({(kind, mapping.namespace(kind)) for mapping in mappings.values() for kind in own})
        self.others = sorted(erased.kinds - {"anonymous_id", "user_id", "email", "phone", "order_id"})

    def refuse_outside(self) -> None:
        """Raises WaymarkError where a file that a source reads outside of the landing folder is called after one of the persons."""
        read = {str(path) for source in self.mappings for path in source_files(self.project, source)}
        if called := sorted(path for path in read if not self._is_landed(path) and self._renamed(path) != path):
            raise WaymarkError(
                "the file is called after one of the persons, and its name would stand in the log again with the next run", where=called[0],
                remedy=f"Rename or remove it ({len(called)} such outside of the home), then ask for the erasure again.",
            )  # fmt: skip

    def found(self) -> dict[str, str]:
        """Paths that are called after one of the persons, with those that take their place: files in landing, and what log and refused rows name."""
        named = {str(path) for path in self.landing.rglob("*") if path.is_symlink() or path.is_file()} if self.landing.exists() else set()
        named |= {str(file) for (file,) in rows(self.erased.connection, "select distinct file from raw.ingestion_log where file is not null")}
        named |= quarantined_files(self.erased.connection, self.project.home)
        return {path: fresh for path in sorted(named) if (fresh := self._renamed(path)) != path}

    def rename(self, found: MappingOf[str, str]) -> None:
        """Gives what `found` told its other names. May be repeated after a crash. A file that came again under its old name meanwhile keeps it."""
        connection, home = self.erased.connection, self.project.home
        for old, new in found.items():
            if self._is_landed(old) and os.path.lexists(old) and not os.path.lexists(new):
                self._move(Path(old), Path(new))
        for source, known in known_files(home).items():
            if known.keys() & found.keys():
                save_known(home, source, {found.get(path, path): state for path, state in known.items()})
        rename_quarantined(connection, home, found)
        told = {
            file_id: (found.get(str(file), file), _said(note, found), _said(error, found))
            for file_id, file, note, error in rows(connection, "select file_id, file, note, error from raw.ingestion_log")
            if file in found or any(old in f"{note} {error}" or Path(old).name in f"{note} {error}" for old in found)
        }
        connection.execute("begin")
        for file_id, (file, note, error) in told.items():
            connection.execute("update raw.ingestion_log set file = ?, note = ?, error = ? where file_id = ?", [file, note, error, file_id])
        connection.execute("commit")

    def _move(self, old: Path, new: Path) -> None:
        new.parent.mkdir(parents=True, exist_ok=True)
        rename_durably(old, new)
        folder = old.parent
        sync_folder(folder)
        while folder not in (self.landing, new.parent) and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
            sync_folder(folder)

    def _is_landed(self, path: str) -> bool:
        return Path(path).is_relative_to(self.landing)

    def _renamed(self, path: str) -> str:
        """The path without the persons' identifiers; folders that it has in common with the landing folder or with the project stay as they are."""
        base = str(self.landing) if self._is_landed(path) else os.path.commonpath([path, self.project.directory])
        return str(Path(base, *map(self._without, Path(path).relative_to(base).parts)))

    def _without(self, part: str) -> str:
        """The name of a file or folder with a text of the request's in the place of each identifier, the longest first."""
        spans = sorted(parts_of(part), key=lambda span: (span[0] - span[1], span))
        taken: list[tuple[int, int]] = []
        for begin, end in spans:
            if all(end <= first or last <= begin for first, last in taken) and self._names_one(part[begin:end]):
                taken.append((begin, end))
        fresh = f"{_FRESH}{tombstone(self.erased.key, 'file', f'{self.label}|{part}')[:_LETTERS]}"
        for begin, end in sorted(taken, reverse=True):
            part = part[:begin] + fresh + part[end:]
        return part

    def _names_one(self, text: str) -> bool:
        readings = {text, unquote(text)}
        return any(tombstone(self.erased.key, kind, value) in self.digests for reading in readings for kind, value in self._values(reading))

    def _values(self, text: str) -> Iterator[tuple[str, str]]:
        """What the text may be, as events hold it: an account's name may be an address or a number, and is then kept as its hash."""
        forms = ["email"] if "@" in text else ["phone"] if _IS_NUMBER.fullmatch(text) else []
        hashes = [(form, self.erased.secret.hmac(identifier_message(form, text))) for form in forms]
        yield from hashes
        told = [text] if is_telling(text) else []
        for kind, space in self.spaces:
            yield from ((kind, f"{space}:{value}") for value in (*told, *(hashed for _, hashed in hashes)))
        for value in told:
            yield "order_id", value
            yield from ((kind, self.erased.secret.hmac(identifier_message(kind, value))) for kind in self.others)


def telling_name(old: str, new: str) -> str:
    """What tells that a path was called so: the name that changed, with its folder's where it is nothing but the identifier."""
    parts = Path(old).parts
    at = next(at for at, (before, after) in enumerate(zip(parts, Path(new).parts, strict=True)) if before != after)
    return parts[at] if len(Path(new).parts[at]) > len(_FRESH) + _LETTERS else f"{parts[at - 1]}/{parts[at]}"


def _said(text: object, found: MappingOf[str, str]) -> str | None:
    """What the log says of a file, with the other names."""
    if text is None:
        return None
    said = str(text)
    for old, new in found.items():
        said = said.replace(old, new)
        if Path(old).name != Path(new).name:
            said = said.replace(Path(old).name, Path(new).name)
    return said
