"""Is there anything to do? Answered from file sizes and small JSON files, before DuckDB, dbt or Dagster are imported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from waymark.core.clock import wall_now
from waymark.core.settings import Project


def nothing_new(project: Project) -> bool:
    """True if the published snapshot holds every file, by the same settings, mappings, models and secret, and no refused row has expired.

    A refused file is never held. Raises SecretError if the secret is another one.
    """
    from waymark.core.home import read_json
    from waymark.ingestion import load_mapping, new_files
    from waymark.pipeline.code import build_digest
    from waymark.privacy import load_secret

    home = project.home
    manifest = read_json(home.manifest) if home.published.exists() else None
    if manifest is None or home.unpublished.exists():
        return False
    if manifest.get("settings_digest") != project.refresh_digest or manifest.get("build_digest") != build_digest(project):
        return False
    mappings = {source: load_mapping(project.mapping_path(source)).digest for source in sorted(project.settings.sources)}
    if manifest.get("mapping_digests") != mappings or manifest.get("secret_fingerprint") != load_secret(project).fingerprint:
        return False
    expired = wall_now() - timedelta(days=project.settings.ingestion.quarantine_days)
    if any(datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None) < expired for path in home.quarantine.rglob("*.parquet")):
        return False
    return not any(new_files(project, source) for source in project.settings.sources)
