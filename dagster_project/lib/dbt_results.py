"""dbt in Dagster: the manifest, the asset keys, and dbt's results as materializations and check results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from dagster_project.lib.project_resource import project_directory
from waymark.core.digest import text_digest
from waymark.core.home import write_atomically
from waymark.core.settings import load_project
from waymark.pipeline.code import code_digest
from waymark.pipeline.dbt_project import DbtProject, NodeResult

_GROUPS = {"staging": "staging", "intermediate": "intermediate", "marts": "marts", "features": "features"}


class Translator(DagsterDbtTranslator):
    """Asset key = schema/table; what is pending in a source belongs to the source's own asset."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source" and dbt_resource_props["name"].endswith("_pending"):
            return dg.AssetKey([dbt_resource_props["source_name"], dbt_resource_props["name"].removesuffix("_pending") + "_events"])
        return super().get_asset_key(dbt_resource_props)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return _GROUPS.get(str(dbt_resource_props.get("schema")), super().get_group_name(dbt_resource_props))


TRANSLATOR = Translator(settings=DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))


@cache
def manifest_path() -> Path:
    """The manifest of the served project; parsed anew only if the models, the sources or the settings changed."""
    project = load_project(project_directory())
    dbt = DbtProject(project, project.home.warehouse, project.home.dbt)
    inputs = text_digest(code_digest() + json.dumps(dbt.vars, sort_keys=True))
    marker = dbt.target / "inputs_digest"
    if not (dbt.manifest_path.exists() and marker.exists() and marker.read_text() == inputs):
        project.home.ensure()
        dbt.assemble()
        dbt.manifest()
        write_atomically(marker, inputs)
    return dbt.manifest_path


@cache
def manifest() -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(manifest_path().read_text(encoding="utf-8"))
    return document


def as_dagster_results(results: Sequence[NodeResult]) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """A materialization a model (with its seconds), a check result a test (with its failing rows)."""
    nodes = manifest()["nodes"]
    for result in results:
        if result.kind in ("model", "seed"):
            yield dg.MaterializeResult(
                asset_key=TRANSLATOR.get_asset_key(nodes[result.unique_id]), metadata={"seconds": result.seconds, "dbt_message": result.message}
            )
        elif result.kind == "test" and (key := get_asset_check_key_for_test(manifest(), TRANSLATOR, result.unique_id, None)):
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=result.status == "pass",
                metadata={"failing_rows": result.failures, "seconds": result.seconds},
            )
