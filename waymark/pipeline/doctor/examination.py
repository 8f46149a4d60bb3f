"""All checks in the order in which they are told, each by itself: one that fails is a problem of its own and hinders no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from waymark.core.errors import WaymarkError
from waymark.pipeline.doctor import installation, runs, settings, sources, storage
from waymark.pipeline.doctor.patient import BeingWrittenError, Finding, Patient, Verdict, ok, problem

Check = Callable[[Patient], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "python": installation.python,
    "libraries": installation.libraries,
    "machine": installation.machine,
    "settings": settings.settings,
    "source files": settings.check_files,
    "home": storage.home,
    "schema version": storage.schema_version,
    "secret": settings.secret,
    "writer lock": storage.writer_lock,
    "disk": storage.disk,
    "left-over files": storage.left_over_files,
    "services": runs.services,
    "last run": runs.last_run,
    "published snapshot": runs.published_snapshot,
    "refused files": runs.refused_files,
    "quarantine": storage.quarantine,
    "checks of data": runs.checks_of_data,
    "models": runs.models,
    "identities": sources.identities,
    "sources": sources.sources,
}
# Where settings cannot be read these have nothing to go by; that is told once.
_NEEDS_SETTINGS = {"source files", "secret", "published snapshot", "quarantine", "sources", "identities", "disk", "machine"}
_ORDER: dict[Verdict, int] = {"ok": 0, "warning": 1, "problem": 2}


def examine(directory: Path, checks: dict[str, Check] = CHECKS) -> Iterator[Finding]:
    """Yields what each check of the project in `directory` finds; nothing is written, made or mended; a run that starts meanwhile waits a moment."""
    patient = Patient(directory)
    try:
        has_settings = bool(patient.project)
    except Exception:  # the check of settings tells it
        has_settings = False
    for name, check in checks.items():
        if name in _NEEDS_SETTINGS and not has_settings:
            yield ok(name, "not looked at: the settings cannot be read")
            continue
        try:
            yield from check(patient)
        except BeingWrittenError as error:
            yield ok(name, error.what)
        except WaymarkError as error:
            yield problem(name, f"{error.where}: {error.what}" if error.where else error.what, error.remedy or "")
        except Exception as error:  # whatever is broken, the other checks go on
            yield problem(name, f"cannot be looked at: {type(error).__name__}: {' '.join(str(error).split())[:300]}", "Mend what it names, then look again.")


def worst(findings: Iterable[Finding]) -> Verdict:
    """The gravest verdict; ok where there is none."""
    return max((finding.verdict for finding in findings), key=lambda verdict: _ORDER[verdict], default="ok")
