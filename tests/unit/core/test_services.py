"""The note of what runs on a home."""

from __future__ import annotations

import threading
from pathlib import Path

from waymark.core.home import Home
from waymark.core.services import claim, noted_services


def test_a_reader_never_finds_a_note_empty_while_it_is_written_anew(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with claim(home, "dev", "m") as note:
        is_over = threading.Event()

        def write() -> None:
            for number in range(3000):
                note.note(list(range(number % 40)), {"MLflow": "http://127.0.0.1:5000"} if number % 3 else {})
            is_over.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not is_over.is_set():
            assert [found.mark for found in noted_services(home)] == ["m"]
        writer.join()
        note.note([1, 2], {})
        assert noted_services(home)[0].sessions == [1, 2]
    assert noted_services(home) == []
