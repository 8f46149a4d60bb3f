"""Shared by all tests: no telemetry, no secret from outside, and where the real data sets are."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.proof.report import ProofReport
from waymark.core.settings import quiet_libraries

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
quiet_libraries()


SHARED_RUNS = re.compile(r"\b(demo|shop|rees46): Ran\b")  # fixtures that cost a whole run, as a test asks for them


# Long tests that share nothing with each other: each may go to whichever process is free.
SHARING_NOTHING = {"tests/integration/test_faults.py", "tests/proof/test_mutations.py"}


def group_of(nodeid: str) -> str:
    """What must stay in one process: a test's file, or all files that share a run; a test by itself in a file where nothing is shared."""
    file = nodeid.split("::", maxsplit=1)[0]
    return nodeid if file in SHARING_NOTHING else _group_of_file(file)


@cache
def _group_of_file(file: str) -> str:
    found = SHARED_RUNS.search((REPOSITORY / file).read_text(encoding="utf-8"))
    return found.group(1) if found else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two processes share the tests file by file, but what is run once for several files stays in one of them.

    pytest-xdist 3.8 carries its group marks in node ids that pytest 9.2 no longer lets it change, so they would be lost without a word.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByGroup(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(ProofReport(), "proof_report")


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
