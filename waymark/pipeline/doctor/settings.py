"""Checks of what the project says: settings, mappings, files, secret."""

from __future__ import annotations

from collections.abc import Iterator

from waymark.core.home import read_json
from waymark.core.quoting import typed
from waymark.core.settings import Project
from waymark.ingestion import load_mapping, source_files
from waymark.pipeline.doctor.patient import Finding, Patient, counted, listed, ok, problem, warning


def settings(patient: Patient) -> Iterator[Finding]:
    """waymark.yml, the rate table, and every mapping: a mapping that cannot be read is named with its field."""
    from waymark.core.errors import WaymarkError
    from waymark.pipeline.dbt_project import rates

    project = patient.project
    faults = []
    for source in sorted(project.settings.sources):
        try:
            if (found := load_mapping(project.mapping_path(source)).source) != source:
                faults.append(problem("settings", f"the mapping of {source} is for '{found}'", "Give the mapping and the source one name."))
        except WaymarkError as error:
            faults.append(problem("settings", f"{error.where}: {error.what}", error.remedy or ""))
    try:
        rates(project)
    except WaymarkError as error:
        faults.append(problem("settings", f"{error.where}: {error.what}", error.remedy or ""))
    yield from faults or [ok("settings", f"waymark.yml with {counted(len(project.settings.sources), 'source')}")]


def source_files_of(project: Project) -> dict[str, int]:
    """How many files each source finds."""
    return {source: len([path for path in source_files(project, source) if path.exists()]) for source in sorted(project.settings.sources)}


def source_files_unnamed(project: Project) -> list[str]:
    """Mappings in the project's folder, and landing folders with files, that no source of waymark.yml names."""
    named = {project.mapping_path(source) for source in project.settings.sources}
    strays = [str(path.relative_to(project.directory)) for path in sorted((project.directory / "sources").glob("*.y*ml")) if path.resolve() not in named]
    folders = sorted(path for path in project.home.landing.glob("*") if path.is_dir() and path.name not in project.settings.sources)
    return strays + [f"landing/{path.name}" for path in folders if any(path.iterdir())]


def check_files(patient: Patient) -> Iterator[Finding]:
    """Globs that find nothing, and files that nobody asks for."""
    project = patient.project
    found = source_files_of(project)
    for source in (source for source, count in found.items() if not count):
        globs = ", ".join(project.settings.sources[source].files)
        yield warning("source files", f"no file of {source} matches {globs}", f"Put its files there, or mend sources.{source}.files in waymark.yml.")
    if strays := source_files_unnamed(project):
        yield warning("source files", f"named by no source: {listed(strays)}", "Add them under sources in waymark.yml, or remove them: they are not taken in.")
    if all(found.values()) and not strays:
        yield ok("source files", ", ".join(f"{source} {counted(count, 'file')}" for source, count in found.items()))


def secret(patient: Patient) -> Iterator[Finding]:
    """Whose secret it is, who can read it, and whether it is the one that the home and the published snapshot were made with."""
    from waymark.privacy import FINGERPRINT_FILE, find_secret

    project, home = patient.project, patient.home
    known = find_secret(project)
    if known is None:
        yield ok("secret", "none yet: the first run makes one")
        return
    kept = home.root / FINGERPRINT_FILE
    made_with = {"the home": kept.read_text(encoding="utf-8").strip() if kept.exists() else None}
    made_with["the published snapshot"] = str((read_json(home.manifest) or {}).get("secret_fingerprint") or "") or None
    faults = []
    for place, fingerprint in made_with.items():
        if fingerprint and fingerprint != known.secret.fingerprint:
            remedy = "Set WAYMARK_SECRET to the old secret or put its file back, or run into a fresh home (WAYMARK_HOME): hashes of two secrets never match."
            faults.append(problem("secret", f"{known.place} has fingerprint {known.secret.fingerprint}, {place} was made with {fingerprint}", remedy))
    if known.file and known.file.stat().st_mode & 0o077:
        mode = f"{known.file.stat().st_mode & 0o777:o}"
        remedy = f"{typed('chmod', '600', known.file)}; who has read it can tell whose a hash is by guessing."
        faults.append(problem("secret", f"others can read it (mode {mode})", remedy))
    yield from faults or [ok("secret", f"{known.place}, fingerprint {known.secret.fingerprint}")]
