"""Where a feature comes from: its declaration, the measures it is made of, and the models between them and the raw events."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ml.features import VIEWS, FeatureView, Field
from waymark.core.errors import WaymarkError
from waymark.core.settings import Project
from waymark.ingestion import load_mapping
from waymark.pipeline.code import SHIPPED

_REFERENCE = re.compile(r"ref\('(\w+)'\)|source\('(\w+)',\s*'(\w+)'\)")


def feature_lineage(project: Project, name: str) -> list[str]:
    """Lines for people. Raises WaymarkError for a feature that no view has, with the nearest names."""
    view, field = _declared(name)
    window = f"over {field.window_days} days" if field.window_days else "over all that is known at the point"
    lines = [
        f"{view.table}.{field.name} ({field.dtype}, {window})",
        f"  meaning: {field.meaning}",
        f"  owner: {view.owner}; consent scope: {view.consent_scope}; entity: {view.entity}, as known at the point",
        f"  measures of intermediate.int_node_days: {', '.join(field.measures) or 'none (identity.membership_history)'}",
        "  models, back to raw:",
    ]
    models = upstream(view.name)
    lines += [f"    {'  ' * depth}{said}" for depth, said in models]
    mappings = {source: project.mapping_path(source) for source in sorted(project.settings.sources)}
    sources = ", ".join(f"{source} ({load_mapping(path).format}, {path.name})" for source, path in mappings.items())
    lines += [f"  sources: {sources}", f"  code digest: {_code_digest(sorted({said for _, said in models}))}"]
    return lines


def upstream(model: str) -> list[tuple[int, str]]:
    """(depth, name) of a model and everything it reads, depth first, each named once."""
    found: list[tuple[int, str]] = []
    seen: set[str] = set()

    def walk(name: str, depth: int) -> None:
        if name in seen:
            return
        seen.add(name)
        found.append((depth, name))
        path = _sql_of(name)
        if path:
            read = {reference or f"{schema}.{table}" for reference, schema, table in _REFERENCE.findall(path.read_text())}
            for parent in sorted(read):
                walk(parent, depth + 1)

    walk(model, 0)
    return found


def _sql_of(model: str) -> Path | None:
    return next(iter(SHIPPED.glob(f"models/**/{model}.sql")), None)


def _code_digest(models: list[str]) -> str:
    digest = hashlib.sha256()
    for model in models:
        if path := _sql_of(model):
            digest.update(path.read_bytes())
    for path in sorted((SHIPPED / "macros").rglob("*.sql")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _declared(name: str) -> tuple[FeatureView, Field]:
    from difflib import get_close_matches

    every = {field.name: (view, field) for view in VIEWS.values() for field in view.fields}
    if name not in every:
        near = get_close_matches(name, every, n=3)
        raise WaymarkError(f"no feature is called '{name}'", remedy=f"Near it: {', '.join(near)}." if near else f"Known are: {', '.join(every)}.")
    return every[name]
