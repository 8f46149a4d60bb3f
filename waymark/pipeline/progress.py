"""Who is told how far a run has come: steps report here, whoever shows it listens (the command line; the log of a Dagster run, which keeps what is to stay)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic

from waymark.ingestion import Refusal


@dataclass(frozen=True)
class StageReport:
    """What a finished stage did. rows: rows that it read or wrote, whichever says more; seconds: wall time."""

    stage: str
    rows: int
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Notice:
    """What a person should know and do something about, or not; it is no fault. Stays on the screen."""

    text: str


Listener = Callable[[StageReport | Refusal | Notice | str], None]
_listener: ContextVar[Listener | None] = ContextVar("waymark_progress_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Sends what the steps inside report to `listener`: a text when a stage begins or moves on, a StageReport when it ends, and what is to stay.

    Whoever listens already goes on to hear it.
    """
    outer = _listener.get()

    def both(news: StageReport | Refusal | Notice | str) -> None:
        if outer:
            outer(news)
        listener(news)

    token = _listener.set(both)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(message: str) -> None:
    """Says what is going on now."""
    if listener := _listener.get():
        listener(message)


def notice(text: str) -> None:
    """Says what a person should know when the run is over, too."""
    if listener := _listener.get():
        listener(Notice(text))


def refuse(refusal: Refusal) -> None:
    """Says that a file was refused: the run goes on without it, and its exit code says so."""
    if listener := _listener.get():
        listener(refusal)


class Stage:
    """Times one stage and reports it: `with stage("ingest shop_events") as done: done.rows = 5`."""

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.name, self.rows, self.detail, self.seconds = name, 0, "", 0.0

    def __enter__(self) -> Stage:
        self._start = monotonic()
        if not self.quiet:
            tell(self.name)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.seconds = monotonic() - self._start
        if kind is None and not self.quiet and (listener := _listener.get()):
            listener(StageReport(self.name, self.rows, self.seconds, self.detail))
