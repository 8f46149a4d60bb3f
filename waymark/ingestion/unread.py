"""The texts of a file that no mapping reads, as far as anybody can read it."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from waymark.core import gzipped
from waymark.core.errors import FileRefusedError
from waymark.core.quoting import file_list
from waymark.core.warehouse import connect
from waymark.ingestion.engine import refusing_engine_errors
from waymark.ingestion.readers import is_utf8, texts_sql

_CHUNK = 1 << 20
_LONGEST = 1 << 26  # characters; of a longer line, pieces are looked at
_OVERLAP = 1 << 10
_TEXTS = 1 << 24  # characters, a list of texts
_ROWS = 50_000
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}


class UnreadTexts:
    """Lists of lines, or of rows of a Parquet file. is_whole: nothing of the file was beyond reading; known once all were asked for.

    encodings: those in which it may have been written, beside UTF-8 and what its first bytes say; each line is given in all of them.
    """

    def __init__(self, path: Path, encodings: Iterable[str], scratch: Path) -> None:
        self.path, self.scratch = path, scratch
        self.encodings = {codecs.lookup(encoding).name for encoding in encodings if not is_utf8(encoding)}
        self.is_whole = True

    def __iter__(self) -> Iterator[list[str]]:
        """Raises OSError, or StorageError, where the disk refuses."""
        with open(self.path, "rb") as file:
            head = file.read(4)
        if head == b"PAR1":
            try:
                yield from self._rows()
                return
            except FileRefusedError:
                self.is_whole = False  # some of its bytes may say something all the same
        encodings = self.encodings | {"utf-8"} | {encoding for mark, encoding in _MARKS.items() if head.startswith(mark)}
        yield from self._lines(self._chunks(is_packed=head[:2] == gzipped.MAGIC), encodings)

    def _lines(self, chunks: Iterable[bytes], encodings: Iterable[str]) -> Iterator[list[str]]:
        decoders = {encoding: codecs.getincrementaldecoder(encoding)("replace") for encoding in sorted(encodings)}
        rests = dict.fromkeys(decoders, "")
        texts, length = list[str](), 0
        for chunk in chunks:
            for encoding, decoder in decoders.items():
                lines = (rests[encoding] + decoder.decode(chunk)).split("\n")
                rests[encoding] = lines.pop()
                if len(rests[encoding]) > _LONGEST:
                    lines.append(rests[encoding])
                    rests[encoding] = rests[encoding][-_OVERLAP:]
                texts += lines
                length += len(chunk)
            if length > _TEXTS:
                yield texts
                texts, length = [], 0
        yield [*texts, *rests.values()]

    def _chunks(self, *, is_packed: bool) -> Iterator[bytes]:
        if not is_packed:
            with open(self.path, "rb") as file:
                yield from iter(lambda: file.read(_CHUNK), b"")
            return
        with gzipped.Unpacked(self.path) as unpacked:
            while chunk := unpacked.read(_CHUNK):
                yield chunk
            self.is_whole = unpacked.is_whole

    def _rows(self) -> Iterator[list[str]]:
        """By an engine that holds nothing: a damaged Parquet file can bring it down."""
        relation = f"read_parquet({file_list([self.path])}, hive_partitioning = false)"

        def refusal(said: str) -> FileRefusedError:
            return FileRefusedError(f"the Parquet file is damaged: {said}", where=str(self.path), remedy="Export it again.")

        with refusing_engine_errors(str(self.scratch), refusal), connect(scratch=self.scratch) as isolated:
            cursor = isolated.execute(f"select concat_ws(chr(10), {', '.join(texts_sql(isolated, f'from {relation}').values())}) from {relation}")
            while batch := cursor.fetchmany(_ROWS):
                yield [str(text) for (text,) in batch]
