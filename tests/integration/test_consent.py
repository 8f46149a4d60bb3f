"""Consent as of each moment: random histories, whatever came late, give what the plain rule gives through the real models, in increments as in one rebuild."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ml.features import VIEWS
from tests.integration.consent_logs import SCOPES, consent_shop, consents, give_consents
from tests.integration.consent_reference import Act, Ledger, Nodes, Sighting, told_place
from tests.integration.equality_logs import BASE, Delivery
from tests.integration.features_reference import Key, Log, known, read_log
from tests.integration.stepwise import Stepwise, assert_equal
from waymark.core.warehouse import Connection, connect, rows
from waymark.pipeline.customer import customer_view
from waymark.pipeline.trace import trace_row

SEED, CELLS, BATCHES = 20250411, 70, 2
SCOPE = "profiling"
_EVENTS = "staging.stg_events join (select event_id, node_ids from intermediate.int_events) using (event_id)"
_ACTS = f"select event_id, source, occurred_at, node_ids, consent_act from {_EVENTS} where consent_act is not null"
_COUNTRIES = f"select case country when 'US' then 'default' else 'EU' end, occurred_at, node_ids from {_EVENTS} where country is not null"


@dataclass
class History:
    """What a project's events say, for the plain rule."""

    log: Log
    ledger: Ledger

    @cached_property
    def today(self) -> dict[int, str]:
        """The customer of each identifier, by all links there are."""
        return known([event for event in self.log.events if event.is_counted], self.log.names, self.log.max_neighbours).customers

    @cached_property
    def persons(self) -> dict[str, Nodes]:
        found: dict[str, set[int]] = {}
        for node, customer in self.today.items():
            found.setdefault(customer, set()).add(node)
        return {customer: frozenset(nodes) for customer, nodes in found.items()}

    def nodes(self, customer: str, at: datetime) -> Nodes:
        return frozenset(self.log.known(at).nodes[customer])

    def is_allowed(self, key: Key) -> bool:
        return self.ledger.is_allowed(self.nodes(*key), SCOPE, key[1])

    def is_allowed_today(self, key: Key) -> bool:
        """Each person that the customer of then is today lets itself be profiled today."""
        persons = {self.today[node] for node in self.nodes(*key) if node in self.today}
        return all(self.ledger.is_allowed_today(self.persons[person], SCOPE, self.log.data_now) for person in persons)


def read_history(project: Stepwise) -> History:
    acts, sightings, consent = [], [], project.project.settings.consent
    for event_id, source, at, nodes, act in project.rows(_ACTS):
        assert isinstance(act, dict) and isinstance(at, datetime)
        named = frozenset(nodes or ())  # type: ignore[arg-type, call-overload]
        for action, listed in (("grant", "granted"), ("withdraw", "withdrawn"), ("expire", "expired")):
            until = act["expires_at"] if action == "grant" else None
            acts += [Act(str(event_id), str(source), at, scope, action, named, until, act["is_statement"]) for scope in act[listed]]
        if act["jurisdiction"]:
            sightings.append(Sighting(told_place(act["jurisdiction"], consent.jurisdictions), at, named))
    for place, at, nodes in project.rows(_COUNTRIES):
        assert isinstance(at, datetime)
        sightings.append(Sighting(str(place), at, frozenset(nodes or ())))  # type: ignore[arg-type, call-overload]
    return History(read_log(project), Ledger(acts, sightings, consent.denials()))


def keys_of(project: Stepwise, table: str) -> set[Key]:
    found = project.rows(f"select customer_id, as_of_at from {table}")
    assert len(set(found)) == len(found), f"{table}: a key stands twice"
    return set(found)  # type: ignore[arg-type]


