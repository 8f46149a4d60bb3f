"""`waymark identity` end to end: what is announced, said, stated by the next run, explained, taken back; and the end is as if it had always been so."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.conftest import Ran, waymark
from tests.integration.stepwise import Row, Stepwise, assert_equal
from waymark.core.errors import SettingsError, WaymarkError
from waymark.core.settings import OPERATOR_SOURCE, load_project
from waymark.core.warehouse import rows
from waymark.identity import restated_rows
from waymark.identity.changes import RESTATED
from waymark.pipeline import steps
from waymark.pipeline.explain import explain
from waymark.pipeline.operator_words import announce, say
from waymark.privacy.audit import AuditLog

MAPPING = {
    "format": "ndjson",
    "columns": {
        "event_id": "id", "event_type": "type", "occurred_at": "at", "anonymous_id": "device", "user_id": "user", "order_id": "order", "value": "value",
    },
    "currency": "USD",
    "identifiers": {"email": "email"},
}  # fmt: skip
ANN, BEN = "ann@example.org", "ben@example.org"


def record(number: int, at: str, **more: object) -> Row:
    return {"id": f"e{number:04d}", "type": "page_viewed", "at": f"2025-03-{at}:00", **more}


def log() -> list[Row]:
    """Ann on two devices and Ben on one, who once used her tablet; and strangers, whom nothing may touch."""
    rows = [
        record(1, "01 10:00", device="phone"), record(2, "01 10:05", device="phone", user="ann", email=ANN), record(3, "02 09:00", device="tablet"),
        record(4, "02 09:10", device="tablet", user="ann"), record(5, "03 09:00", device="laptop", user="ben", email=BEN),
        record(6, "04 08:00", device="tablet", email=BEN), record(7, "04 08:05", device="tablet", type="order_completed", order="o1", value=20),
        record(8, "05 12:00", device="laptop", user="ben", type="order_completed", order="o2", value=30),
    ]  # fmt: skip
    rows += [record(100 + number, f"{6 + number % 20:02d} 12:00", device=f"s{number}", user=f"s{number % 7}") for number in range(40)]
    return rows


def made(folder: Path, name: str, files: list[list[Row]]) -> Stepwise:
    """A project in which what two accounts share joins them: else there would be nothing to split."""
    project = Stepwise(folder / name, {"shop": MAPPING}, {"identity": {"one_account": False}})
    for number, records in enumerate(files):
        project.add("shop", f"f{number}", records)
    return project


def customers(project: Stepwise) -> dict[str, str]:
    return {str(value).split(":")[-1]: str(customer) for value, customer in project.rows("""
        select identifier_value, customer_id from identity.memberships join identity.nodes using (node_id) where identifier_type in ('anonymous_id', 'user_id')
    """)}  # fmt: skip


def owners(project: Stepwise) -> dict[tuple[str, str], str | None]:
    """Whose each event and each conversion is."""
    found = project.rows("""
        select 'marts.fct_events', event_id, customer_id from marts.fct_events
        union all select 'marts.fct_conversions', conversion_id, customer_id from marts.fct_conversions
    """)
    return {(str(table), str(key)): customer for table, key, customer in found}  # type: ignore[misc]


# Made anew by every run, whoever is who: clocks, and what is denied at the newest of them.
OF_EVERY_RUN = {"intermediate.int_run_clock", "intermediate.int_consent_denied_today"}


def contents(project: Stepwise) -> dict[str, Counter[object]]:
    """The rows of each table of the models, those included that an announcement does not speak of."""
    with project.reading() as connection:
        there = rows(connection, """
            select table_schema || '.' || table_name from information_schema.tables
            where table_schema in ('staging', 'intermediate', 'marts', 'features') and table_type = 'BASE TABLE'
        """)
        named = {str(table) for (table,) in there} - OF_EVERY_RUN
        assert len(named) > len(named & set(RESTATED)) > 10
        return {table: Counter(row for (row,) in rows(connection, f"select t::varchar from {table} t")) for table in sorted(named)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Stepwise:
    project = made(tmp_path_factory.mktemp("words"), "told", [log()])
    project.run(checks=False)
    return project


@pytest.mark.prove
def test_a_word_is_announced_stated_and_taken_back(told: Stepwise, tmp_path: Path) -> None:
    as_it_was = told.digests()
    assert customers(told)["laptop"] == customers(told)["phone"], "her tablet joined them"
    announcement = announce(told.project, "operator_split", f"email:{BEN}", "anonymous_id:tablet")
    assert told.digests() == as_it_was, "an announcement changes nothing"
    assert [(change.why, change.identifiers) for change in announcement.changes] == [("operator_split", 3)]
    before = announcement.changes[0].before
    path = say(told.project, announcement, because=f"two people, says {BEN}")
    assert BEN not in path.read_text() and OPERATOR_SOURCE in told.project.settings.sources

    owned, held = owners(told), contents(told)
    standing = {table: set(told.rows(f"select t::varchar from marts.{table} t")) for table in ("fct_sessions", "fct_events", "fct_journeys", "dim_customers")}
    told.run(stop_before="transform_marts", checks=False)
    with told.started().open_warehouse() as connection:
        assert restated_rows(connection) == announcement.rows
    told.run()
    now, holds = owners(told), contents(told)
    differing = Counter((was, now[row], row[0]) for row, was in owned.items() if was != now[row])
    assert differing == {(change.before, change.after, table): count for change in announcement.changes for table, count in change.rows_by_table.items()}
    assert differing[before, announcement.changes[0].after, "marts.fct_events"] > 1
    gone = {table: (were - holds[table]).total() for table, were in held.items()}
    assert {table: count for table, count in gone.items() if count > announcement.rows.get(table, 0)} == {}, "no row goes that is not among those stated again"
    after = customers(told)
    assert after["laptop"] == after["ben"] != after["phone"] == after["ann"] == after["tablet"]
    new = next(change.after for change in announcement.changes)
    for table, were in standing.items():
        assert {(before,), (new,)} <= set(told.rows(f"select customer_id from marts.{table}"))
        changed = were ^ set(told.rows(f"select t::varchar from marts.{table} t"))
        strangers = [row for row in changed if before not in str(row) and str(new) not in str(row) and OPERATOR_SOURCE not in str(row)]
        assert strangers == [], f"{table}: rows changed that were not announced"
    assert told.rows("select customer_before, customer_after, why, identifier_count from marts.fct_identity_restatements") == [
        (before, new, "operator_split", 3)
    ]
    assert told.rows(f"select is_counted, session_key_id, customer_id from intermediate.int_events_sessionized where source = '{OPERATOR_SOURCE}'") == [
        (False, None, None)
    ]
    lines = "\n".join(explain(told.project, "user_id:ann", f"email:{BEN}").lines)
    assert "Two persons." in lines and "refused" in lines and "operator_split since 2025-03-25" in lines

    # A world in which the word was there from the first run on is the same, row for row; so is a rebuild.
    always = made(tmp_path, "always", [log()])
    folder = always.home.landing / OPERATOR_SOURCE
    folder.mkdir(parents=True)
    (folder / path.name).write_bytes(path.read_bytes())
    always.run(checks=False)
    assert_equal(told, always)

    back = announce(told.project, "operator_merge", "anonymous_id:shop:tablet", f"email:{BEN}")
    assert [(change.before, change.after, change.why) for change in back.changes] == [(new, before, "operator_merge")]
    assert back.changes[0].rows_by_table == announcement.changes[0].rows_by_table
    say(told.project, back, because="one after all")
    told.run(checks=False)
    assert customers(told)["laptop"] == customers(told)["phone"]
    identical = {name: digest for name, digest in told.digests().items() if name in ("identity.memberships", "marts.fct_sessions", "marts.dim_customers")}
    assert identical == {name: as_it_was[name] for name in identical}
    told.run(full_refresh=True, checks=False)
    assert {name: told.digests()[name] for name in identical} == identical
    assert told.rows("select count(*) from marts.fct_identity_restatements") == [(2,)]


@pytest.mark.prove
def test_explain_tells_ways_and_what_is_unknown(told: Stepwise) -> None:
    lines = explain(told.project, "user_id:ann", "anonymous_id:phone").lines
    assert lines[2].startswith("One person, by the surest way with probability 0.99")
    assert "anonymous_id-user_id, probability 0.99, 1 events from 2025-03-01 10:05:00" in lines[3]
    assert explain(told.project, "user_id:ann", "user_id:s1").lines[2:] == ["Two persons. No evidence joins them.", "No negative evidence."]
    customer = customers(told)["s1"]
    line = explain(told.project, customer, "user_id:s1").lines[2]
    assert "One person" in line or "one identifier" in line
    for text, said in (("email:nobody@example.org", "no event that counts names this email"), ("ann", "TYPE:VALUE"), ("c_" + "0" * 24, "no customer ever")):
        with pytest.raises(WaymarkError, match=said) as caught:
            explain(told.project, text, "user_id:ann")
        assert "nobody@" not in str(caught.value)
    with pytest.raises(WaymarkError, match="both are"):
        announce(told.project, "operator_split", "user_id:ann", "user_id:shop:ann")


@pytest.mark.prove
def test_the_commands_tell_before_they_write(told: Stepwise) -> None:
    words = told.home.landing / OPERATOR_SOURCE
    there = sorted(words.glob("*")) if words.exists() else []
    pair = ("user_id:ann", "anonymous_id:phone", "--project", told.directory)
    dry = waymark("identity", "split", *pair, "--because", "a test", "--dry-run")
    assert dry.returncode == 0 and "identifiers" in dry.stdout and "the next run states again" in dry.stdout
    assert (sorted(words.glob("*")) if words.exists() else []) == there
    said = waymark("identity", "split", *pair, "--because", "a test of ann@example.org")
    assert said.returncode == 0 and said.stdout.startswith(dry.stdout.rstrip("\n"))
    (path,) = set(words.glob("*")) - set(there)
    details = json.loads(path.read_text())["details"]
    assert details["because"] == "a test of [email]" and details["operator"]
    *_, (_, logged) = AuditLog(told.home).lines()
    assert logged and logged.action == "override" and logged.details["word"] == "operator_split" and logged.subjects
    again = waymark("identity", "merge", *pair, "--because", "taken back", "--dry-run")
    assert "together with 1 that the next run takes in beside it" in again.stdout
    path.unlink()
    assert waymark("identity", "split", "ann", "ben", "--because", "x", "--project", told.directory).returncode == 1


def test_a_demo_customer_is_explained_and_a_split_is_told_and_not_said(demo: Ran) -> None:
    pair = demo.rows("""
        select min(identifier_type || ':' || identifier) filter (where identifier_type = 'user_id'),
            min(identifier_type || ':' || identifier) filter (where identifier_type = 'anonymous_id')
        from marts.dim_identity_clusters where valid_to is null group by customer_id having count(*) > 3 order by customer_id limit 1
    """)[0]
    told = waymark("identity", "explain", *pair, "--project", demo.directory).stdout
    assert "One person, by the surest way with probability 0.9" in told and "event ids" in told
    announced = waymark("identity", "split", *pair, "--because", "a test", "--dry-run", "--project", demo.directory).stdout
    assert " identifiers (" in announced and "the next run states again" in announced
    assert OPERATOR_SOURCE not in load_project(demo.directory).settings.sources


def test_a_source_may_not_take_the_operators_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Waymark's own"):
        steps.preflight(Stepwise(tmp_path, {OPERATOR_SOURCE: MAPPING}).project)
