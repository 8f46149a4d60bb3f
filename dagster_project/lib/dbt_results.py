"""dbt in Dagster: the manifest, the asset keys, and dbt's results as materializations and check results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from dagster_project.lib.column_lineage import column_lineage
from dagster_project.lib.day_events import record_days
from dagster_project.lib.figures import figures
from dagster_project.lib.links import table_link
from dagster_project.lib.project_resource import served_project
from waymark.core.home import write_atomically
from waymark.pipeline import stated, steps
from waymark.pipeline.code import models_digest
from waymark.pipeline.dbt_project import DbtProject, FailedTestsError, NodeResult
from waymark.pipeline.steps import Run

_IDENTITY = dg.AssetKey(["identity", "memberships"])
_GROUPS = {"staging": "staging", "intermediate": "intermediate", "marts": "marts", "features": "features"}


class Translator(DagsterDbtTranslator):
    """Asset key = schema/table; what is pending in a source belongs to the source's own asset."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source" and dbt_resource_props["name"].endswith("_pending"):
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"].removesuffix("_pending") + "_events"])
        return super().get_asset_key(dbt_resource_props)

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        found = dict(super().get_metadata(dbt_resource_props))
        return {**found, **table_link(served_project().home, dbt_resource_props["unique_id"])} if dbt_resource_props["resource_type"] == "model" else found

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        owner = dbt_resource_props.get("config", {}).get("meta", {}).get("owner")
        return [f"team:{owner}"] if owner else None

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return _GROUPS.get(str(dbt_resource_props.get("schema")), super().get_group_name(dbt_resource_props))


TRANSLATOR = Translator(settings=DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))


@cache
def manifest_path() -> Path:
    """The manifest of the served project; parsed anew only if the models, the sources or the settings changed."""
    project = served_project()
    dbt = DbtProject(project, project.home.warehouse, project.home.dbt)
    inputs = models_digest(dbt.vars)
    marker = dbt.target / "inputs_digest"
    if not (dbt.manifest_path.exists() and marker.exists() and marker.read_text() == inputs):
        project.home.ensure()
        dbt.assemble()
        dbt.manifest()
        write_atomically(marker, inputs)
    return dbt.manifest_path


@cache
def manifest() -> Mapping[str, Any]:
    """The manifest, in which a test that looks at several models belongs to the last of them (dagster-dbt would leave it out), and each says what it asks."""
    document: dict[str, Any] = json.loads(manifest_path().read_text(encoding="utf-8"))
    for node in document["nodes"].values():
        models = [parent for parent in node["depends_on"]["nodes"] if parent in document["nodes"]] if node["resource_type"] == "test" else []
        if len(models) > 1 and not node.get("attached_node"):
            node["attached_node"] = max(models, key=lambda parent: (len(_ancestors(document, parent)), parent))
        if node["resource_type"] == "test":
            node["meta"] = {"description": _meaning(node), **node.get("meta", {})}
    return document


def _meaning(test: Mapping[str, Any]) -> str:
    """What a test asks, as a sentence: dbt names it by a formula."""
    asked = test.get("test_metadata")
    if not asked:
        return str(test["name"]).removeprefix("assert_").replace("_", " ").capitalize() + "."
    column, given = test["column_name"], asked["kwargs"]
    parent = str(given.get("to")).removeprefix("ref('").removesuffix("')")
    sentences = {
        "unique": f"No two rows have the same `{column}`",
        "unique_key": f"No two rows have the same {' and '.join(f'`{name}`' for name in given.get('columns', []))}",
        "not_null": f"Every row has a `{column}`",
        "accepted_values": f"`{column}` is one of {', '.join(map(str, given.get('values', [])))}",
        "relationships": f"Each `{column}` stands in {parent} as `{given.get('field')}`",
    }
    scope = ", among the rows that the run states anew" if test["config"].get("where") else ""
    return f"{sentences.get(asked['name'], asked['name'])}{scope}."


def _ancestors(document: Mapping[str, Any], unique_id: str) -> set[str]:
    parents = document["parent_map"].get(unique_id, [])
    return {*parents, *(found for parent in parents for found in _ancestors(document, parent))}


