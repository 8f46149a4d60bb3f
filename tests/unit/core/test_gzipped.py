"""A gzip file is read up to where it is damaged, and says so."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from waymark.core.gzipped import Unpacked, opened
from waymark.core.home import Home
from waymark.privacy.scanner import Needles, scan

CHANCE = random.Random(7)
TEXT = "".join(f"line {number} of {CHANCE.random()}\n" for number in range(30_000)).encode()
PACKED = gzip.compress(TEXT)


def read(path: Path, content: bytes) -> tuple[bytes, bool]:
    path.write_bytes(content)
    with opened(path) as handle:
        found, raw = handle.read(), handle.raw
        assert isinstance(raw, Unpacked)
        return found, raw.is_whole


@pytest.mark.parametrize(("content", "text"), [
    (PACKED, TEXT), (PACKED + gzip.compress(b"more") + b"\0" * 9, TEXT + b"more"), (gzip.compress(b""), b""), (gzip.compress(b"\0" * 10**6), b"\0" * 10**6),
], ids=["one stream", "two streams and zeros", "nothing", "zeros"])  # fmt: skip
def test_a_whole_file_is_read_whole(tmp_path: Path, content: bytes, text: bytes) -> None:
    assert read(tmp_path / "a.gz", content) == (text, True)


def test_of_a_file_that_ends_too_early_all_is_read_that_is_there(tmp_path: Path) -> None:
    found, is_whole = read(tmp_path / "a.gz", PACKED[: len(PACKED) // 2])
    assert not is_whole and TEXT.startswith(found) and len(found) > len(TEXT) * 0.45
    assert read(tmp_path / "a.gz", PACKED[:-3]) == (TEXT, False)
    assert read(tmp_path / "a.gz", PACKED[:5]) == (b"", False)


def test_of_a_damaged_file_all_is_read_in_front_of_the_damage(tmp_path: Path) -> None:
    assert read(tmp_path / "a.gz", PACKED[:-8] + b"\0" * 8) == (TEXT, False), "its checksum alone is wrong"
    middle = len(PACKED) // 2
    found, is_whole = read(tmp_path / "a.gz", PACKED[:middle] + b"\xff" * 500 + PACKED[middle + 500 :])
    assert not is_whole and found[: int(len(TEXT) * 0.45)] == TEXT[: int(len(TEXT) * 0.45)]
    assert read(tmp_path / "a.gz", b"\x1f\x8b and no more of gzip") == (b"", False)


def test_what_the_disk_refuses_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "none.gz")


def test_a_search_of_the_home_goes_on_past_a_damaged_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    word = "0123456789abcdef" * 4
    for file, text in (("a.gz", f"with {word} \n"), ("b.gz", "without\n")):
        (tmp_path / file).write_bytes(gzip.compress(text.encode() + TEXT[:1000])[:-9])
    report = scan(home, Needles(frozenset([word])))
    assert (report.files, report.total, list(report.found)) == (2, 1, ["a.gz (unpacked)"])