def rows_of_denials(project: Stepwise, scope: str) -> dict[str, list[tuple[datetime, datetime | None]]]:
    """By customer, from when until when; no two of a customer's touch."""
    found: dict[str, list[tuple[datetime, datetime | None]]] = {}
    asked = "select customer_id, valid_from, valid_to from intermediate.int_consent_denials where scope = '{}' order by customer_id, valid_from"
    for customer, since, until in project.rows(asked.format(scope)):
        assert isinstance(since, datetime) and (until is None or isinstance(until, datetime))
        own = found.setdefault(str(customer), [])
        assert not own or (own[-1][1] is not None and own[-1][1] < since), f"{customer}: two denials touch at {since}"
        own.append((since, until))
    return found


def compare(project: Stepwise, history: History) -> dict[str, int]:
    """Rows of features, labels, training and scoring are those that the rule allows, none missing; the mart is the plain replay.

    Gives counts of what was seen.
    """
    active = history.log.keys()
    allowed = {key for key in active if history.is_allowed(key)}
    for table in (*(view.table for view in VIEWS.values()), "intermediate.int_customer_activity"):
        found = keys_of(project, table)
        assert not found - allowed, f"{table} holds who did not consent: {sorted(found - allowed)[:3]}"
        assert not allowed - found, f"{table} lacks who consented: {sorted(allowed - found)[:3]}"
    # The e-mail scope, which absence denies but in one place; by it no table is masked.
    denials = rows_of_denials(project, "email")
    for customer, at in sorted(active):
        is_denied = any(since < at and (until is None or at <= until) for since, until in denials.get(customer, ()))
        assert is_denied != history.ledger.is_allowed(history.nodes(customer, at), "email", at), (customer, at)
    ripe = {key for key in allowed if key[1] + history.log.horizon <= history.log.data_now}
    assert keys_of(project, "features.label_conversion") == ripe
    today = {key for key in allowed if history.is_allowed_today(key)}
    assert keys_of(project, "features.train_conversion") == ripe & today
    assert keys_of(project, "features.score_points") == today
    expected = {
        (customer, scope, *interval) for customer, nodes in history.persons.items() for scope in SCOPES for interval in history.ledger.intervals(nodes, scope)
    }  # fmt: skip
    found_rows = project.rows("select customer_id, scope, state, valid_from, valid_to, event_id from marts.fct_consent_intervals")
    assert set(found_rows) == expected and len(found_rows) == len(expected)
    now = history.log.data_now
    standing = {
        (customer, scope, *interval)
        for customer, nodes in history.persons.items() for scope in SCOPES if (interval := history.ledger.stands_now(nodes, scope, now))
    }  # fmt: skip
    found_now = project.rows("select customer_id, scope, state, valid_from, valid_to, event_id from marts.dim_consent_now")
    assert set(found_now) == standing and len(found_now) == len(standing)
    at_end = {key for key in active if key[1] == history.log.data_now}
    return {
        "rows": len(active), "denied": len(active - allowed), "no_longer_learnt_from": len(ripe - today), "not_scored": len((at_end & allowed) - today),
        "intervals": len(expected),
    }  # fmt: skip


def in_batches(directory: Path, deliveries: Sequence[Delivery]) -> Stepwise:
    project = consent_shop(directory)
    for batch in sorted({delivery.batch for delivery in deliveries}):
        give_consents(project, [delivery for delivery in deliveries if delivery.batch == batch], f"b{batch}", shuffle=batch)
        project.run(stop_before=None if batch == BATCHES - 1 else "publish", checks=False)
    return project


def at_once(directory: Path, deliveries: Sequence[Delivery]) -> Stepwise:
    project = consent_shop(directory)
    give_consents(project, deliveries, "all", shuffle=99)
    project.run(stop_before="publish", checks=False)
    return project


@pytest.fixture(scope="module")
def deliveries() -> list[Delivery]:
    return consents(SEED, cells=CELLS, batches=BATCHES)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, deliveries: list[Delivery]) -> Iterator[Stepwise]:
    yield in_batches(tmp_path_factory.mktemp("consent") / "batches", deliveries)