def build_selected(
    context: dg.AssetExecutionContext, run: Run, build_all: Callable[[Run], list[NodeResult]], *, after_identity: bool = False
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """The step's models, or those of them that the run selects, as Dagster's results. build_all: makes all of them.

    after_identity: what these models state anew is found by identity; where that is not part of the run, it is done here, for the days and events that wait.
    Raises FailedTestsError after it has given what was made, and what the tests found, so that the failed ones are seen on their assets.
    """
    nodes = manifest()["nodes"]
    wanted = {key: node for node in nodes.values() if (key := _key(node)) and key in context.selected_asset_keys}
    tests = {key: node for key, node in _tests().items() if key in context.selected_asset_check_keys}
    stopped: FailedTestsError | None = None
    try:
        results = build_all(run) if wanted.keys() == _all_keys(context) else _build_some(context, run, wanted, tests, after_identity=after_identity)
        stated.note(run, {f"{node['schema']}.{node['name']}" for node in wanted.values()})
        record_days(context, run, wanted.keys())
    except FailedTestsError as error:
        stopped, results = error, error.found
    made = {result.unique_id: key for result in results if result.status == "success" and (key := _key(nodes[result.unique_id])) and key in wanted}
    found = figures(run, made.values())
    columns = column_lineage(run, manifest(), TRANSLATOR.get_asset_key, made)
    for result in results:
        if key := made.get(result.unique_id):
            said: dict[str, Any] = {"seconds": round(result.seconds, 3), "dbt_message": result.message}
            yield dg.MaterializeResult(asset_key=key, metadata={**said, **found[key], **columns.get(key, {})})
        elif (check := _check_key(result)) and check in tests:
            yield dg.AssetCheckResult(
                asset_key=check.asset_key, check_name=check.name, passed=result.status == "pass", severity=severity(result.unique_id),
                description=_remedy(result.unique_id), metadata={"failing_rows": result.failures, "seconds": round(result.seconds, 3)},
            )  # fmt: skip
    if stopped:
        raise stopped


def _build_some(
    context: dg.AssetExecutionContext, run: Run, wanted: Mapping[dg.AssetKey, Mapping[str, Any]], tests: Mapping[dg.AssetCheckKey, Mapping[str, Any]],
    *, after_identity: bool,
) -> list[NodeResult]:  # fmt: skip
    names = {f"{node['schema']}.{node['name']}" for node in wanted.values()}
    stated.require_parents(run, names)
    is_alone = _IDENTITY not in context.job_def.asset_layer.executable_asset_keys
    if after_identity and names and is_alone and not steps.rebuilding(run) and stated.is_unresolved(run):
        made = steps.transform_events(run)
        steps.resolve(run)
        stated.note(run, {stated.IDENTITY, *(f"{manifest()['nodes'][result.unique_id]['schema']}.{result.name}" for result in made if result.kind == "model")})
    alone = {node["name"] for key, node in tests.items() if key.asset_key not in wanted}
    return steps.transform_models(run, {node["name"] for node in wanted.values()} | alone)


def _key(node: Mapping[str, Any]) -> dg.AssetKey | None:
    return TRANSLATOR.get_asset_key(node) if node["resource_type"] in ("model", "seed") else None


def _all_keys(context: dg.AssetExecutionContext) -> set[dg.AssetKey]:
    """What the step makes where everything is selected."""
    return set(context.assets_def.node_keys_by_output_name.values())


def described_columns(model: str) -> dict[str, Any]:
    """Dagster's column schema as the model's own page describes it, for an asset of the same columns."""
    return {name: value for name, value in TRANSLATOR.get_metadata(manifest()["nodes"][f"model.waymark.{model}"]).items() if name == "dagster/column_schema"}


@cache
def _tests() -> dict[dg.AssetCheckKey, Mapping[str, Any]]:
    found = {}
    for unique_id, node in manifest()["nodes"].items():
        if node["resource_type"] == "test" and (key := get_asset_check_key_for_test(manifest(), TRANSLATOR, unique_id, None)):
            found[key] = node
    return found


def _check_key(result: NodeResult) -> dg.AssetCheckKey | None:
    """The check of a test that ran; one that was skipped has found nothing."""
    ran = result.kind == "test" and result.status in ("pass", "warn", "fail")
    return get_asset_check_key_for_test(manifest(), TRANSLATOR, result.unique_id, None) if ran else None


def severity(unique_id: str) -> dg.AssetCheckSeverity:
    """How Dagster shows that a test failed: as an error where it stops the run, else as a warning."""
    return dg.AssetCheckSeverity[str(manifest()["nodes"][unique_id]["config"]["severity"]).upper()]


def _remedy(unique_id: str) -> str | None:
    meta = manifest()["nodes"][unique_id].get("config", {}).get("meta", {})
    return " ".join(str(meta["remedy"]).split()) if "remedy" in meta else None
