"""What is printed is what there is: brackets in a value, a file's name or a folder's are no markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from waymark.cli.query import print_table
from waymark.cli.summary import RunView
from waymark.pipeline.progress import Notice

ODD = "shop [old] [/x] [true]"


def test_a_table_shows_every_value_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([ODD], [("[cart, buy]",), ("[red]",), ("[/]",)])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [ODD, "[cart, buy]", "[red]", "[/]"]


def test_a_run_tells_of_files_of_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    view = RunView()
    view.hear(Notice(ODD))
    assert ODD in capsys.readouterr().err
    view.console = Console(file=io.StringIO(), force_terminal=True)
    with view:
        view.hear(f"reading {ODD}")
        console = Console(file=io.StringIO(), width=100)
        console.print(view._status)
    assert ODD in console.file.getvalue()  # type: ignore[attr-defined]
