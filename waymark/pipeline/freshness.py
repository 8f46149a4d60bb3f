"""Is there anything to do? Answered from file sizes and small JSON files, before DuckDB, dbt or Dagster are imported."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from waymark.core.clock import wall_now
from waymark.core.home import read_json
from waymark.core.settings import Project


def nothing_new(project: Project) -> bool:
    """True if the published snapshot holds every file, by the same settings, mappings, models, champion and secret, and no refused row has expired.

    A refused file is never held. Raises SecretError if the secret is another one, StorageError where MLflow's store cannot be read.
    """
    from waymark.privacy import load_secret

    home = project.home
    manifest = read_json(home.manifest) if home.published.exists() else None
    if manifest is None or next(what_is_new(project, manifest), None):
        return False
    return manifest.get("secret_fingerprint") == load_secret(project).fingerprint


def what_is_new(project: Project, manifest: dict[str, object]) -> Iterator[str]:
    """Yields, in words, each reason for which the published snapshot of this manifest is not what a run would publish. Looks; makes nothing.

    Raises StorageError where MLflow's store cannot be read.
    """
    from ml.models.propensity import MODEL
    from ml.registry import champion
    from waymark.ingestion import load_mapping, new_files
    from waymark.pipeline.code import build_digest

    home = project.home
    if home.unpublished.exists():
        yield "the last run did not come to its end"
    if manifest.get("settings_digest") != project.refresh_digest:
        yield "settings changed that bind its tables (--full-refresh)"
    if manifest.get("build_digest") != build_digest(project):
        yield "the models or the sources changed"
    if manifest.get("access", {}) != project.settings.access.as_published:
        yield "the roles that get a file changed"
    if manifest.get("retention", {}) != project.settings.retention_as_published:
        yield "the retention of events changed"
    if manifest.get("learning") != project.settings.learning.model_dump(mode="json"):
        yield "the settings of learning changed"
    mappings = {source: load_mapping(project.mapping_path(source)).digest for source in sorted(project.settings.sources)}
    if manifest.get("mapping_digests") != mappings:
        yield "a mapping changed"
    expired = wall_now() - timedelta(days=project.settings.ingestion.quarantine_days)
    if any(datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None) < expired for path in home.quarantine.rglob("*.parquet")):
        yield "refused rows have expired"
    for source in project.settings.sources:
        watched = new_files(project, source)
        if count := len([path for path in watched if path != project.mapping_path(source)]):
            yield f"{count:,} files of {source} are new, changed or refused"
        elif watched:
            yield f"the mapping of {source} was written since"
    known, scored_by = champion(home, MODEL), manifest.get("scored_by")
    if (known.version if known else None) != scored_by:
        now = f"the champion is version {known.version}" if known else "there is no champion any more"
        yield f"{now}, and the scores are {f'by version {scored_by}' if scored_by else 'not by any'}"
