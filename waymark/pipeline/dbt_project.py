"""The dbt project of a home: the shipped models plus the user's sources, and dbt's own runner in this process.

dbt reads its models from a folder in the home, because which sources exist is the user's and the shipped folder may not be writable.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from waymark.core.errors import AuditError, SettingsError, WaymarkError
from waymark.core.home import write_atomically
from waymark.core.settings import Project, quiet_libraries
from waymark.core.warehouse import OUTPUTS, connection_config, outputs_of, storage_problem
from waymark.pipeline.code import PARTS, SHIPPED, models_digest, shipped_files
from waymark.pipeline.dbt_sources import sources_document

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest


# What this process parsed last: Dagster's definitions need it, and the run that follows.
_parsed: dict[str, Any] = {}
# A day of an identifier makes a row or three of features, a kilobyte and a half each while they are summed; a third of the memory is for that.
_BYTES_A_NODE_DAY = 10_000
# An event beside its place in a session and its customer, while the two are joined; a third of the memory is for that.
_BYTES_AN_EVENT = 800


@dataclass(frozen=True)
class NodeResult:
    """One dbt node that ran. status: success, pass, warn, error, fail or skipped; failures: failing rows of a test."""

    unique_id: str
    name: str
    kind: str
    status: str
    seconds: float
    failures: int
    message: str


class FailedTestsError(AuditError):
    """Blocking tests failed, and nothing downstream of them ran. found: every node that ran, and those that were skipped, in the order of their ends."""

    def __init__(self, what: str, *, where: str, remedy: str, found: list[NodeResult]) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.found = found


def dbt_vars(project: Project) -> dict[str, Any]:
    """The settings that models read, as dbt vars. No secret, no clock."""
    settings = project.settings
    return {
        "sources": sorted(settings.sources),
        "session_gap_minutes": settings.time.session_gap_minutes,
        "journey_timeout_days": settings.time.journey_timeout_days,
        "reporting_timezone": settings.time.reporting_timezone,
        "exclude_bots": settings.counting.exclude_bots,
        "exclude_internal": settings.counting.exclude_internal,
        "bot_user_agents": settings.counting.bot_user_agents,
        "consent_scopes": list(settings.consent.all_scopes),
        "consent_denied_when_absent": settings.consent.denials(),
        "consent_elsewhere_tells": settings.consent.elsewhere_tells,
        "least_group": settings.consent.least_group,
        "consent_jurisdictions": {place: sorted(countries) for place, countries in sorted(settings.consent.jurisdictions.items())},
        "identity_thresholds": settings.identity.thresholds.model_dump(include={"scoring", "sending"}),
        "horizon_days": settings.learning.horizon_days,
        "events_in_a_slice": max(1, settings.engine.memory_bytes // _BYTES_AN_EVENT),
        "node_days_in_a_slice": max(1, settings.engine.memory_bytes // _BYTES_A_NODE_DAY),
        "reporting_currency": settings.money.reporting_currency,
        "rates": rates(project),
        "goals": [goal.model_dump() for goal in settings.goals],
        "stages": [rule.model_dump() for rule in settings.stages],
        "micro_conversions": [micro.model_dump() for micro in settings.micro_conversions],
        "channels": [rule.model_dump() for rule in settings.channels],
    }


def rates(project: Project) -> list[dict[str, str]]:
    """The dated rate table, checked. Raises SettingsError that names file, row, field and remedy."""
    if not project.rates_text:
        return []
    where = str(project.directory / (project.settings.money.rates or ""))
    reader = csv.DictReader(io.StringIO(project.rates_text))
    if reader.fieldnames is None or not {"valid_from", "currency", "rate"} <= set(reader.fieldnames):
        raise SettingsError("the rate table lacks a column", where=where, remedy="Its header must be: valid_from,currency,rate.")
    found = []
    for number, row in enumerate(reader, start=1):
        found.append(
            {"valid_from": _day(row["valid_from"], where, number), "currency": str(row["currency"]).strip().upper(), "rate": _rate(row["rate"], where, number)}
        )
    return found


def _day(text: str | None, where: str, row: int) -> str:
    from datetime import date

    try:
        return date.fromisoformat((text or "").strip()).isoformat()
    except ValueError as error:
        raise SettingsError(f"row {row}: valid_from '{text}' is not a date", where=where, remedy="Write it as YYYY-MM-DD.") from error


def _rate(text: str | None, where: str, row: int) -> str:
    from decimal import Decimal, InvalidOperation

    try:
        value = Decimal((text or "").strip())
    except InvalidOperation as error:
        raise SettingsError(f"row {row}: rate '{text}' is not a number", where=where, remedy="Write it as a decimal, such as 1.0834.") from error
    if not value.is_finite() or value <= 0:
        raise SettingsError(f"row {row}: rate '{text}' is not above zero", where=where, remedy="Write what one unit is worth in the reporting currency.")
    return str(value)


class DbtProject:
    """A dbt project folder that belongs to one warehouse file."""

    def __init__(self, project: Project, warehouse: Path, folder: Path) -> None:
        self.project, self.warehouse, self.folder = project, warehouse, folder
        self.target = folder / "target"
        self.manifest_path = self.target / "manifest.json"
        self.vars = dbt_vars(project)
        self._manifest: Manifest | None = None

    def assemble(self) -> None:
        """Writes the folder: shipped files, the user's sources, the profile. Touches only what changed, so that dbt's parse cache holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sources = self.folder / "models" / "staging" / "_sources.yml"
        kept = {sources}
        for path in shipped_files():
            target = self.folder / path.relative_to(SHIPPED)
            if target == sources:
                continue  # the shipped one stands for a project of the demo's source; the user's is written below
            kept.add(target)
            if not target.exists() or target.read_bytes() != path.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        self._write(sources, yaml.safe_dump(sources_document(sorted(self.project.settings.sources)), sort_keys=False))
        for part in PARTS:
            for stale in (path for path in (self.folder / part).rglob("*") if path.is_file() and path not in kept):
                stale.unlink()
        output: dict[str, Any] = {"type": "duckdb", "path": str(self.warehouse), "schema": "main", "threads": 1}
        output["attach"] = [{"path": str(outputs_of(self.warehouse)), "alias": OUTPUTS}]
        output["retries"] = {"connect_attempts": 4}  # as waymark.core.warehouse waits for who has the file open: 1, 2, 4 and 8 seconds
        output["config_options"] = connection_config(self.project.settings.engine, self.project.home.scratch)
        profile = {"waymark": {"target": "home", "outputs": {"home": output}}}
        self._write(self.folder / "profiles.yml", yaml.safe_dump(profile))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)

    def manifest(self) -> Manifest:
        """The parsed manifest; parsed once per process and state of models and settings, from dbt's cache where nothing changed."""
        if self._manifest is not None:
            return self._manifest
        state = (str(self.folder), models_digest(self.vars))
        if _parsed.get("state") == state:
            self._manifest = _parsed["manifest"]
        else:
            result = self._invoke(["parse", "--write-json"])
            if not result.success:
                raise storage_problem(result.exception, str(self.folder)) or WaymarkError(
                    f"dbt cannot parse the models: {result.exception}",
                    where=str(self.folder),
                    remedy="If a user's rule in waymark.yml caused it, mend it there.",
                )
            self._manifest = result.result
            _parsed.update(state=state, manifest=self._manifest)
        return self._manifest

    def share_manifest(self, other: DbtProject) -> None:
        """Takes over what another folder of the same models and settings has parsed. The files of both warehouses must have one name."""
        self._manifest = other.manifest()

    def build(
        self,
        *,
        select: str | None = None,
        exclude: str | None = None,
        full_refresh: bool = False,
        alone: bool = False,
        on_node: Callable[[NodeResult], None] | None = None,
    ) -> list[NodeResult]:
        """Runs models and their tests in graph order. alone: of the tests, only those that look at nothing but the selected models.

        Raises FailedTestsError that names them (nothing downstream of them ran), WaymarkError for a model that failed.
        """
        # The manifest is written when it is parsed; nothing reads it, or dbt's results, from a build's files.
        arguments = ["build", "--no-write-json", "--exclude-resource-type", "unit_test"]
        arguments += ["--select", *select.split()] if select else []
        arguments += ["--exclude", *exclude.split()] if exclude else []
        arguments += ["--full-refresh"] if full_refresh else []
        arguments += ["--indirect-selection", "cautious"] if alone else []
        manifest = self.manifest()
        found: list[NodeResult] = []

        def remember(event: Any) -> None:
            if event.info.name != "NodeFinished":
                return
            node, run = event.data.node_info, event.data.run_result
            seconds = float(run.execution_time or 0)
            result = NodeResult(node.unique_id, node.node_name, node.resource_type, run.status, seconds, int(run.num_failures or 0), str(run.message or ""))
            found.append(result)
            if on_node:
                on_node(result)

        result = self._invoke(arguments, manifest=manifest, callbacks=[remember])
        if result.success:
            return found
        broken = [node for node in found if node.status == "error"]
        if broken:
            raise storage_problem(Exception(broken[0].message), str(self.warehouse)) or WaymarkError(
                f"the model {broken[0].name} failed: {_essence(broken[0].message)}",
                where=str(self.warehouse),
                remedy="Nothing was published. The log is in " + str(self.folder / "logs"),
            )
        failed = [node for node in found if node.status == "fail"]
        if failed:
            named = "; ".join(f"{node.name} ({node.failures} rows)" for node in failed[:5])
            remedies = [" ".join(str(manifest.nodes[node.unique_id].config.meta.get("remedy", "")).split()) for node in failed]
            raise FailedTestsError(
                f"{len(failed)} blocking checks failed: {named}",
                where=str(self.warehouse), found=found,
                remedy="Nothing was published; the last good snapshot stands. " + (next(filter(None, remedies), "Mend the data or the rule, then run again.")),
            )  # fmt: skip
        raise storage_problem(result.exception, str(self.folder)) or WaymarkError(
            f"dbt stopped: {result.exception}", where=str(self.warehouse), remedy="The log is in " + str(self.folder / "logs")
        )

    def generate_docs(self, *, has_tables: bool = True) -> Path:
        """Writes dbt's documentation site as one self-contained page; returns its path.

        has_tables: False where nothing is built yet: the warehouse is then not opened, and the page lacks SQL as run and the columns' types.
        """
        without = [] if has_tables else ["--no-compile", "--empty-catalog"]
        result = self._invoke(["docs", "generate", "--static", *without], manifest=self.manifest())
        if not result.success:
            raise WaymarkError(f"dbt cannot write the docs: {result.exception}", where=str(self.folder), remedy="Run `waymark run` first.")
        return self.target / "static_index.html"

    def _invoke(self, arguments: list[str], *, manifest: Manifest | None = None, callbacks: list[Callable[[Any], None]] | None = None) -> Any:
        quiet_libraries()
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        places = [
            "--project-dir",
            str(self.folder),
            "--profiles-dir",
            str(self.folder),
            "--target-path",
            str(self.target),
            "--log-path",
            str(self.folder / "logs"),
        ]
        # A logger of dbt's costs as much as a model's own SQL in a small increment, whatever its level lets through: none for a screen that nobody sees.
        quiet = ["--quiet", "--no-use-colors", "--log-level", "none", "--log-level-file", "info", "--no-version-check"]
        arguments = [*arguments, *places, "--vars", json.dumps(self.vars, sort_keys=True)]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return dbtRunner(manifest=manifest, callbacks=callbacks or []).invoke([*quiet, *arguments])
        finally:
            # dbt keeps its DuckDB open for the life of the process; nobody may hold the warehouse between steps.
            DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]


def _essence(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:3])[:500]
