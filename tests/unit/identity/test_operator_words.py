"""Words are numbered by all that were ever said, and told before they are said."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import project_of
from reference import Event, Said, minutes
from warehouse_double import WarehouseDouble

from waymark.pipeline.operator_words import announce, say

DEVICE, ANN = ("anonymous_id", "web:a"), ("user_id", "shop:1")
PAIR = ("anonymous_id:web:a", "user_id:shop:1")


def test_a_word_whose_file_is_gone_is_counted_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = WarehouseDouble()
    double.run([Event(f"{1:032x}", minutes(0), 1, (DEVICE, ANN))])
    project = project_of(double, tmp_path, monkeypatch)
    first = announce(project, "operator_split", *PAIR)
    path = say(project, first, because="a test")
    assert announce(project, "operator_merge", *PAIR).word.ordinal == 2, "it waits"
    double.say(Said(first.word.event_id, first.word.occurred_at, first.word.ordinal, False, (DEVICE, ANN)))
    double.run([])
    assert announce(project, "operator_merge", *PAIR).word.ordinal == 2, "it was taken in"
    path.unlink()
    taken_back = announce(project, "operator_merge", *PAIR)
    assert taken_back.word.ordinal == 2 and taken_back.word.event_id != first.word.event_id
    assert [(change.identifiers, change.why) for change in taken_back.changes] == [(1, "operator_merge")]
    assert say(project, taken_back, because="a test").name == "000002.ndjson"
