"""Which columns of its parents a model's column is made of, read from the SQL that dbt compiled.

Decision: dagster-dbt finds this while dbt's own connection is open, by asking the warehouse; a second configuration of one DuckDB file excludes the first,
and our dbt runs in this process. Here the compiled SQL of a full refresh is parsed, once for each state of the models, and kept in the home's dbt folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from waymark.core.home import read_json, write_atomically
from waymark.core.warehouse import rows
from waymark.pipeline.code import models_digest
from waymark.pipeline.steps import Run

Columns = dict[str, dict[str, list[tuple[str, str]]]]  # by unique id of the model, by column: (unique id of the parent, its column)
_COLUMNS = """
    select table_schema || '.' || table_name, column_name, data_type from information_schema.columns order by table_schema, table_name, ordinal_position
"""


def column_lineage(
    run: Run, manifest: Mapping[str, Any], key_of: Callable[[Mapping[str, Any]], dg.AssetKey], built: Collection[str]
) -> dict[dg.AssetKey, dict[str, Any]]:
    """Metadata by asset. Empty for a model that is not built yet, or whose SQL says nothing that can be followed.

    built: unique ids of the models that the step has just built. What is compiled of others may be what they were before the models or the settings changed.
    """
    kept = run.dbt.folder / "column_lineage.json"
    wanted = models_digest(run.dbt.vars)
    document = read_json(kept) or {}
    known: Any = document.get("models") if document.get("inputs") == wanted else {}
    models = {unique_id: node for unique_id, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    new = {unique_id: _compiled(run, models[unique_id]) for unique_id in sorted(models.keys() & set(built)) if unique_id not in known}
    missing = {unique_id: path for unique_id, path in new.items() if path.exists()}
    if missing:
        known = {**known, **_derive(run, manifest, missing)}
        write_atomically(kept, json.dumps({"inputs": wanted, "models": known}) + "\n")
    nodes = {**manifest["sources"], **manifest["nodes"]}
    found = {unique_id: columns for unique_id, columns in known.items() if unique_id in models and columns}
    return {key_of(models[unique_id]): _metadata(columns, lambda parent: key_of(nodes[parent])) for unique_id, columns in found.items()}


def _compiled(run: Run, node: Mapping[str, Any]) -> Path:
    return Path(run.dbt.target, "compiled", node["package_name"], node["original_file_path"])


def _metadata(columns: Mapping[str, list[tuple[str, str]]], key_of: Callable[[str], dg.AssetKey]) -> dict[str, Any]:
    deps = {column: [dg.TableColumnDep(key_of(parent), name) for parent, name in parents] for column, parents in columns.items()}
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=deps)}


def _derive(run: Run, manifest: Mapping[str, Any], compiled: Mapping[str, Path]) -> Columns:
    with run.open_warehouse() as connection:
        schema: dict[str, dict[str, str]] = {}
        for table, column, kind in rows(connection, _COLUMNS):
            schema.setdefault(str(table), {})[str(column)] = str(kind)
    from dagster_project.lib.sql_columns import columns_read

    found: Columns = {}
    for unique_id, path in compiled.items():
        parents = {}
        for parent in manifest["nodes"][unique_id]["depends_on"]["nodes"]:
            node = manifest["nodes"].get(parent) or manifest["sources"][parent]
            parents[f"{node['schema']}.{node['name']}"] = parent
        own = f"{manifest['nodes'][unique_id]['schema']}.{manifest['nodes'][unique_id]['name']}"
        read = columns_read(path.read_text(encoding="utf-8"), {table: list(schema.get(table, {})) for table in (*parents, own)})
        found[unique_id] = {column: sorted({(parents[table], name) for table, name in pairs if table in parents}) for column, pairs in read.items()}
    return found
