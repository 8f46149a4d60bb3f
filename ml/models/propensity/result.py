"""What training gives, in memory: whoever records, gates or plots it needs no more than this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.evaluation import Estimate

if TYPE_CHECKING:
    from ml.models.propensity.model import PropensityModel

Floats = npt.NDArray[np.float64]
# The name under which differences hold the comparison with the champion.
CHAMPION = "champion"


@dataclass(frozen=True)
class Trial:
    """One parameter set that a candidate tried. loss: log-loss on the early-stopping part of the training split, never on calibration or test."""

    params: Mapping[str, object]
    loss: float
    rounds: int


@dataclass(frozen=True)
class Leak:
    """A feature that knows too much. how: "recomputed" (its stored value needs later events), "univariate", or "received": then `feature` is the event type
    whose rows are dated back, and the sentence names the features that it feeds. sentence: with the numbers."""

    feature: str
    how: str
    sentence: str


@dataclass(frozen=True)
class CandidateResult:
    """A candidate on the test split.

    name: "base_rate", "rfm", "logistic" or "xgboost". metrics: "auc", "average_precision", "log_loss", "brier", "calibration_slope",
    "calibration_intercept", "ece", "lift_top_decile". predictions: calibrated probabilities in test row order. trials: what was tried, the chosen one among it.
    """

    name: str
    params: Mapping[str, object]
    metrics: Mapping[str, Estimate]
    predictions: Floats
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class TestSplit:
    """The test split as the chosen model sees it; all arrays in row order (as_of_at, customer_id).

    keys: customer_id (string), as_of_at (timestamp[us]). labels: 0 or 1. low, high: the interval that scores carry.
    week: as_of_at's day. segments: by the segment's name ("activity", "channel"), the value of each row.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    keys: pa.Table
    labels: npt.NDArray[np.int8]
    probabilities: Floats
    low: Floats
    high: Floats
    week: npt.NDArray[np.datetime64]
    segments: Mapping[str, npt.NDArray[np.str_]]


@dataclass(frozen=True)
class SplitInfo:
    """Rows of a split, how many of them convert, how many customers they belong to, and the first and last as_of_at."""

    rows: int
    positives: int
    customers: int
    first_as_of_at: datetime
    last_as_of_at: datetime


@dataclass(frozen=True)
class DatasetInfo:
    """Which data it was. fingerprint: order-free digest of keys, features and labels, and of what was asked for. splits: "train", "calibration", "test".

    sampled: the share of customers kept, 1.0 where nobody was left out.
    """

    fingerprint: str
    splits: Mapping[str, SplitInfo]
    fields: tuple[str, ...]
    horizon_days: int
    seed: int
    sampled: float


@dataclass(frozen=True)
class ChampionRows:
    """The test rows that the champion is compared on: those whose label begins when all that it learnt from has ended.

    rows, positives: of these; all_positives: of the test split. learnt_until: of the champion; None where it does not say, and all rows are taken.
    """

    rows: int
    positives: int
    all_positives: int
    learnt_until: datetime | None


@dataclass(frozen=True)
class TrainingResult:
    """candidates: all, evaluated on the same test rows. chosen: the one whose log-loss was least before the test split was looked at.

    differences: candidate -> metric ("log_loss", "auc", "brier") -> that of the chosen minus that of the candidate, paired, with its interval.
    stability: "week" or a segment's name -> value -> metric -> Estimate, of the chosen. curves: "reliability" (probability, observed, low, high, n),
    "gain" (decile, share_of_positives, lift, low, high, n).
    """

    candidates: tuple[CandidateResult, ...]
    chosen: str
    model: PropensityModel
    test: TestSplit
    dataset: DatasetInfo
    differences: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    stability: Mapping[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    curves: Mapping[str, pa.Table] = field(default_factory=dict)
    # Where there is a champion that can score these rows. differences[CHAMPION] is of these rows alone, and absent where they are of one class.
    champion: ChampionRows | None = None
    # Features that rank the test split too well by themselves.
    leaks: tuple[Leak, ...] = ()
    # Some rows of the test split with the model's fields, for explanations.
    sample: pa.Table | None = None

    def candidate(self, name: str) -> CandidateResult:
        """The candidate of that name. Raises KeyError where there is none."""
        return {candidate.name: candidate for candidate in self.candidates}[name]
