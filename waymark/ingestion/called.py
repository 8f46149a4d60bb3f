"""Files that are called after persons who are to be erased, as a copy of somebody's data often is (`takeout_ann@example.org.csv`).

An identifier is told in a name where any signs stand around it, and an id only where it has eight characters and more and is no number, because a shorter one
stands anywhere by accident.

Decision: the files are their owner's to rename, before anything is erased; what the home says of files that were called so changes by itself. Context: by
their names globs find files, other tools deliver them, and links lead to them. Consequence: no file is lost, and the log of files, which is published, and
refused rows name nobody who was erased.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from collections.abc import Mapping as MappingOf
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from waymark.core.errors import WaymarkError
from waymark.core.settings import OPERATOR_SOURCE, Project
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.files import known_files, save_known, source_files
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.quarantine import quarantined_files, rename_quarantined
from waymark.privacy import Secret, identifier_message
from waymark.privacy.needles import Needles, is_telling
from waymark.privacy.tombstones import erasure_key, tombstone

_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 12
_IS_NUMBER = re.compile(r"[+]?(?:[ ().\-/]*[0-9]){7,15}")
_LETTERS = 12


class FileNames:
    """Of persons, told by the tombstones of their identifiers (type, digest), and by what is looked for of them. label: of their request."""

    def __init__(
        self, project: Project, mappings: MappingOf[str, Mapping], secret: Secret, tombstones: Collection[list[str]], *, needles: Needles, label: str = ""
    ) -> None:
        self.project, self.mappings, self.secret, self.needles, self.label = project, mappings, secret, needles, label
        self.key = erasure_key(project.home)
        self.digests, self.kinds = {digest for _, digest in tombstones}, {kind for kind, _ in tombstones} - {"email", "phone", "order_id"}
        self._known: dict[str, str] = {}

    def refuse(self) -> None:
        """Raises WaymarkError where a file that a source reads, or any in the landing folder, is called after one of the persons, or a folder above is."""
        for folder in (self.project.directory, self.project.home.root):
            if self.needles.are_in(str(folder)):
                said = "the folder, or one above it, is called after one of the persons, and its name stands in every log"
                raise WaymarkError(said, where=str(folder), remedy="Move it, `waymark run`, then ask for the erasure again.")
        landing = self.project.home.landing
        there = {str(path) for source in self.mappings for path in source_files(self.project, source)}
        there |= {str(path) for path in landing.rglob("*")} if landing.exists() else set()
        if called := sorted(path for path in there if self.without(path) != path and os.path.lexists(path)):
            raise WaymarkError(
                f"called after one of the persons, and a name stays where everything else of them goes ({len(called)} such files and folders)", where=called[0],
                remedy="Rename or remove them (mend `files` in waymark.yml where it names one), `waymark run`, then ask for the erasure again.",
            )  # fmt: skip

    def rename(self, connection: Connection, note: Callable[[set[str]], object]) -> None:
        """Has the log and the refused rows say other names of files that were called after the persons. May be repeated.

        note: is given their old paths and names before the first changes.
        """
        paths = {str(file) for (file,) in rows(connection, "select distinct file from raw.ingestion_log where file is not null")}
        paths |= quarantined_files(connection, self.project.home)
        for source, known in known_files(self.project.home).items():
            if len(kept := {path: state for path, state in known.items() if self.without(path) == path}) < len(known):
                save_known(self.project.home, source, kept)
        said = {path: fresh for path in sorted(paths) if (fresh := self.without(path)) != path}
        if not said:
            return
        names = {*said, *(Path(old).name for old, new in said.items() if Path(old).name != Path(new).name)}
        note(names | {json.dumps(told)[1:-1] for told in names})
        rename_quarantined(connection, self.project.home, said)
        pairs = "(select unnest(?::varchar[]) as old, unnest(?::varchar[]) as new)"
        both = [list(said), list(said.values())]
        connection.begin()
        # The note of a file with the same content names the other; the error of one that was refused names itself.
        connection.execute(f"update raw.ingestion_log set note = replace(note, old, new) from {pairs} where contains(note, old)", both)
        own = "replace(replace(error, old, new), parse_filename(old), parse_filename(new))"
        connection.execute(f"update raw.ingestion_log set file = new, error = {own} from {pairs} where file = old", both)
        connection.commit()

    def without(self, path: str) -> str:
        """The path with another text in the place of each identifier of the persons. Folders that it has in common with the project, and those of landing that
        are called after a source, stay as they are."""
        landing = self.project.home.landing
        folders = [landing, *(landing / source for source in (*self.mappings, OPERATOR_SOURCE))]
        base = os.path.commonpath([path, next((folder for folder in reversed(folders) if Path(path).is_relative_to(folder)), self.project.directory)])
        fresh = Path(base, *map(self._without, Path(path).relative_to(base).parts))
        return str(Path(base, self._fresh(path)) if self.needles.are_in(str(fresh)) else fresh)

    def _fresh(self, name: str) -> str:
        return f"erased-{tombstone(self.key, 'file', f'{self.label}|{name}')[:_LETTERS]}"

    def _without(self, part: str) -> str:
        if part not in self._known:
            self._known[part] = self._replaced(part)
        return self._known[part]

    def _replaced(self, part: str) -> str:
        """The longest identifiers first."""
        taken: list[tuple[int, int]] = []
        for begin, end in sorted(_spans(part), key=lambda span: (span[0] - span[1], span)):
            if all(end <= first or last <= begin for first, last in taken) and self._names_one(part[begin:end]):
                taken.append((begin, end))
        fresh, left = self._fresh(part), part
        for begin, end in sorted(taken, reverse=True):
            left = left[:begin] + fresh + left[end:]
        return fresh if self.needles.are_in(left) else left

    def _names_one(self, text: str) -> bool:
        readings = {form for said in (text, unquote(text)) for form in (said, unicodedata.normalize("NFC", said))}
        return any(tombstone(self.key, kind, value) in self.digests for reading in readings for kind, value in self._values(reading))

    @cached_property
    def _spaces(self) -> list[tuple[str, str]]:
        """Of ids that have one: type and namespace, that of sources which the project no longer names as well."""
        own = self.kinds & {"anonymous_id", "user_id"}
        spaces = {(kind, mapping.namespace(kind)) for mapping in self.mappings.values() for kind in own}
        return sorted(spaces | {(kind, text.partition(":")[0]) for text in self.needles.given if ":" in text for kind in own})

    def _values(self, text: str) -> Iterator[tuple[str, str]]:
        """What the text may be, as events hold it: an account's name may be an address or a number, and is then kept as its hash."""
        forms = ["email"] if "@" in text else ["phone"] if _IS_NUMBER.fullmatch(text) else []
        hashes = [(form, self.secret.hmac(identifier_message(form, text))) for form in forms]
        yield from hashes
        told = [text] if is_telling(text) else []
        for kind, space in self._spaces:
            yield from ((kind, f"{space}:{value}") for value in (*told, *(hashed for _, hashed in hashes)))
        for value in told:
            for kind in sorted(self.kinds):
                yield kind, value if kind in ("anonymous_id", "user_id") else self.secret.hmac(identifier_message(kind, value))


def _spans(name: str) -> Iterator[tuple[int, int]]:
    """From where to where what may be an identifier stands in the name of a file: one or more words with the signs between them. A + in front is its own."""
    words = [match.span() for match in _WORD.finditer(name)]
    for first, (begin, _) in enumerate(words):
        for _, end in words[first : first + _MOST_WORDS]:
            yield begin, end
            if name[:begin].endswith("+"):
                yield begin - 1, end
