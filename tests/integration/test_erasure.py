"""A person who is erased is nowhere, comes back with no old file, and leaves what there would be if they had never been."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stepwise import Row, Stepwise, assert_equal
from waymark.core.errors import StorageError, WaymarkError
from waymark.core.home import Home
from waymark.core.quoting import literal
from waymark.core.warehouse import connect, rows
from waymark.pipeline import operator_words
from waymark.pipeline.erasure import ask, go_on
from waymark.pipeline.subject_export import Export, export
from waymark.pipeline.subjects import Subject, named_by_others, subjects_of
from waymark.privacy.audit import AuditLog
from waymark.privacy.requests import Request, audited_digest, problems, requests, unfinished
from waymark.privacy.subjects import SubjectReferences

pytestmark = pytest.mark.prove

WEB: dict[str, Any] = {
    "format": "ndjson",
    "columns": {
        "event_id": "id", "event_type": "type", "occurred_at": "at", "anonymous_id": {"column": "visitor", "optional": True},
        "user_id": {"column": "user", "optional": True}, "order_id": {"column": "order", "optional": True}, "text": {"column": "note", "optional": True},
    },
    "identifiers": {"email": {"column": "mail", "optional": True}},
}  # fmt: skip
SETTINGS: dict[str, Any] = {"learning": {"min_positives": 20}, "identity": {"max_neighbours": 3}}
ANN, BOB = "ann.of.the.hill@example.org", "bob@example.org"


def event(number: int, day: int, kind: str = "page_viewed", **told: str) -> Row:
    return {"id": f"id-of-event-{number:04d}", "type": kind, "at": f"2026-03-{day:02d}T10:00:00Z", **told}


# Hers stand at the end of each file, so that no other record's number changes; none is the last by time.
OTHERS: dict[str, list[Row]] = {
    "web/a": [
        event(1, 1, visitor="cookie-of-bob", mail=BOB), event(2, 2, visitor="kiosk-cookie", user="carl-the-customer"),
        event(3, 3, visitor="kiosk-cookie", user="dora-the-customer"),
        event(4, 3, visitor="kiosk-cookie", user="emil-the-customer"), event(8, 3, visitor="kiosk-cookie", user="fifi-the-customer"),
        event(5, 4, "order_completed", visitor="cookie-of-bob", order="O-2"),
    ],
    "web/b": [event(6, 20, visitor="cookie-of-bob", note=f"tell {ANN} that I was here"), event(7, 21, user="carl-the-customer")],
    "web/c": [
        event(9, 23, visitor="cookie-of-bob", shared="https://shop.example/?ref=cookie-of-ann-two"),
        {"id": "id-of-event-0029", "type": "page_viewed", "at": "some day", "visitor": "cookie-of-bob"},
    ],
    "erp/a": [event(50, 6, "order_shipped", order="O-2"), event(51, 22, "order_shipped", order="O-9")],
}  # fmt: skip
HERS: dict[str, list[Row]] = {
    "web/a": [
        event(11, 2, visitor="cookie-of-ann-one", mail=ANN), event(12, 3, visitor="kiosk-cookie", user="ann-the-customer"),
        event(13, 5, "order_completed", user="ann-the-customer", order="O-1", mail=ANN), event(11, 2, visitor="cookie-of-ann-one", mail=ANN),
        {"id": "id-of-event-0019", "type": "page_viewed", "at": "some day", "visitor": "cookie-of-ann-one"},
    ],
    "web/b": [
        event(14, 9, visitor="cookie-of-ann-two", user="ann-the-customer"), event(15, 10, visitor="cookie-of-ann-two", user="carl-the-customer"),
    ],
    # The last one is Bob's, and goes, because it says an id of hers with its namespace.
    "web/c": [event(16, 11, visitor="cookie-of-ann-one"), event(17, 22, visitor="cookie-of-bob", note="as web:cookie-of-ann-two told")],
    "erp/a": [event(52, 7, "order_shipped", order="O-1")],
}  # fmt: skip
CALLED = f"takeout_{ANN}"  # a copy of what another tool holds about her, called as such copies are
WORDS = (
    ANN, CALLED, "cookie-of-ann-one", "cookie-of-ann-two", "ann-the-customer", *(f"id-of-event-{number:04d}" for number in (*range(11, 18), 19, 52)),
)  # fmt: skip


def land(project: Stepwise, file: str, records: list[Row], *, packed: bool = False) -> Path:
    source, _, name = file.partition("/")
    path = project.home.landing / source / f"{name}.ndjson{'.gz' if packed else ''}"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def project_in(folder: Path) -> Stepwise:
    return Stepwise(folder, {"erp": WEB, "web": WEB}, SETTINGS, {"erp": ["{landing}/*"], "web": ["{landing}/*"]})


def everything(home: Home) -> Iterator[tuple[str, str]]:
    """Another way than the scan: (where, text) of all that stands in the home's files, unpacked, and of every row of every table."""
    for path in sorted(home.root.rglob("*")):
        if not path.is_file():
            continue
        content, where = path.read_bytes(), str(path.relative_to(home.root))
        yield f"{where}, its name", where
        yield where, content.decode("latin-1")
        if content[:2] == b"\x1f\x8b":
            yield where, gzip.decompress(content).decode("latin-1")
        with connect() as connection:
            relations = [f"read_parquet({literal(path)})"] if content[:4] == b"PAR1" else []
            if content[8:12] == b"DUCK":
                connection.execute(f"attach {literal(path)} as db (read_only)")
                named = rows(connection, "select schema_name, table_name from duckdb_tables() where database_name = 'db'")
                relations = [f'db."{schema}"."{table}"' for schema, table in named]
            for relation in relations:
                yield f"{where} {relation}", "\n".join(str(row) for row in rows(connection, f"from {relation}"))
        if content[:15] == b"SQLite format 3":
            database = sqlite3.connect(path)
            for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                yield f"{where} {table}", "\n".join(map(str, database.execute(f'select * from "{table}"')))
            database.close()