@pytest.mark.prove
def test_no_feature_label_or_training_row_is_of_one_who_did_not_consent_and_none_that_is_allowed_is_missing(built: Stepwise) -> None:
    history = read_history(built)
    seen = compare(built, history)
    # A comparison of logs in which nothing is denied, or everything, would say nothing.
    assert seen["denied"] > 100 and seen["rows"] - seen["denied"] > 100 and seen["intervals"] > 100, seen
    assert seen["no_longer_learnt_from"] > 20 and seen["not_scored"] >= 1, seen
    acts = history.ledger.acts
    assert sum(act.is_statement for act in acts) > 20 and sum(act.until is not None for act in acts) > 10
    merged = {node for node in {node for act in acts for node in act.nodes} & history.today.keys() if len(history.persons[history.today[node]]) > 1}
    assert len(merged) > 20


@pytest.mark.prove
def test_consent_counts_in_no_session_journey_or_feature(built: Stepwise) -> None:
    letters = "select event_id from marts.fct_events where source = 'letters'"
    assert built.rows(f"select count(*) > 50 from ({letters})") == [(True,)]
    assert built.rows("select distinct is_counted, session_id, customer_id from marts.fct_events where source = 'letters'") == [(False, None, None)]
    assert built.rows(f"select 1 from marts.fct_touchpoints where event_id in ({letters})") == []
    unseen = "select 1 from identity.nodes where identifier_value like '%.unseen'"
    assert built.rows(unseen) == []


@pytest.mark.prove
def test_what_is_published_holds_the_mask(built: Stepwise) -> None:
    marts = ["marts.fct_consent_intervals", "marts.dim_consent_now"]
    tables = [*(view.table for view in VIEWS.values()), "features.train_conversion", "features.score_points", *marts]
    counts = " union all ".join(f"select '{table}', count(*) from {table}" for table in tables)
    with connect(built.home.published, read_only=True) as connection:
        assert rows(connection, counts) == built.rows(counts)
    ((key, event_id),) = built.rows("select consent_interval_id, event_id from marts.fct_consent_intervals order by 1 limit 1")
    assert [event.event_id for event in trace_row(built.project, "fct_consent_intervals", str(key))] == [event_id]
    for (customer,) in built.rows("select customer_id from marts.dim_consent_now group by 1 order by max(valid_to) desc nulls last, 1 limit 3"):
        said = built.rows(f"select scope, state, valid_from from marts.dim_consent_now where customer_id = '{customer}' order by scope")
        assert customer_view(built.project, str(customer)).consent == said


@dataclass
class Models:
    """The models as dbt compiled them, over tables of their own in memory."""

    connection: Connection
    sql: Mapping[str, str]
    rules: Mapping[str, Mapping[str, bool]]

    def fill(self, table: str, columns: str, found: Sequence[Sequence[object]]) -> None:
        self.connection.execute(f"create or replace table {table} ({columns})")
        if found:
            listed = ", ".join("(" + ", ".join(_literal(value) for value in row) + ")" for row in found)
            self.connection.execute(f"insert into {table} values {listed}")

    def build(self, model: str, *, schema: str = "intermediate") -> None:
        self.connection.execute(f"create or replace table outputs.{schema}.{model} as {self.sql[model]}")


def _literal(value: object) -> str:
    if value is None or isinstance(value, bool | int):
        return "null" if value is None else str(value).lower()
    return f"{sorted(value)}::bigint[]" if isinstance(value, frozenset) else f"'{value}'"


@pytest.fixture(scope="module")
def models(built: Stepwise) -> Iterator[Models]:
    compiled = {path.stem: path.read_text() for path in (built.home.dbt / "target" / "compiled").rglob("*.sql")}
    with connect() as connection:
        for catalog in ("warehouse", "outputs"):
            connection.execute(f"attach ':memory:' as {catalog}; create schema {catalog}.intermediate; create schema {catalog}.identity")
        connection.execute("create schema warehouse.raw; create schema outputs.marts")
        yield Models(connection, compiled, built.project.settings.consent.denials())


