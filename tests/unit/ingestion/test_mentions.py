"""An erased person's address, number or id is found in a text in whatever form it stands there, and nobody else's is."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from tests.unit.ingestion.conftest import SECRET, Source
from waymark.ingestion import load_mapping
from waymark.ingestion.erased import Erased
from waymark.privacy import identifier_message, redact_text

ANN = "ann.o'hara+news@example.org"
IDENTIFIERS = [
    ("email", SECRET.hmac(identifier_message("email", "ann@example.org"))), ("email", SECRET.hmac(identifier_message("email", ANN))),
    ("phone", SECRET.hmac(identifier_message("phone", "+41 44 123 45 67"))), ("user_id", "shop:ann-7"),
    ("user_id", f"shop:{SECRET.hmac(identifier_message('email', 'jürg@bücher.example'))}"),
]  # fmt: skip
MASKED = [
    "Thanks ann@example.org!", "*ann@example.org*", "`ann@example.org`", "_ann@example.org_", "ask ann@example.org.", "Ann@Example.ORG", "<ann@example.org>",
    "mailto:ann@example.org?subject=x", "https://shop.example/?u=ann%2540example.org&x=1", "https://shop.example/?u=ann%40example.org", "~~ann@example.org~~",
    '{"contact":"ann\\u0040example.org"}', '{"note":"from\\nann@example.org"}', '{"note":"\\u003cann@example.org\\u003e"}', "mail#ann@example.org",
    "mailto%3Aann%40example.org%3Fsubject", "q=mail+to%3A+ann%40example.org", "ann@example.org.Thanks", "ann@example.org-Team",
    "bob@example.org*ann@example.org", 'a "quoted ann@example.org" \\', "reach jürg@bücher.example!",
    f"write to {ANN}.", f"write to '{ANN}'", "tel=%2B41%2044%20123%2045%2067", "call +41 44 123 45 67 10-12h", "+41441234567,5",
]  # fmt: skip
MORE = ["j%C3%BCrg%40b%C3%BCcher.example", "0041441234567", "call 0041 (0)44 123 45 67", '{"a":"j\\u00fcrg@b\\u00fccher.example"}']
IDS = ["visitor ann-7 was here", '{"login":"ann-7"}', "(ann-7)", "login=ann%2D7", "ann-7!"]
NOBODY = [
    "ann", "bob@example.org", "dann@example.org", "ann@example.organisation", "ann@other.example.org", "+41 44 123 45 68", "ann-77", "100 % sure \\ no", "%",
    "\\", "", "%FF%zz \\ud83d", "+4144123456", "joann-7",
]  # fmt: skip


def found(source: Source, texts: Sequence[str], *, ids: bool) -> list[str]:
    erased = Erased.looking_for(source.connection, source.home, SECRET, IDENTIFIERS)
    table = pa.table({"_wm_file": pa.array([1] * len(texts), pa.int32()), "_wm_row": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts)})
    source.connection.register("texts", table)
    rows = source.rows(f"select _wm_row from ({erased.mentioning('from texts', [load_mapping(source.folder / 'shop.yml')], ids=ids)}) order by 1")
    return [texts[int(str(row))] for (row,) in rows]


def test_every_form_that_the_door_masks_is_found(source: Source) -> None:
    assert [text for text in MASKED if redact_text(text) == text] == []
    assert found(source, MASKED + MORE + IDS + NOBODY, ids=False) == MASKED + MORE


def test_of_what_cannot_be_read_ids_are_found_as_well(source: Source) -> None:
    assert found(source, MASKED + MORE + IDS + NOBODY, ids=True) == MASKED + MORE + IDS


@pytest.mark.parametrize("kept", ["user_id", "phone"])
def test_only_what_somebody_is_known_by_is_looked_for(source: Source, kept: str) -> None:
    erased = Erased.looking_for(source.connection, source.home, SECRET, [pair for pair in IDENTIFIERS if pair[0] == kept])
    source.connection.execute("create temp table texts as select 1 as _wm_file, 1::bigint as _wm_row, 'ann@example.org' as text")
    assert source.rows(erased.mentioning("from texts", [load_mapping(source.folder / "shop.yml")], ids=False)) == []