def places(home: Home, words: tuple[str, ...]) -> dict[str, set[str]]:
    """Where each word stands."""
    found: dict[str, set[str]] = {word: set() for word in words}
    for where, text in everything(home):
        for word in words:
            if word in text:
                found[word].add(where)
    return found


class Erased:
    """A project before and after, and what was written down in between."""

    def __init__(self, project: Stepwise, folder: Path) -> None:
        self.project = project
        with project.project.home.writer_lock():
            (self.subject,) = subjects_of(project.project, [f"email:{ANN}"])
            self.words = (*WORDS, *self.subject.customers, *(value for _, value in self.subject.identifiers))
            self.others = named_by_others(project.project, [self.subject])
            self.before = places(project.home, self.words)
            self.reference = SubjectReferences(project.home).of(self.subject.customers[:1])[0]
            self.exported: Export = export(project.project, self.subject, folder)
            self.old = {path.name + str(path.parent.name): path.read_bytes() for path in project.home.landing.rglob("*") if path.is_file()}
            self.request: Request = go_on(project.project, ask(project.project, [self.subject], because="request 17", clear=[ANN]))


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> Erased:
    folder = tmp_path_factory.mktemp("erasure")
    project = project_in(folder / "project")
    land(project, "erp/a", OTHERS["erp/a"] + HERS["erp/a"])
    land(project, "web/a", OTHERS["web/a"] + HERS["web/a"], packed=True)
    project.run(checks=False)
    land(project, "web/b", OTHERS["web/b"] + HERS["web/b"])
    called = land(project, f"web/{CALLED}", OTHERS["web/c"] + HERS["web/c"])
    project.run(checks=False)
    with project.project.home.writer_lock(), pytest.raises(WaymarkError, match=rf"{CALLED}.ndjson: called after one of the persons.*\n  Rename or remove"):
        ask(project.project, subjects_of(project.project, [f"email:{ANN}"]), because="request 16", clear=[ANN])
    called.rename(called.with_name("c.ndjson"))
    with project.project.home.writer_lock():
        word = operator_words.announce(project.project, "operator_merge", "anonymous_id:web:cookie-of-ann-one", "anonymous_id:web:cookie-of-ann-two")
        operator_words.say(project.project, word, because="she said so")
    project.run(checks=False)
    return Erased(project, folder / "export")


def test_she_stood_in_every_store_before(erased: Erased) -> None:
    identifier = next(value for kind, value in erased.subject.identifiers if kind == "anonymous_id" and "one" in value)
    stores = {where.split("/")[0].split(" ")[0] for where in erased.before[identifier]}
    assert {"lake", "warehouse.duckdb", "outputs.duckdb", "published"} <= stores
    assert any(where.startswith("landing/") for where in erased.before[ANN])
    assert any(where.startswith("lake/quarantine") for where in erased.before["id-of-event-0019"])