_INTERVALS = "select customer_id, scope, state, valid_from, valid_to, event_id from outputs.marts.{}"
DAYS = st.integers(0, 9)
NODES = st.frozensets(st.integers(1, 3), min_size=1, max_size=2)
# Of each identifier: whose it was known to be, from when on; None where too many came to share it.
OWNERS = st.lists(st.tuples(DAYS, st.sampled_from(["c_a", "c_b", None])), min_size=1, max_size=3, unique_by=lambda owned: owned[0]).map(sorted)
ANY_ACTS = st.lists(
    st.tuples(
        DAYS, st.sampled_from(["web", "desk"]), st.sampled_from(["profiling", "email"]), st.sampled_from(["grant", "withdraw", "expire"]), NODES,
        st.none() | DAYS, st.booleans(),
    ),
    max_size=6,
)  # fmt: skip
# One source that states one scope on its events, and letters between: of any acts a handful hardly ever repeats a statement beside another identifier.
STATED_ACTS = st.lists(
    st.tuples(DAYS, st.just("web"), st.just("profiling"), st.sampled_from(["grant", "grant", "withdraw"]), NODES, st.none(), st.booleans()),
    min_size=3, max_size=6,
)  # fmt: skip
ACTS = ANY_ACTS | STATED_ACTS
SEEN = st.lists(st.tuples(DAYS, st.sampled_from(["EU", "US-CA", "elsewhere"]), NODES), max_size=3)


def day(number: float) -> datetime:
    return BASE + timedelta(days=number)


