"""What `waymark identity explain` says of links that are in force no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import project_of
from reference import Event, Supposed, minutes
from warehouse_double import WarehouseDouble

from waymark.pipeline.explain import explain

PHONE, TABLET, ANN = ("anonymous_id", "web:a"), ("anonymous_id", "web:b"), ("user_id", "shop:1")
ENDS = ("anonymous_id:web:a", "anonymous_id:web:b")
ENDED = [Supposed((PHONE, TABLET), 0.995, minutes(20), minutes(50)), Supposed((PHONE, TABLET), 0.6, minutes(50), None)]


def explained(double: WarehouseDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return explain(project_of(double, tmp_path, monkeypatch), *ENDS).lines[2:]


def test_a_probable_link_that_ended_is_told_as_ended_and_not_as_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = WarehouseDouble()
    double.supposed = ENDED
    double.run([Event(f"{1:032x}", minutes(0), 1, (PHONE,)), Event(f"{2:032x}", minutes(9), 2, (TABLET,))])
    persons, evidence, way, against = explained(double, tmp_path, monkeypatch)
    assert (persons, evidence, against) == ("Two persons.", "There is evidence that is not in force:", "No negative evidence.")
    assert "probability 0.995" in way and way.endswith("[no longer holds since 2024-01-01 00:50:00]")
    double.supposed = [*ENDED[:1], Supposed((PHONE, TABLET), 0.97, minutes(70), None)]
    double.run([])
    assert explained(double, tmp_path, monkeypatch)[0] == "One person, by the surest way with probability 0.97:"


def test_a_probable_link_that_ended_is_no_way_between_identifiers_that_others_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = WarehouseDouble()
    double.supposed = ENDED
    double.run([Event(f"{1:032x}", minutes(0), 1, (PHONE, ANN)), Event(f"{2:032x}", minutes(9), 2, (TABLET, ANN))])
    first, *ways, against = explained(double, tmp_path, monkeypatch)
    assert first == "One person, by the surest way with probability 0.9801:"
    assert len(ways) == 2 and all("user_id:shop:1" in line for line in ways) and against == "Nothing speaks against it."
