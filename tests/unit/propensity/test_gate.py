"""Who may become champion: what is compared with whom, on which rows, and what is no answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from ml.datasets import Dataset, assemble
from ml.evaluation import Estimate, compare
from ml.models.propensity.gate import GateRules, judge
from ml.models.propensity.model import PropensityModel
from ml.models.propensity.result import CHAMPION, ChampionRows, TrainingResult
from ml.models.propensity.train import train_on
from tests.unit.propensity.synthetic import FIELDS

NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 100)


def with_weeks(trained: TrainingResult, *weeks: Estimate) -> TrainingResult:
    return replace(trained, stability={**trained.stability, "week": {f"week {number}": {"auc": auc} for number, auc in enumerate(weeks)}})


def codes(trained: TrainingResult) -> list[str]:
    return [reason.code for reason in judge(trained).reasons]


def test_what_was_learnt_ends_with_the_last_label_of_the_calibration_split(trained: TrainingResult, dataset: Dataset, tmp_path: Path) -> None:
    last = dataset.splits["calibration"].points.max().astype("datetime64[us]").item()
    assert trained.model.learnt_until == last + timedelta(days=7)
    trained.model.save(tmp_path / "model")
    loaded = PropensityModel.load(tmp_path / "model")
    assert loaded.learnt_until == trained.model.learnt_until and loaded.digest == trained.model.digest


def test_a_champion_is_compared_on_no_row_whose_label_it_may_have_learnt(trained: TrainingResult, dataset: Dataset) -> None:
    """Against the differences taken by hand over the rows from the champion's end on."""
    test = dataset.splits["test"]
    until = cast("datetime", np.unique(test.points)[1].astype("datetime64[us]").item())
    other = PropensityModel(trained.model.booster, trained.model.calibrator, trained.model.encoder, until)
    met = train_on(dataset, champion=other)
    at = [place for place, point in enumerate(test.table.column("as_of_at").to_pylist()) if point >= until]
    assert 0 < len(at) < len(test.labels)
    assert met.champion == ChampionRows(len(at), int(test.labels[at].sum()), test.positives, until)
    by_hand = compare(
        test.labels[at], met.test.probabilities[at], other.predict(test.table.take(pa.array(at))).score, test.customers[at], replicates=100, seed=dataset.seed
    )
    assert met.differences[CHAMPION] == by_hand


def test_a_champion_that_knows_the_whole_test_split_cannot_be_compared_and_stays(trained: TrainingResult, dataset: Dataset) -> None:
    """It has learnt from the very rows: to compare on them would grade what it remembers."""
    later = {name: dataset.splits[place].table for name, place in (("train", "train"), ("calibration", "test"), ("test", "test"))}
    champion = train_on(assemble(later, FIELDS, horizon_days=7, seed=7)).model
    met = train_on(dataset, champion=champion)
    assert met.champion is not None and met.champion.rows == 0 and CHAMPION not in met.differences
    assert codes(met) == ["champion_not_comparable"]
    assert "0 of" in judge(met).summary and f"up to {champion.learnt_until:%Y-%m-%d}" in judge(met).summary


def test_few_converting_rows_left_are_a_reason_with_its_number(trained: TrainingResult) -> None:
    better = {**trained.differences, CHAMPION: {"log_loss": Estimate(-0.02, -0.03, -0.01, 100)}}
    for positives, expected in ((29, ["champion_not_comparable"]), (30, [])):
        met = replace(trained, differences=better, champion=ChampionRows(400, positives, 100, datetime(2026, 5, 4)))
        assert codes(met) == expected
    assert "29 of 100 converting test rows" in judge(replace(met, champion=ChampionRows(400, 29, 100, datetime(2026, 5, 4)))).summary


def test_a_champion_that_does_not_say_what_it_learnt_is_compared_on_all_rows_and_the_reason_says_so(trained: TrainingResult, dataset: Dataset) -> None:
    met = train_on(dataset, champion=replace(trained.model, learnt_until=None))
    assert met.champion is not None and met.champion.rows == len(met.test.labels)
    assert codes(met) == ["within_noise_of_champion"] and "may have learnt from some" in judge(met).summary


def test_a_week_without_an_interval_is_told_and_counts_for_neither_side(trained: TrainingResult) -> None:
    good, bad = Estimate(0.8, 0.7, 0.9, 100), Estimate(0.4, 0.3, 0.5, 100)
    one_silent = with_weeks(trained, good, good, good, NOTHING)
    assert codes(one_silent) == [] and judge(one_silent).notes and "1 of 4 test weeks" in judge(one_silent).summary
    # One bad week of five is let through, one bad of three is not; silent weeks do not dilute it.
    assert codes(with_weeks(trained, bad, good, good, good, good)) == []
    assert codes(with_weeks(trained, bad, good, good, NOTHING, NOTHING)) == ["unstable_weeks"]
    # A value without an interval (one customer converts) is no answer either.
    assert judge(with_weeks(trained, good, good, replace(good, low=float("nan"), high=float("nan")))).notes


def test_weeks_that_mostly_say_nothing_are_refused(trained: TrainingResult) -> None:
    good = Estimate(0.8, 0.7, 0.9, 100)
    assert codes(with_weeks(trained, good, NOTHING, NOTHING)) == ["unanswered_weeks"]
    assert codes(with_weeks(trained, good, NOTHING)) == []
    assert codes(with_weeks(trained, NOTHING, NOTHING)) == ["unanswered_weeks"]
    assert GateRules().unanswered_share == 0.5


def test_a_week_in_which_nobody_converts_has_no_answer(trained: TrainingResult, dataset: Dataset) -> None:
    """From real rows: the last test week's labels are emptied."""
    tables = {name: split.table for name, split in dataset.splits.items()}
    test = tables["test"]
    points = np.asarray(test.column("as_of_at").to_numpy())
    labels = np.asarray(test.column("is_converted").to_numpy(zero_copy_only=False)) & (points < points.max())
    tables["test"] = test.set_column(test.schema.get_field_index("is_converted"), "is_converted", pa.array(labels))
    said = judge(train_on(assemble(tables, FIELDS, horizon_days=7, seed=7)))
    assert any("1 of 3 test weeks" in note for note in said.notes)