def check_history(models: Models, owners: Sequence[Sequence[tuple[int, str | None]]], drawn: Sequence[Any], seen: Sequence[Any], now: int) -> tuple[int, int]:
    """Each scope at each half day; gives the moments at which profiling was allowed, and all moments."""
    acts = [
        Act(f"e{number}", source, day(at), scope, action, nodes, day(until) if until is not None and action == "grant" else None, is_statement)
        for number, (at, source, scope, action, nodes, until, is_statement) in enumerate(drawn)
    ]
    ledger = Ledger(acts, [Sighting(place, day(at), nodes) for at, place, nodes in seen], models.rules)
    history = [
        (node, owner, day(since), day(changes[place + 1][0]) if place + 1 < len(changes) else None)
        for node, changes in enumerate(owners, 1) for place, (since, owner) in enumerate(changes) if owner
    ]  # fmt: skip
    today = {node: owner for node, owner, _, until in history if until is None}
    known_as: dict[Key, set[int]] = {}
    for half in range(25):
        for node, owner, since, until in history:
            if since < day(half / 2) and (until is None or day(half / 2) <= until):
                known_as.setdefault((owner, day(half / 2)), set()).add(node)
    identity, consent = "warehouse.identity", "warehouse.intermediate"
    models.fill(f"{identity}.membership_history", "node_id bigint, customer_id varchar, valid_from timestamp, valid_to timestamp", history)
    models.fill(f"{identity}.memberships", "node_id bigint, customer_id varchar", list(today.items()))
    models.fill(f"{identity}.restated_feature_customers", "customer_id varchar", [["c_a"], ["c_b"]])
    models.fill("warehouse.raw.run_clock", "data_now timestamp", [[day(now)]])
    models.fill(
        f"{consent}.int_consent_events",
        "event_id varchar, source varchar, occurred_at timestamp, node_ids bigint[], scope varchar, action varchar, expires_at timestamp, "
        "is_statement boolean, channel varchar, jurisdiction varchar, policy_version varchar, stated_by varchar",
        [(act.event_id, act.source, act.at, act.nodes, act.scope, act.action, act.until, act.is_statement, None, None, None, None) for act in acts],
    )
    models.fill(
        f"{consent}.int_event_jurisdictions", "occurred_at timestamp, node_ids bigint[], jurisdiction varchar",
        [(sighting.at, sighting.nodes, sighting.place) for sighting in ledger.sightings],
    )  # fmt: skip
    points = "outputs.intermediate.int_customer_activity"
    models.fill(points, "customer_id varchar, as_of_at timestamp", list(known_as))
    models.build("int_consent_denials")
    models.build("int_consent_denied_today")
    models.build("int_run_clock")
    for mart in ("fct_consent_intervals", "dim_consent_now"):
        models.build(mart, schema="marts")
    allowed: dict[str, set[Key]] = {}
    for scope in ("profiling", "email"):
        allowed[scope] = {key for key, nodes in known_as.items() if ledger.is_allowed(frozenset(nodes), scope, key[1])}
        denied = rows(models.connection, f"""
            select distinct customer_id, as_of_at from {points} join outputs.intermediate.int_consent_denials using (customer_id)
            where scope = '{scope}' and valid_from < as_of_at and (valid_to is null or as_of_at <= valid_to)
        """)  # fmt: skip
        assert known_as.keys() - set(denied) == allowed[scope], scope
    persons = {owner: frozenset(node for node, other in today.items() if other == owner) for owner in today.values()}
    told = [(owner, scope) for owner in persons for scope in ("profiling", "email")]
    ledger_rows = {(owner, scope, *interval) for owner, scope in told for interval in ledger.intervals(persons[owner], scope)}
    assert set(rows(models.connection, _INTERVALS.format("fct_consent_intervals"))) == ledger_rows
    now_rows = {(owner, scope, *interval) for owner, scope in told if (interval := ledger.stands_now(persons[owner], scope, day(now)))}
    assert set(rows(models.connection, _INTERVALS.format("dim_consent_now"))) == now_rows
    scored = {
        key for key in allowed["profiling"]
        if all(ledger.is_allowed_today(persons[today[node]], "profiling", day(now)) for node in known_as[key] if node in today)
    }  # fmt: skip
    found = rows(models.connection, f"select customer_id, as_of_at from ({models.sql['score_points']})")
    assert set(found) == scored
    return len(allowed["profiling"]), len(known_as)


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.mark.prove
@settings(max_examples=50, derandomize=True, **COMMON)  # type: ignore[arg-type]
@given(owners=st.lists(OWNERS, min_size=3, max_size=3), drawn=ACTS, seen=SEEN, now=DAYS)
def test_any_history_of_acts_and_links_denies_what_the_rule_denies(models: Models, owners: Any, drawn: Any, seen: Any, now: int) -> None:
    check_history(models, owners, drawn, seen, now)


@pytest.mark.prove
def test_thousands_of_histories_deny_what_the_rule_denies(models: Models, record_property: Callable[[str, object], None]) -> None:
    counts: list[tuple[int, int]] = []

    @settings(max_examples=3_000, **COMMON)  # type: ignore[arg-type]
    @given(owners=st.lists(OWNERS, min_size=3, max_size=3), drawn=ACTS, seen=SEEN, now=DAYS)
    def many(owners: Any, drawn: Any, seen: Any, now: int) -> None:
        counts.append(check_history(models, owners, drawn, seen, now))

    many()
    allowed, moments = (sum(parts) for parts in zip(*counts, strict=True))
    assert 0.1 * moments < allowed < 0.9 * moments
    record_property("claim", "Any history of acts, re-grants, lapses, links and jurisdictions: denied is what the rule denies, at each half day")
    record_property("n", f"{len(counts)} histories, {moments} moments, {allowed} allowed")
    record_property("interval", "exact")


