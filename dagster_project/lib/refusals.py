"""Refused files as an asset check: the run goes on without them, as on the command line, where its exit code says so."""

from __future__ import annotations

import dagster as dg

from waymark.ingestion import IngestReport

_NAME = "no_file_is_refused"
_MOST = 20


def no_file_is_refused(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(_NAME, asset=asset, description="Every file of the source can be read; one that cannot is left out, and the others are published.")


def refused_files(report: IngestReport) -> dg.AssetCheckResult:
    """A warning that names the first twenty files, each with its field or row and the remedy; never a row's content."""
    return dg.AssetCheckResult(
        check_name=_NAME, passed=report.is_clean, severity=dg.AssetCheckSeverity.WARN,
        description=None if report.is_clean else "Mend the mapping or the file, and run: it is tried again.",
        metadata={"refused": len(report.refused), "files": "\n".join(map(str, report.refused[:_MOST])) or "none"},
    )  # fmt: skip
