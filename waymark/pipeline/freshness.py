"""Is there anything to do? Answered from file sizes and small JSON files, before DuckDB, dbt or Dagster are imported."""

from __future__ import annotations

from waymark.core.settings import Project


def nothing_new(project: Project) -> bool:
    """True if the published snapshot already holds every file, under the same settings, mappings, models and secret."""
    from waymark.core.home import read_json
    from waymark.ingestion import load_mapping, new_files
    from waymark.pipeline.code import code_digest

    home = project.home
    manifest = read_json(home.manifest) if home.published.exists() else None
    if manifest is None or home.unpublished.exists():
        return False
    if manifest.get("settings_digest") != project.refresh_digest or manifest.get("code_digest") != code_digest():
        return False
    mappings = {source: load_mapping(project.mapping_path(source)).digest for source in sorted(project.settings.sources)}
    if manifest.get("mapping_digests") != mappings:
        return False
    return not any(new_files(project, source) for source in project.settings.sources)
