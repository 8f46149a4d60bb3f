"""Shared by all tests: no telemetry, no secret from outside, and where the real data sets are."""

from __future__ import annotations

from pathlib import Path

import pytest

from waymark.core.settings import telemetry_off

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
telemetry_off()


@pytest.hookimpl(tryfirst=True)  # before the distributor reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the tests file by file, but what is run once for several files stays in one of them."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        group = "demo" if "demo" in fixtures else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAYMARK_HOME", "WAYMARK_SECRET", "WAYMARK_PROJECT", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shared_data() -> Path:
    """The folder of public data sets beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the public data sets are not here ({SHARED_DATA.name} beside the checkout)")
    return SHARED_DATA
