"""MLflow, and nothing else of ours imports it: an experiment a model, a run a training, nested runs for candidates and trials, versions, the alias `champion`.

Decision: who is champion stands in MLflow's own store (the alias), so that a promotion by hand in MLflow's UI takes effect. Scoring asks only for that
alias and for the folder of the model, and reads them from the store by SQL, because importing MLflow costs seconds. Consequence: four table names of a
pinned MLflow stand here; a test holds both ways of asking to the same answer.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waymark.core.clock import wall_now
from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.core.quoting import read_only_address
from waymark.core.settings import quiet_libraries

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ml.evaluation import Estimate

ALIAS = "champion"
MODEL_FOLDER = "model"
_RUN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Champion:
    """The version that scores. folder: where its model lies. data_now: of the training, as text."""

    version: str
    run_id: str
    folder: Path
    data_now: str


@dataclass(frozen=True)
class Nested:
    """A nested run: a candidate with its trials, or a trial."""

    name: str
    params: Mapping[str, object]
    metrics: Mapping[str, Estimate | float]
    trials: tuple[Nested, ...] = ()


@dataclass(frozen=True)
class Data:
    """What a training learnt from, as MLflow lists data sets. digest: its fingerprint. tables: where it lies. profile: counts."""

    name: str
    digest: str
    tables: tuple[str, ...]
    profile: Mapping[str, int]


def champion(home: Home, model: str) -> Champion | None:
    """The version with the alias, or None. Does not import MLflow."""
    return _found(home, model, " join registered_model_aliases a on a.name = v.name and a.version = v.version where v.name = ? and a.alias = ?", ALIAS)


def version_of(home: Home, model: str, version: str) -> Champion | None:
    """A version by its number, or None."""
    return _found(home, model, " where v.name = ? and cast(v.version as text) = ?", version)


def trainings_page(home: Home, model: str) -> str:
    """Where MLflow's UI lists the model's trainings, under its root; "" before the first. Does not import MLflow.

    Without `workflowType` the UI opens an experiment among pages about language models, whatever kind the experiment is.
    """
    found = _read(home, "select experiment_id from experiments where name = ? and lifecycle_stage = 'active'", (model,))
    return f"#/experiments/{found[0]}/runs?workflowType=machine_learning" if found else ""


def _read(home: Home, query: str, parameters: tuple[str, ...]) -> tuple[Any, ...] | None:
    """The first row, or None, also where there is no store yet. Raises StorageError where it cannot be read."""
    store = home.mlflow / "mlflow.db"
    if not store.exists():
        return None
    connection = sqlite3.connect(read_only_address(store), uri=True)
    try:
        row: tuple[Any, ...] | None = connection.execute(query, parameters).fetchone()
        return row
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return None  # a store that MLflow has only begun to make
        remedy = "Stop what writes to it, or restore it from a backup, then run again."
        raise StorageError(f"MLflow's store cannot be read: {error}", where=str(store), remedy=remedy) from error
    finally:
        connection.close()


def _found(home: Home, model: str, condition: str, wanted: str) -> Champion | None:
    found = _read(home, f"select v.version, v.run_id from model_versions v{condition}", (model, wanted))
    if found is None:
        return None
    clock = _read(home, "select value from tags where run_uuid = ? and key = 'waymark.data_now'", (found[1],))
    return Champion(str(found[0]), str(found[1]), artifacts_of(home, found[1]) / MODEL_FOLDER / "data" / data_folder(model), str(clock[0]) if clock else "")


def forget_trainings(home: Home, model: str, since: str, *, told: Callable[[list[str]], object] = lambda _: None) -> list[str]:
    """Deletes every training that looked at data of `since` (UTC, as text) or later: runs with what lies under them, versions, aliases, files; for good.
    May be repeated: files that an earlier call left, because it was killed, go as well.

    told: is given the versions that are about to go. Returns those that went; their numbers are not given again. Raises StorageError where MLflow's store is
    in use, or a file cannot be removed.

    Decision: runs are deleted by SQL. Context: MLflow's own deletion keeps a run's rows until `mlflow gc`, which removes files by the path that they had when
    they were written, wherever the home stands today. Consequence: whatever table names a run loses its rows.
    """
    store = home.mlflow / "mlflow.db"
    if not store.exists():
        return []
    ours = "select r.run_uuid from runs r join experiments e using (experiment_id) where e.name = ?"
    dated = f"{ours} and exists (select 1 from tags t where t.run_uuid = r.run_uuid and t.key = 'waymark.data_now' and t.value >= ?)"
    undated = f"{ours} and not exists (select 1 from tags t where t.run_uuid = r.run_uuid and t.key in ('waymark.data_now', 'mlflow.parentRunId'))"
    connection = sqlite3.connect(store, timeout=60, isolation_level=None)
    try:
        connection.execute("pragma secure_delete = on")
        connection.execute("begin immediate")
        runs = [str(run) for (run,) in connection.execute(f"{dated} union {undated}", (model, since, model))]
        for run in runs:  # grows by the runs that lie under each
            runs += [str(nested) for (nested,) in connection.execute("select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?", (run,))]
        numbers = [str(number) for run in runs for (number,) in connection.execute("select version from model_versions where run_id = ?", (run,))]
        versions = sorted(numbers, key=int)
        told(versions)
        tables = [str(table) for (table,) in connection.execute("select name from sqlite_master where type = 'table' order by name")]
        for run in runs:
            for table in tables:
                named = {"run_uuid", "destination_id"} & {str(column[1]) for column in connection.execute(f'pragma table_info("{table}")')}
                for column in named:
                    connection.execute(f'delete from "{table}" where {column} = ?', (run,))
        for version in versions:
            gone = "stage = 'Deleted_Internal', description = null, source = 'erased', run_id = 'erased', run_link = null, storage_location = null"
            connection.execute(f"update model_versions set current_{gone} where name = ? and version = ?", (model, version))
            connection.execute("delete from model_version_tags where name = ? and version = ?", (model, version))
            connection.execute("delete from registered_model_aliases where name = ? and version = ?", (model, version))
        connection.execute("delete from datasets where dataset_uuid not in (select source_id from inputs)")
        connection.execute("commit")
        connection.execute("vacuum")
        if connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
            raise sqlite3.OperationalError("its journal is in use")
        left = {str(run) for (run,) in connection.execute("select run_uuid from runs")}
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return []
        raise StorageError(f"MLflow's store cannot be written: {error}", where=str(store), remedy="Stop what uses it, then try again.") from error
    finally:
        connection.close()
    _remove_artifacts(home, left)
    return versions


def _remove_artifacts(home: Home, left: Collection[str]) -> None:
    """Removes what lies under any run but these."""
    folders = (home.mlflow / "artifacts").glob("*") if (home.mlflow / "artifacts").exists() else []
    for folder in sorted(folders):
        if _RUN.fullmatch(folder.name) and folder.name not in left:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise StorageError(
                    f"files of a training that is to go cannot be removed ({error.strerror})", where=str(folder), remedy="Grant permission, then try again."
                ) from error


def data_folder(model: str) -> str:
    """The name of the folder that holds a model's own files, inside and outside MLflow."""
    return f"{model}_model"