def test_she_is_nowhere_after(erased: Erased) -> None:
    assert {word: where for word, where in places(erased.project.home, erased.words).items() if where} == {}
    assert list((erased.project.home.landing / "waymark_operator").glob("*.ndjson")) == []


def test_what_is_left_is_what_would_be_without_her(erased: Erased, tmp_path: Path) -> None:
    without = project_in(tmp_path / "without")
    for file, records in OTHERS.items():
        land(without, file, records)
    without.run(checks=False)
    assert_equal(erased.project, without)


def test_an_order_and_a_shared_device_stay_with_those_whose_they_are(erased: Erased) -> None:
    left = {str(event) for (event,) in erased.project.rows("select source_event_id from marts.fct_events")}
    assert left == {record["id"] for records in OTHERS.values() for record in records if record["at"] != "some day"}


def test_files_are_written_anew_and_the_log_knows_them(erased: Erased) -> None:
    copies = erased.request.certificate["landing"]
    assert isinstance(copies, list)
    struck = {f"{copy['source']}/{Path(copy['file']).name.split('.')[0]}": copy["struck"] for copy in copies}
    assert struck == {"web/a": 5, "web/b": 3, "web/c": 3, "erp/a": 1}, "a note that mentions her, or her id, goes from the copy of the file, too"
    assert all(copy["new_digest"] not in ("", copy["old_digest"]) for copy in copies)
    known = dict(erased.project.rows("select file, file_digest from raw.ingestion_log where status <> 'refused'"))
    assert len([file for file in known if "takeout_erased-" in file]) == 1, "what the log says of the file that was called after her"
    assert erased.project.rows("select count(*) from raw.quarantine where contains(file, 'takeout_erased-')") == [(1,)], "Bob's refused row in it stays"
    assert all(known[copy["file"]] == copy["new_digest"] for copy in copies)


def test_old_files_bring_nobody_back(erased: Erased) -> None:
    project = erased.project
    before = project.rows("select event_id from marts.fct_events order by all")
    for number, (name, content) in enumerate(sorted(erased.old.items())):
        if "operator" not in name:
            folder = "erp" if name.endswith("erp") else "web"
            (project.home.landing / folder / f"again-{number}.ndjson{'.gz' if '.gz' in name else ''}").write_bytes(content)
    project.run(checks=False)
    found = {word: {where for where in places if not where.startswith("landing/")} for word, places in places(project.home, erased.words).items()}
    assert {word: where for word, where in found.items() if where} == {}
    assert project.rows("select event_id from marts.fct_events order by all") == before


def test_what_is_shared_is_told_before(erased: Erased) -> None:
    assert erased.subject.shared == ("anonymous_id:web:kiosk-cookie",) and "it stays" in erased.subject.line()
    assert erased.others == (1, 1), "Carl logged in on her device: what he did there names it"
    assert erased.subject.line().startswith("2 anonymous_id, 1 email, 1 user_id; 5 events of web")


def test_the_certificate_holds_and_says_what_was_done(erased: Erased) -> None:
    (request,) = requests(erased.project.home)
    assert unfinished(erased.project.home) is None and request == erased.request
    certificate = request.certificate
    assert certificate["events"] == {"erp": 1, "waymark_operator": 1, "web": 7} and certificate["refused_rows"] == 1
    assert certificate["outside"] == [] and certificate["because"] == "request 17"
    assert problems(erased.project.home, request, audited_digest(erased.project.home, request.request_id)) == []
    assert AuditLog(erased.project.home).verify().problems == ()
    assert SubjectReferences(erased.project.home).known(erased.subject.customers[0]) is None


