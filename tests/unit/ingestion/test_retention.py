"""What is too old leaves the lake, every removal is counted, nothing else changes, whatever came when and wherever a crash was."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.unit.ingestion.conftest import SECRET, MakeSource, Source
from waymark.core.settings import EVERY_TYPE, OPERATOR_SOURCE, load_project
from waymark.ingestion import ingest_source, load_mapping, prepare_raw, removal, remove_expired, restate_clock
from waymark.privacy.audit import AuditLog

HEADER = "id,at,what,visitor,note"
KEPT = {"page_viewed": 10, "searched": 3}
START = datetime(2026, 3, 1, 10, tzinfo=UTC)


def line(event: int, day: int, kind: str = "page_viewed", note: str = "") -> str:
    return f"e{event},{START + timedelta(days=day):%Y-%m-%dT%H:%M:%SZ},{kind},v{event % 7},{note}"


def put(source: Source, name: str, lines: list[str]) -> None:
    source.put(name, "\n".join([HEADER, *lines]) + "\n")
    source.ingest()


def nothing() -> None:
    """No table is built here that would have to be made anew."""


def remove(source: Source, and_then: Callable[[], None] = nothing) -> int:
    removals = remove_expired(source.connection, source.home, ["shop"], KEPT, and_then=and_then)
    return sum(removal.rows for removal in removals)


def state(source: Source) -> tuple[object, ...]:
    registered = source.rows("select path, rows, bytes from raw.lake_files order by path")
    on_disk = sorted(str(path.relative_to(source.home.root)) for path in source.home.raw_lake.rglob("*.parquet"))
    assert [path for path, _, _ in registered] == on_disk
    return registered, source.events("*"), source.rows("from raw.removals order by all"), source.rows("from raw.event_index order by all")


def test_events_leave_by_type_and_whole_days_and_the_tally_holds(source: Source) -> None:
    put(source, "a.csv", [line(day, day) for day in range(20)] + [line(100 + day, day, "searched") for day in range(20)] + [line(200, 0, "order_completed")])
    now = source.value("select data_now from raw.run_clock")
    assert remove(source) == 9 + 16
    days = source.rows("select event_type, min(event_date), count(*) from raw.shop_events group by all order by all")
    assert days == [("order_completed", date(2026, 3, 1), 1), ("page_viewed", date(2026, 3, 10), 11), ("searched", date(2026, 3, 17), 4)]
    source.assert_conserved()
    logged = source.rows("select event_type, rows_removed, reason, older_than, data_now = (select data_now from raw.run_clock) from raw.removals order by all")
    assert logged == [("page_viewed", 9, "retention", date(2026, 3, 10), True), ("searched", 16, "retention", date(2026, 3, 17), True)]
    assert source.value("select count(*) from raw.event_index") == 16
    before = state(source)
    assert remove(source) == 0 and state(source) == before, "what is done is done"
    restate_clock(source.connection, ["shop"])
    assert source.value("select data_now from raw.run_clock") == now
    entries = [entry for _, entry in AuditLog(source.home).lines() if entry]
    assert [(entry.action, entry.details["rows"]) for entry in entries] == [("retention", 25)]


def test_files_from_before_a_column_was_made_are_thinned_too(source: Source) -> None:
    put(source, "a.csv", [line(0, 0, "searched"), line(100, 0, "order_completed")])
    put(source, "b.csv", [line(9, 9, "searched")])
    for path, _ in source.rows("select path, rows from raw.lake_files"):
        file = source.home.root / str(path)
        source.connection.execute(f"copy (select * exclude (consent_act) from read_parquet('{file}')) to '{file}' (format parquet)")
        source.connection.execute(f"update raw.lake_files set bytes = {file.stat().st_size} where path = '{path}'")
    source.connection.execute("drop table raw.lake_columns")
    source.prepare()
    assert remove(source) == 1
    assert source.events("event_type, consent_act", "occurred_at") == [("order_completed", None), ("searched", None)]
    source.assert_conserved()


def test_what_was_received_late_holds_the_clock_after_it_left(make_source: MakeSource) -> None:
    """An old event that arrives last tells the time; when it leaves, the time must not go back, or the tables would depend on when it left."""
    mapping = "source: shop\nformat: csv\ncolumns: {event_id: id, occurred_at: at, received_at: got, event_type: what, anonymous_id: visitor}\n"
    source = make_source(mapping)
    lines = ["e1,2026-03-20T10:00:00Z,2026-03-20T10:00:00Z,page_viewed,v", "e2,2026-03-01T10:00:00Z,2026-03-21T10:00:00Z,page_viewed,v"]
    source.put("a.csv", "\n".join(["id,at,got,what,visitor", *lines]) + "\n")
    source.ingest()
    assert remove(source) == 1
    restate_clock(source.connection, ["shop"])
    assert source.value("select data_now from raw.run_clock") == datetime(2026, 3, 21, 10)


def test_an_old_event_that_comes_again_leaves_again(source: Source) -> None:
    put(source, "a.csv", [line(1, 0), line(2, 20)])
    assert remove(source) == 1
    put(source, "b.csv", [line(1, 0), line(2, 20), line(3, 20)])
    assert source.log("rows_accepted, rows_duplicate") == [(2, 0), (2, 1)]
    assert remove(source) == 1
    assert source.events("source_event_id") == [("e2",), ("e3",)]
    source.assert_conserved()


def test_an_operators_words_stay_whatever_their_age(source: Source) -> None:
    """A word that left would count as one that waits for the next run, for ever: nobody could be exported or erased any more."""
    folder = source.home.landing / OPERATOR_SOURCE
    folder.mkdir(parents=True)
    details = {"node_a": "a" * 16, "node_b": "b" * 16, "ordinal": 1}
    word = {"word_id": "word-000001", "said": "identity_split_declared", "at": START.isoformat(), "details": details}
    (folder / "000001.ndjson").write_text(json.dumps(word) + "\n")
    project = load_project(source.folder)
    mapping = load_mapping(project.settings.sources[OPERATOR_SOURCE].mapping)
    prepare_raw(source.connection, {OPERATOR_SOURCE: mapping, "shop": load_mapping(source.folder / "shop.yml")}, source.home)
    ingest_source(project, OPERATOR_SOURCE, source.connection, SECRET)
    put(source, "a.csv", [line(1, 0), line(2, 20)])
    (gone,) = remove_expired(source.connection, source.home, ["shop", OPERATOR_SOURCE], {EVERY_TYPE: 10}, and_then=nothing)
    assert (gone.source, gone.rows) == ("shop", 1)
    assert source.rows(f"select event_type from raw.{OPERATOR_SOURCE}_events") == [("identity_split_declared",)]


def expected(contents: list[tuple[int, int, str]], today: int) -> dict[str, tuple[int, str]]:
    """By brute force: of the contents that are young enough, the earliest of each event."""
    found: dict[str, tuple[int, str]] = {}
    for event, day, kind in contents:
        if day >= today - KEPT.get(kind, 1_000):
            found[f"e{event}"] = min(found.get(f"e{event}", (day, kind)), (day, kind))
    return found


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 30))])
def test_whatever_comes_in_whatever_order_what_is_left_is_what_is_young_enough(seed: int, make_source: MakeSource) -> None:
    """Events with several contents, doubled and late, in batches with a removal after each; the same in one batch, with one removal."""
    chance = random.Random(seed)
    contents = sorted({(chance.randrange(25), chance.randrange(30), chance.choice(["page_viewed", "searched", "order_completed"])) for _ in range(60)})
    one_of_each_time = {(event, day): (event, day, kind) for event, day, kind in contents}  # of equal times the digest decides, which a day does not tell
    contents = [*one_of_each_time.values(), (99, 30, "order_completed")]
    arrivals = contents + chance.sample(contents, 20)
    chance.shuffle(arrivals)
    stepwise, at_once = make_source(), make_source()
    cut = sorted(chance.sample(range(1, len(arrivals)), 3))
    for number, (first, last) in enumerate(zip([0, *cut], [*cut, len(arrivals)], strict=True)):
        put(stepwise, f"{number}.csv", [line(event, day, kind, "x") for event, day, kind in arrivals[first:last]])
        remove(stepwise)
        stepwise.assert_conserved()
        if chance.random() < 0.3:
            stepwise.prepare()
    put(at_once, "all.csv", [line(event, day, kind, "x") for event, day, kind in arrivals])
    remove(at_once)
    at_once.assert_conserved()
    columns = "source_event_id, date_diff('day', date '2026-03-01', event_date), event_type"
    for source in (stepwise, at_once):
        state(source)
        assert {str(event): (day, kind) for event, day, kind in source.events(columns)} == expected(contents, 30)


class Killed(BaseException):
    """What no handler of errors sees: the process is gone."""


@pytest.mark.parametrize("moment", ["files are written", "before the commit", "after the commit", "while old files go"])
def test_a_crash_anywhere_is_taken_up_by_the_next_run(moment: str, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    put(source, "a.csv", [line(event, event % 20, "searched" if event % 3 else "order_completed") for event in range(60)])
    before = state(source)

    def killed(*_: object) -> None:
        raise Killed

    def half(connection: object, home: object) -> None:
        path = source.value("select path from raw.replaced_files order by path limit 1")
        (source.home.root / str(path)).unlink()
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "files are written":
            patch.setattr(removal, "build_views", killed)
        elif moment == "after the commit":
            patch.setattr(removal, "remove_replaced", killed)
        elif moment == "while old files go":
            patch.setattr(removal, "remove_replaced", half)
        with pytest.raises(Killed):
            remove(source, killed if moment == "before the commit" else nothing)
    source.prepare()
    if moment in ("files are written", "before the commit"):
        assert state(source) == before
        remove(source)
    source.assert_conserved()
    state(source)
    assert source.value("select count(*) from raw.shop_events where event_type = 'searched' and event_date < date '2026-03-17'") == 0
    assert source.value("select count(*) from raw.replaced_files") == 0 and source.value("select sum(rows_removed) from raw.removals") == 32
    assert remove(source) == 0


def test_an_error_leaves_everything_as_it_was(source: Source) -> None:
    put(source, "a.csv", [line(event, event % 20) for event in range(60)])
    before = state(source)

    def refused() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        remove(source, refused)
    assert state(source) == before