def artifacts_of(home: Home, run_id: str) -> Path:
    """Where a run's artifacts lie, wherever the home stands today."""
    return home.mlflow / "artifacts" / run_id / "artifacts"


class Recorder:
    """One training as a run of MLflow. The alias is set last, so whatever kills the process before leaves the champion as it was."""

    def __init__(self, home: Home, model: str, *, name: str, tags: Mapping[str, str]) -> None:
        quiet_libraries()
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing it sets its own level
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # it warns of an environment without pip, as uv makes them

        self.home, self.model = home, model
        home.mlflow.mkdir(parents=True, exist_ok=True)
        store = f"sqlite:///{home.mlflow / 'mlflow.db'}"
        self.client: MlflowClient = MlflowClient(store, store)
        known = self.client.get_experiment_by_name(model)
        artifacts = (home.mlflow / "artifacts").as_uri()
        self.experiment = known.experiment_id if known else self.client.create_experiment(model, artifact_location=artifacts)
        # Else MLflow's UI takes it for an experiment with language models, and leads to their pages.
        self.client.set_experiment_tag(self.experiment, "mlflow.experimentKind", "custom_model_development")
        for left in self.client.search_runs([self.experiment], "attributes.status = 'RUNNING'"):
            self.client.set_terminated(left.info.run_id, status="KILLED")  # one writer at a time: nobody works on it any more
        self.name = name
        self.run_id = str(self.client.create_run(self.experiment, run_name=name, tags={**tags, "waymark.kind": "training"}).info.run_id)

    def log(self, *, params: Mapping[str, object], metrics: Mapping[str, Estimate], tags: Mapping[str, str] | None = None) -> None:
        """Estimates are kept as name, name_low, name_high."""
        flat = {f"{name}{end}": value for name, estimate in metrics.items() for end, value in _ends(estimate).items()}
        _log_batch(self.client, self.run_id, params, flat, tags or {})

    def data(self, data: Data) -> None:
        """Names the data in MLflow's column and filter of data sets. No path and no row."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        kept = Dataset(data.name, data.digest, "warehouse", json.dumps({"tables": list(data.tables)}), profile=json.dumps(dict(data.profile)))
        self.client.log_inputs(self.run_id, [DatasetInput(kept, [InputTag("mlflow.data.context", "training")])])

    def nested(self, runs: tuple[Nested, ...], *, parent: str = "", kind: str = "candidate") -> None:
        """Candidates lie under the training, trials under their candidate; `tags.waymark.kind` tells them apart."""
        for run in runs:
            tags = {"mlflow.parentRunId": parent or self.run_id, "mlflow.runName": run.name, "waymark.kind": kind}
            run_id = str(self.client.create_run(self.experiment, tags=tags).info.run_id)
            flat = {f"{name}{end}": value for name, found in run.metrics.items() for end, value in _ends(found).items()}
            _log_batch(self.client, run_id, run.params, flat, {})
            self.nested(run.trials, parent=run_id, kind="trial")
            self.client.set_terminated(run_id)

    def artifact(self, name: str, content: str | bytes) -> None:
        path = artifacts_of(self.home, self.run_id) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def log_model(self, data: Path, loader: str, example: Mapping[str, list[Any]], output: Mapping[str, list[Any]]) -> None:
        """The model folder `data` as an MLflow model: signature and a synthetic example, loaded by module `loader` where Waymark is installed."""
        import pandas as pd
        from mlflow.models import infer_signature
        from mlflow.pyfunc import save_model

        frame = pd.DataFrame(dict(example))
        folder = artifacts_of(self.home, self.run_id) / MODEL_FOLDER
        folder.parent.mkdir(parents=True, exist_ok=True)
        signature = infer_signature(frame, pd.DataFrame(dict(output)))
        save_model(str(folder), loader_module=loader, data_path=str(data), signature=signature, input_example=frame, pip_requirements=[])

    def register(self, *, description: str, promote: bool, tags: Mapping[str, str]) -> str:
        """Makes a version of the run's model; gives it the alias if `promote`. Returns the version, which the run's name then tells."""
        if not any(known.name == self.model for known in self.client.search_registered_models(f"name = '{self.model}'")):
            self.client.create_registered_model(self.model)
        source = (artifacts_of(self.home, self.run_id) / MODEL_FOLDER).as_uri()
        version = str(self.client.create_model_version(self.model, source=source, run_id=self.run_id, tags=dict(tags), description=description).version)
        self.client.update_run(self.run_id, name=f"v{version} {'promoted' if promote else 'refused'} {self.name}")  # MLflow's lists cut the end off
        self.client.set_terminated(self.run_id)
        if promote:
            self.client.set_registered_model_alias(self.model, ALIAS, version)
        return version

    def finished(self) -> None:
        """Marks a run as finished that makes no version of a model."""
        self.client.set_terminated(self.run_id)

    def failed(self) -> None:
        """Marks the run as failed."""
        self.client.set_terminated(self.run_id, status="FAILED")


def _ends(estimate: Estimate | float) -> dict[str, float]:
    if isinstance(estimate, float):
        return {"": estimate}
    return {"": estimate.value, "_low": estimate.low, "_high": estimate.high}


def _log_batch(client: MlflowClient, run_id: str, params: Mapping[str, object], metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(wall_now().replace(tzinfo=UTC).timestamp() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items() if isfinite(value)],
        params=[Param(name, str(value)) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