def test_what_was_handed_out_is_what_was_erased(erased: Erased) -> None:
    document = json.loads(erased.exported.document.read_text())
    hers = {f"id-of-event-{number:04d}" for number in (11, 12, 13, 14, 15, 16, 52)}
    assert {event["source_event_id"] for event in document["events"]} == hers | {"word-000001"}
    together = {(link["one"], link["other"]) for link in document["links"]["seen_together"]}
    assert ("anonymous_id:web:cookie-of-ann-one", "anonymous_id:web:cookie-of-ann-two") in {tuple(sorted(pair)) for pair in together}
    assert any("anonymous_id" in pair for pair in together), "of the kiosk's cookie the type alone is told"
    assert document["compared"] == [] and "carl-the-customer" not in json.dumps(document["links"])
    assert [row["row_number"] for row in document["refused_rows"]] == [11]
    assert sum(file["records"] for file in document["files"]) == 10
    assert {"marts.dim_customers", "marts.fct_events", "marts.fct_sessions", "marts.dim_identity_clusters"} <= set(document["tables"])
    assert erased.exported.document.stat().st_mode & 0o777 == 0o600
    page = erased.exported.page.read_text()
    assert "What is held about you" in page and "order_completed" in page and "<svg" in page


def test_who_is_shared_by_many_is_nobody_and_unknown_ones_need_a_whole_name(erased: Erased, tmp_path: Path) -> None:
    project = erased.project.project
    with project.home.writer_lock():
        with pytest.raises(WaymarkError, match="shared by too many"):
            subjects_of(project, ["anonymous_id:web:kiosk-cookie"])
        (kiosk,) = subjects_of(project, ["anonymous_id:web:kiosk-cookie"], shared=True)
        assert kiosk.identifiers == (("anonymous_id", "web:kiosk-cookie"),)
        with pytest.raises(WaymarkError, match="no event that counts"):
            subjects_of(project, ["user_id:nobody"])
        (alone,) = subjects_of(project, ["email:nobody@example.org"])
        assert alone == Subject("email:nobody@example.org", alone.identifiers) and len(alone.identifiers[0][1]) == 64
        with pytest.raises(WaymarkError, match="needs a reason"):
            ask(project, [alone], because=" ")
        with pytest.raises(StorageError, match="must not lie in the home"):
            export(project, alone, project.home.root / "out")


def test_what_has_the_id_of_something_that_stays_is_no_trace(tmp_path: Path) -> None:
    """An event with a content of hers and one of somebody else's, and a session that she joined on a device of all: both stay, under the ids that they had."""
    logins = [event(number, number, visitor="kiosk-cookie", user=f"customer-number-{number}") for number in (1, 2, 3, 4)]
    kiosk = {**event(20, 9), "visitor": "kiosk-cookie"}
    hers_at_kiosk = {**event(21, 9), "at": "2026-03-09T10:05:00Z", "visitor": "kiosk-cookie", "user": "ann-the-customer"}
    hers = [event(30, 11, "order_completed", mail=ANN, order="O-30"), event(31, 14, "order_completed", mail=ANN, order="O-31")]
    bobs = [event(30, 12, "order_completed", mail=BOB, order="O-40"), event(31, 13, "order_completed", mail=BOB, order="O-41")]
    stays = [*logins, kiosk, event(40, 20, "order_shipped", order="O-40"), event(41, 20, "order_shipped", order="O-41")]
    her_login = event(50, 10, user="ann-the-customer", mail=ANN)
    project, without = project_in(tmp_path / "project"), project_in(tmp_path / "without")
    land(project, "web/a", [*stays, *bobs])
    land(project, "web/b", [hers_at_kiosk, her_login, *hers, event(51, 16, "order_shipped", order="O-30"), event(52, 16, "order_shipped", order="O-31")])
    land(without, "web/a", [*stays, *bobs])
    project.run(checks=False)
    without.run(checks=False)
    assert project.rows("select count(*) from raw.event_conflicts") == [(4,)]
    (session,) = project.rows("select session_id, customer_id from marts.fct_sessions where started_at = '2026-03-09 10:00:00'")
    assert session[1] is not None, "the session counts as hers, as nobody else in it is known"
    with project.project.home.writer_lock():
        (subject,) = subjects_of(project.project, [f"email:{ANN}"])
        request = go_on(project.project, ask(project.project, [subject], because="request 18", clear=[ANN]))
    assert request.is_done
    assert_equal(project, without)
    assert project.rows(f"select customer_id from marts.fct_sessions where session_id = '{session[0]}'") == [(None,)]
    words = (ANN, "ann-the-customer", *subject.customers, *(value for _, value in subject.identifiers))
    assert {word: where for word, where in places(project.home, words).items() if where} == {}
