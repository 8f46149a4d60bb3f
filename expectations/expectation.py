"""The one kind of expectation that suites are made of: a query that must give no row, asked for its count alone."""

from __future__ import annotations

from typing import Any, ClassVar

from great_expectations.expectations.core.unexpected_rows_expectation import UnexpectedRowsExpectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.render.components import LegacyDiagnosticRendererType
from great_expectations.render.renderer.renderer import renderer


class NoBrokenRows(UnexpectedRowsExpectation):
    """As its base, which runs the query a second time to fetch rows that no result may hold."""

    metric_dependencies: ClassVar[tuple[str, ...]] = ("unexpected_rows_query.row_count",)

    def _validate(self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, execution_engine: Any = None) -> dict[str, Any]:
        count = int(metrics["unexpected_rows_query.row_count"])
        return {"success": count == 0, "result": {"observed_value": count}}

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.OBSERVED_VALUE)
    def _diagnostic_observed_value_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: dict[str, Any] | None = None, **_: Any
    ) -> str:
        """What Data Docs show beside the rule."""
        count = int(((result.result if result else None) or {}).get("observed_value") or 0)
        told = ("1 row breaks it" if count == 1 else f"{count:,} rows break it") if count else "no row breaks it"
        return told if result is None or result.success or result.expectation_config.severity == FailureSeverity.CRITICAL else f"{told} (a warning)"
