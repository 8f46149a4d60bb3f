"""What `waymark dev` shows: a table that follows the services on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from waymark.cli.supervisor import Supervisor, Watched

_COLOURS = {"waiting": "dim", "starting": "yellow", "up": "green", "silent": "red", "stopped": "red"}
_WORDS = {"silent": "does not answer"}


class ServicesView:
    """Shows a supervisor's services; `changed` is what the supervisor calls."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._supervisor: Supervisor | None = None
        self._started = monotonic()
        self._is_stopping = False
        self._told_all_up = False

    def follow(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        for watched in supervisor.watched if not self._live else []:
            if watched.service.url:
                self._say(f"{watched.service.name}: {watched.service.url}")

    def __enter__(self) -> ServicesView:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.refresh()
        if self._live:
            self._live.__exit__(kind, error, trace)

    def stopping(self, why: str) -> None:
        self._is_stopping = True
        self._say(f"{why}: stopping all")

    def changed(self, watched: Watched) -> None:
        name = watched.service.name
        if watched.state == "stopped" and not self._is_stopping:
            end = "\n".join(f"    {line}" for line in watched.tail())
            self._say(f"{name} stopped: {watched.note}. Its log: {watched.log}" + (f", which ends so:\n{end}" if end else ""))
        elif not self._live and not self._is_stopping:
            self._say(f"{name}: {_state(watched)}")
        states = [one.state for one in self._supervisor.watched] if self._supervisor else []
        if states and all(state == "up" for state in states) and not self._told_all_up:
            self._told_all_up = True
            self._say(f"All up in {monotonic() - self._started:.0f} s. Ctrl-C stops them.")
        self.refresh()

    def refresh(self) -> None:
        """Draws the table anew, where there is one."""
        if self._live and self._supervisor:
            self._live.update(_table(self._supervisor), refresh=True)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


def _state(watched: Watched) -> str:
    seconds = f" {watched.age():.1f} s" if watched.state in ("starting", "up") and watched.age() >= 0.1 else ""
    note = f" ({watched.note})" if watched.note else ""
    return f"{_WORDS.get(watched.state, watched.state)}{seconds}{note}"


def _table(supervisor: Supervisor) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for watched in supervisor.watched:
        table.add_row(watched.service.name, Text(_state(watched), style=_COLOURS[watched.state]), watched.service.url)
    return table