BROKEN = [
    ("fct_consent_intervals", "strictness asc nulls first, ", ""),
    ("int_consent_denials", "-epoch_us(known.granted_until), ", ""),
    ("int_consent_denials", "having max(case when visible.is_repeated then 1 else 0 end) = 0", ""),
    ("int_consent_denied_today", "having max(case when acts.is_repeated then 1 else 0 end) = 0", ""),
    ("fct_consent_intervals", "having max(case when acts.is_repeated then 1 else 0 end) = 0", ""),
    ("int_consent_denials", "standing.granted_until <= standing.valid_from", "standing.granted_until < standing.valid_from"),
    ("int_consent_denials", "greatest(acts.occurred_at, history.valid_from)", "acts.occurred_at"),
    ("int_consent_denials", "is_statement and action = lag(action)", "false and action = lag(action)"),
    ("int_consent_denials", "where compared.is_repeated and compared.action = 'grant'", "where false"),
    ("int_consent_denials", "and (visible.known_to is null or spans.valid_from < visible.known_to)", ""),
    ("int_consent_denials", "max(case when located.is_denied then 1 else 0 end) = 1", "min(case when located.is_denied then 1 else 0 end) = 1"),
    ("int_consent_denied_today", "acts.occurred_at <= clock.data_now", "acts.occurred_at < clock.data_now"),
    ("int_consent_denied_today", "coalesce(not standing.is_granted_last, false)", "false"),
    ("dim_consent_now", "intervals.valid_from <= clock.data_now", "true"),
    ("dim_consent_now", "intervals.valid_to is null or clock.data_now < intervals.valid_to", "intervals.valid_to is null"),
    ("dim_consent_now", "and granted.event_id = intervals.event_id", ""),
    ("int_consent_denied_today", "inner join memberships on memberships.customer_id = denied.customer_id", "inner join memberships on false"),
    ("score_points", "denial.valid_from < point.as_of_at", "denial.valid_from <= point.as_of_at"),
]  # fmt: skip


@pytest.mark.prove
@pytest.mark.parametrize(("model", "rule", "broken"), BROKEN, ids=[f"{model}: {rule[:50]}" for model, rule, _ in BROKEN])
def test_each_rule_broken_on_purpose_is_seen(models: Models, model: str, rule: str, broken: str, record_property: Callable[[str, object], None]) -> None:
    assert rule in models.sql[model], "adapt the mutation"
    changed = replace(models, sql={**models.sql, model: models.sql[model].replace(rule, broken)})

    @settings(max_examples=1_500, phases=[Phase.generate], derandomize=True, **COMMON)  # type: ignore[arg-type]
    @given(owners=st.lists(OWNERS, min_size=3, max_size=3), drawn=ACTS, seen=SEEN, now=DAYS)
    def until_seen(owners: Any, drawn: Any, seen: Any, now: int) -> None:
        check_history(changed, owners, drawn, seen, now)

    with pytest.raises(AssertionError):
        until_seen()
    record_property("claim", f"Broken on purpose: `{rule}`")
    record_property("n", f"`{model}`, caught by histories of acts and links")


@pytest.mark.prove
@pytest.mark.parametrize(("seed", "batches", "on_mondays"), [(1, 2, True), (2, 5, False), (3, 9, True)])
def test_other_histories_agree_in_all_rows(seed: int, batches: int, on_mondays: bool, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    deliveries = consents(seed, cells=150, batches=batches, on_mondays=on_mondays)
    cut, once = in_batches(tmp_path / "batches", deliveries), at_once(tmp_path / "once", deliveries)
    assert_equal(cut, once)
    history = read_history(once)
    assert (history.log.data_now.weekday() == 0 and history.log.data_now - timedelta(hours=history.log.data_now.hour) == history.log.data_now) == on_mondays
    seen = compare(once, history)
    record_property("claim", "Features, labels, training and scoring rows are those that consent allows, as known then; increment = rebuild")
    record_property("n", f"{seen['rows']} rows, {seen['denied']} denied, {seen['intervals']} intervals, {batches} batches")
    record_property("seed", seed)
    record_property("interval", "exact")
