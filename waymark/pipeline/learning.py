"""Training and scoring as steps of a run: when a model is trained, what is recorded of it, who becomes champion, who is scored."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import waymark
from ml.models.propensity import MODEL
from waymark.core.errors import StorageError
from waymark.core.home import Home, read_json, write_atomically
from waymark.core.warehouse import rows
from waymark.ingestion import owe_checks
from waymark.pipeline.code import code_digest
from waymark.pipeline.progress import Stage, notice, tell
from waymark.pipeline.quality import require_passed
from waymark.pipeline.steps import Run

if TYPE_CHECKING:
    from ml.models.propensity.result import TrainingResult

_REMEMBERED = "last_training.json"


@dataclass(frozen=True)
class TrainingReport:
    """outcome: trained, skipped or kept (the champion is young enough). sentences: why; version, run_id: in the registry; metrics: name -> text."""

    outcome: str
    sentences: tuple[str, ...]
    version: str = ""
    run_id: str = ""
    promoted: bool = False
    metrics: tuple[tuple[str, str], ...] = ()

    def as_metadata(self) -> dict[str, str]:
        said = {"outcome": self.outcome, "why": "; ".join(self.sentences), "version": self.version, "mlflow_run_id": self.run_id}
        return {name: text for name, text in {**said, **dict(self.metrics)}.items() if text}


def train(run: Run, *, run_id: str = "", force: bool = False) -> TrainingReport:
    """Trains a challenger where it is due, records it, and promotes it if the gate lets it.

    Due: no training has been tried by these models and settings, or data_now has moved by learning.retrain_after_days since the last one; or `force`.
    Raises AuditError where events or features have not passed their checks.
    """
    require_passed(run, ("raw", "features"), of=f"models.{MODEL}")
    with Stage("propensity") as stage:
        now = _data_now(run)
        report = _train(run, run_id, now, force)
        stage.detail = "; ".join(report.sentences)
        if report.outcome != "kept":
            _remember(run, now, report)
    return report


def train_again(run: Run, *, as_of: str) -> TrainingReport:
    """Trains in the place of a champion that had to go, on the points that it knew: its clock, search, splits and calibration, on the data as it is now.

    as_of: the champion's data_now, UTC. The new version is champion even where the gate would refuse it; its description then says so.
    """
    with Stage("propensity again") as stage:
        report = _train_on_points(run, "", as_of, as_of=datetime.fromisoformat(as_of), because="in the place of a champion that had learnt from erased persons")
        stage.detail = "; ".join(report.sentences)
        _remember(run, as_of, report)
    return report


def forget_last_training(home: Home) -> None:
    """Forgets what was remembered of the last training: its metrics tell of the data that it saw."""
    (home.mlflow / _REMEMBERED).unlink(missing_ok=True)


def _remember(run: Run, now: str, report: TrainingReport) -> None:
    remembered = run.project.home.mlflow / _REMEMBERED
    remembered.parent.mkdir(parents=True, exist_ok=True)
    state = {"data_now": now, "inputs": _inputs(run), "outcome": report.outcome, "sentences": list(report.sentences)}
    write_atomically(remembered, json.dumps(state | {"metrics": dict(report.metrics), "version": report.version}, indent=2) + "\n")


def _train(run: Run, run_id: str, now: str, force: bool) -> TrainingReport:
    last = read_json(run.project.home.mlflow / _REMEMBERED)
    if last and not force and last.get("inputs") == _inputs(run) and last.get("outcome") == "trained" and not _is_due(run, last, now):
        return TrainingReport("kept", (f"the last training is younger than {run.project.settings.learning.retrain_after_days} days of data",))
    return _train_on_points(run, run_id, now)


def _train_on_points(run: Run, run_id: str, now: str, *, as_of: datetime | None = None, because: str = "") -> TrainingReport:
    """as_of: see `ml.datasets.load_dataset`. because: why the new version becomes champion whatever the gate says."""
    from ml.datasets import NotEnoughHistoryError, load_for
    from ml.features import VIEWS, model_fields

    tell("propensity: data")
    try:
        with run.open_warehouse() as connection:
            dataset = load_for(connection, run.project.settings.learning, model_fields(VIEWS), as_of=as_of)
    except NotEnoughHistoryError as error:  # told before XGBoost is imported
        return TrainingReport("skipped", tuple(f"not trained: {reason}" for reason in error.reasons))
    from ml.models.propensity.train import train_on

    return _record(run, train_on(dataset, champion=_champion_model(run), progress=tell), run_id, now, because)


def _is_due(run: Run, last: dict[str, object], now: str) -> bool:
    before = str(last.get("data_now") or "")
    if not now or not before:
        return True
    return datetime.fromisoformat(now) - datetime.fromisoformat(before) >= timedelta(days=run.project.settings.learning.retrain_after_days)


def _inputs(run: Run) -> str:
    return f"{code_digest()}:{run.project.refresh_digest}:{run.project.settings.learning.model_dump_json()}"


def _data_now(run: Run) -> str:
    with run.open_warehouse() as connection:
        found = rows(connection, "select data_now from raw.run_clock")
    return str(found[0][0] or "") if found else ""


def _champion_model(run: Run) -> Any:
    from ml.registry import champion

    known = champion(run.project.home, MODEL)
    if known is None or not known.folder.is_dir():
        return None
    from ml.models.propensity.model import PropensityModel

    return PropensityModel.load(known.folder)


def _record(run: Run, result: TrainingResult, run_id: str, now: str, because: str) -> TrainingReport:
    import numpy as np

    from ml.explain import importances
    from ml.features import VIEWS
    from ml.labels import LABEL
    from ml.models.propensity.card import model_card
    from ml.models.propensity.gate import judge
    from ml.models.propensity.plots import plots
    from ml.registry import Data, Nested, Recorder, data_folder
    from waymark.pipeline.leaks import check_leaks

    tell("propensity: leaks")
    leaks = (*result.leaks, *check_leaks(run, seed=result.dataset.seed))
    verdict = judge(result, leaks)
    if because and not verdict.promote:
        notice(f"The model that takes the champion's place would not pass the gate: {verdict.summary}")
    if because:
        verdict = replace(verdict, promote=True, notes=(because, f"the gate: {verdict.summary}"))
    tell("propensity: recording")
    known = {
        "waymark.data_now": now, "waymark.version": waymark.__version__, "waymark.code_digest": code_digest(),
        "waymark.settings_digest": run.project.refresh_digest, "waymark.dataset_fingerprint": result.dataset.fingerprint,
        "waymark.model_digest": result.model.digest, "dagster.run_id": run_id,
    }  # fmt: skip
    facts = {name: value for name, value in known.items() if value}
    home = run.project.home
    source = {"mlflow.source.name": "waymark run" if run_id else "waymark train", "mlflow.source.type": "LOCAL"}
    recorder = Recorder(home, MODEL, name=now[:10], tags={**source, **facts})
    try:
        chosen = result.candidate(result.chosen)
        fields = result.model.encoder.fields
        sample = result.sample
        assert sample is not None
        contributions = result.model.contributions(result.model.encoder.encode(sample))
        values = {
            field.name: np.asarray(sample.column(field.name).to_numpy(zero_copy_only=False), dtype=np.float64)
            for field in fields
            if field.dtype not in ("category", "boolean")
        }
        importance = importances(fields, contributions, values)
        tags = {"waymark.gate": "promoted" if verdict.promote else "refused", "waymark.gate_reasons": ", ".join(reason.code for reason in verdict.reasons)}
        splits = result.dataset.splits
        counts = {f"{name}_{what}": count for name, split in splits.items() for what, count in (("rows", split.rows), ("converting", split.positives))}
        asked = {"horizon_days": result.dataset.horizon_days, "seed": result.dataset.seed, "features": len(fields), "sampled": round(result.dataset.sampled, 4)}
        # Below zero: better than what it is held against, on the same test rows.
        against = {f"log_loss_minus_{name}": difference["log_loss"] for name, difference in result.differences.items()}
        sizes = {name: count for name, count in counts.items() if not name.startswith("calibration")}
        params = {"model": chosen.name, **chosen.params, **asked, **sizes}
        recorder.log(params=params, metrics={**chosen.metrics, **against}, tags={**tags, "mlflow.note.content": verdict.summary})
        recorder.data(Data("features", result.dataset.fingerprint, (*(view.table for view in VIEWS.values()), LABEL.training_table), counts))
        recorder.nested(
            tuple(
                Nested(item.name, {"model": item.name, **item.params}, dict(item.metrics), tuple(
                    Nested(f"{item.name} trial {number}", {"model": item.name, **trial.params, "rounds": trial.rounds}, {"stopping_log_loss": trial.loss})
                    for number, trial in enumerate(item.trials, 1)
                ))
                for item in result.candidates
            )
        )  # fmt: skip
        for name, picture in plots(result, importance).items():
            recorder.artifact(f"plots/{name}", picture)
        recorder.artifact("card.md", model_card(result, verdict, importance, {field.name: field.meaning for field in fields}, facts))
        folder = home.scratch / data_folder(MODEL)
        result.model.save(folder)
        example: dict[str, list[object]] = {
            field.name: ["direct"] if field.dtype == "category" else [True] if field.dtype == "boolean" else [1.0] for field in fields
        }
        recorder.log_model(folder, "ml.models.propensity.serving", example, {"score": [0.1], "score_low": [0.05], "score_high": [0.2]})
        shutil.rmtree(folder, ignore_errors=True)
        version = recorder.register(description=verdict.summary, promote=verdict.promote, tags={"waymark.model_digest": result.model.digest})
    except BaseException:
        recorder.failed()
        raise
    shown = ("auc", "average_precision", "log_loss", "calibration_slope", "lift_top_decile")
    metrics = tuple((name, str(chosen.metrics[name])) for name in shown)
    return TrainingReport("trained", (f"version {version} {verdict.summary}",), version, recorder.run_id, verdict.promote, metrics)


def score(run: Run) -> str:
    """Scores all customers by the champion; returns a sentence for the summary."""
    from ml.models.propensity.score import score_customers
    from ml.registry import champion

    with Stage("scores") as stage:
        known = champion(run.project.home, MODEL)
        if known and not known.folder.is_dir():
            raise StorageError(
                f"the champion's files are gone (version {known.version})", where=str(known.folder),
                remedy="Put them back, give the alias champion to another version in MLflow, or: waymark train",
            )  # fmt: skip
        model = _champion_model(run)
        run.mark_unpublished()
        with run.open_warehouse() as connection:
            owe_checks(connection, ["scores"])
            report = score_customers(connection, model, known.version if known else None)
            connection.execute("create or replace table raw.scored_by as select ?::varchar as version", [report.version])
        stage.rows = report.rows
        stage.detail = f"{report.rows:,} customers by version {report.version}" if report.version else "no champion yet, so nobody is scored"
    return stage.detail
