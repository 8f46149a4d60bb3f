"""What a rule and its result are. A rule is SQL that gives the key of each row that breaks it, and nothing else of the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "not_applicable"]
Stage = Literal["raw", "journeys", "features", "scores"]
STAGES: tuple[Stage, ...] = ("raw", "journeys", "features", "scores")


@dataclass(frozen=True)
class Bounds:
    """The thresholds of section `quality` in waymark.yml, and what a rule has to know of the run."""

    max_future_skew_days: int
    max_value: float
    volume_factor: float
    least_weekly_events: int
    max_category_shift: float
    max_null_rate_shift: float


@dataclass(frozen=True)
class Rule:
    """name: a sentence in snake_case, stable, for it is how history is kept. meaning: the same for people, with what to do.

    failing: a SELECT of one text column, the keys of the failing rows; `{batch}` is the table, `{scope}` a condition on its alias t.
    applies: a SELECT of one boolean; where it is false the rule has nothing to say (say, too little history). blocking: whether failing stops the run.
    """

    name: str
    meaning: str
    failing: str
    blocking: bool = True
    applies: str = ""


@dataclass(frozen=True)
class Suite:
    """Rules over one table. scope: condition on alias t that picks what a run re-stated."""

    name: str
    stage: Stage
    table: str
    rules: tuple[Rule, ...]
    scope: str = "true"


@dataclass(frozen=True)
class CheckResult:
    """failing: how many rows break the rule; keys: up to ten of their keys, never rows or identifiers. scope: "restated" or "all"."""

    suite: str
    stage: Stage
    table: str
    rule: str
    meaning: str
    status: Status
    blocking: bool
    failing: int
    keys: tuple[str, ...]
    scope: str
    seconds: float

    @property
    def stops(self) -> bool:
        return self.blocking and self.status == "failed"
