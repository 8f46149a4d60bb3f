"""Persons who were erased, and lines that name them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.unit.ingestion.conftest import SECRET, Source
from waymark.ingestion.erased import Erased
from waymark.privacy import identifier_message
from waymark.privacy.tombstones import first_erasure_key, tombstone

HEADER = "id,at,what,visitor,login,url,referrer,order,amount,details,note,mail,tel"
LANDING = "{landing}/*"
ANN, BOB = "ann@example.org", "bob@example.org"


def line(number: int, *, at: str = "2026-03-01T10:00:00Z", **told: str) -> str:
    fields = {"visitor": "", "login": "", "order": "", "note": "", "mail": "", "tel": ""} | told
    return "e{0},{at},page_viewed,{visitor},{login},,,{order},,,{note},{mail},{tel}".format(number, at=at, **fields)


def hashed(kind: str, text: str) -> str:
    return SECRET.hmac(identifier_message(kind, text))


def bury(source: Source, identifiers: Iterable[tuple[str, str]], until: str = "2026-11-01 00:00:00") -> Erased:
    key = first_erasure_key(source.home, buried=False)
    for kind, value in identifiers:
        source.connection.execute("insert into raw.tombstones values (?, ?, ?::timestamp, 'e_1')", [tombstone(key, kind, value), kind, until])
    erased = Erased.open(source.connection, source.home, SECRET)
    assert erased is not None
    return erased


def put(source: Source, name: str, lines: list[str]) -> Path:
    path = source.put(name, "\n".join([HEADER, *lines]) + "\n")
    source.ingest()
    return path


def kept(source: Source) -> list[object]:
    return [event for (event,) in source.events("source_event_id", "source_event_id")]


ANNS = [("email", hashed("email", ANN)), ("anonymous_id", "shop:cookie-of-ann"), ("user_id", "shop:ann-7"), ("phone", hashed("phone", "+41 44 123 45 67"))]
