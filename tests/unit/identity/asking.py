"""A project folder whose warehouse is a double: what the commands of `waymark identity` ask."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from warehouse_double import WarehouseDouble

from waymark.core.settings import Project, load_project
from waymark.pipeline import explain, operator_words
from waymark.privacy import Secret


def project_of(double: WarehouseDouble, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in `folder`, of which the commands believe that its last run left what the double holds."""
    one_account = str(double.one_account).lower()
    (folder / "waymark.yml").write_text(
        f"name: test\nsources: {{shop: {{mapping: shop.yml, files: ['*.csv']}}}}\nidentity: {{max_neighbours: {double.limit}, one_account: {one_account}}}\n"
    )
    project = load_project(folder)
    project.home.ensure()
    run = SimpleNamespace(secret=Secret(b"identity test secret"), mappings={}, open_warehouse=lambda: nullcontext(double.connection))
    for module in (explain, operator_words):
        monkeypatch.setattr(module, "require_ended_run", lambda _: run)
    monkeypatch.setattr(operator_words, "links_of", lambda _: double._link)
    return project
