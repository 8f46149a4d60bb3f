"""What an erasure did to files of landing is known after a kill: what is done, and what was begun."""

from __future__ import annotations

from pathlib import Path

from waymark.core.home import Home
from waymark.ingestion.erasing import Copy
from waymark.pipeline.landing_journal import LandingJournal

ONE, OTHER = Copy("shop", "/home/a.csv", 2, "old", "new"), Copy("", "/home/b.txt", 0, "old", "")


def test_what_was_done_and_what_was_begun_is_known_after_a_kill(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.privacy.mkdir()
    journal = LandingJournal(home, "e_1")
    assert journal.read() == ([], None)
    journal.begin(ONE)
    assert journal.read() == ([], ONE) and journal.path.stat().st_mode & 0o777 == 0o600
    journal.end(ONE)
    journal.begin(OTHER)
    assert LandingJournal(home, "e_1").read() == ([ONE], OTHER)
    with journal.path.open("a") as file:
        file.write('\n{"done": {"source": "sh')  # killed while it wrote
    assert journal.read() == ([ONE], OTHER)
    journal.end(OTHER)
    assert journal.read() == ([ONE, OTHER], None)


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.privacy.mkdir()
    LandingJournal(home, "e_0").begin(ONE)
    journal = LandingJournal(home, "e_1")
    journal.begin(ONE)
    journal.forget()
    assert list(home.privacy.iterdir()) == []
    journal.forget()


def test_its_name_is_no_working_files_which_go_when_an_erasure_is_taken_up_again(tmp_path: Path) -> None:
    assert not LandingJournal(Home(tmp_path), "e_1").path.name.startswith((".working-", "..working-"))
