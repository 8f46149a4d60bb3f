"""Who somebody is, is the same after what is too old has left, as identity itself resolves it, wherever something was said of the person."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.ingestion.conftest import SECRET, MakeSource, Source
from tests.unit.ingestion.test_evidence import COUNTRIES, CRAWLER, FAR, FIREFOX, IDS, KEPT, MAPPING, START, History, left
from waymark.core.node_letters import node_letters
from waymark.core.settings import OPERATOR_SOURCE
from waymark.core.warehouse import Connection
from waymark.identity import resolve_identities
from waymark.identity.linkage import Estimation, Part, facts_sql, link_records
from waymark.identity.linkage.estimation import PartEstimate
from waymark.ingestion import remove_expired
from waymark.ingestion.tables import comparables_sql

COMPARED = (
    MAPPING
    + """
compare:
  given: {column: given, kind: name, optional: true}
  family: {column: family, kind: name, optional: true}
"""
)
PARTS = [Part("family", "name", False), Part("given", "name", False)]
# Two equal names are one person's, nearly surely; one says too little, and names that are alike say nothing.
SURE = Estimation(
    tuple(PartEstimate(part, (0.93, *(0.01,) * 7), (0.001, *(0.1427,) * 7), (), (), 0.001) for part in PARTS),
    0.01, (), 60, ((-30.0, -30.0), (30.0, 30.0)), "0" * 16, 5, 7,
)  # fmt: skip
HEADER = "id,at,what,visitor,login,country,stated,scopes,agent,order,amount,given,family"
COLUMNS = HEADER.split(",")
SHARED = FAR + "identity: {one_account: false}\n"
LAST: dict[str, Any] = {"id": "e99", "at": 60 * 24 * 60, "what": "order_completed", "visitor": "z"}


def put(source: Source, name: str, lines: Iterable[dict[str, Any]]) -> None:
    """Lines by column; `at` in minutes since START."""
    told = [{**line, "at": f"{START + timedelta(minutes=line['at']):%Y-%m-%dT%H:%M:%SZ}"} for line in lines]
    source.put(name, "\n".join([HEADER, *(",".join(str(line.get(column, "")) for column in COLUMNS) for line in told)]) + "\n")
    source.ingest()


def model(source: Source, *, is_estimated: bool = True) -> None:
    """What a run's models make of the lake: events, sessions, and identity itself."""
    gap_us = source.project.settings.time.session_gap_minutes * 60_000_000
    source.connection.execute(f"""
        create schema if not exists intermediate;
        create or replace table intermediate.int_events as
        select event_id, source, occurred_at, md5_number_lower(session_key) >> 1 as session_key_id, identifiers, {IDS} as node_ids,
            coalesce(user_agent, '') <> '{CRAWLER}' and not coalesce(not consent_act.is_statement, false) as is_counted,
            event_type = 'order_completed' as is_conversion_event, order_id, value, currency
        from (
            select * replace (list_concat(list_filter(identifiers, lambda i: i.type = 'user_id'), list_filter(identifiers, lambda i: i.type <> 'user_id'))
                as identifiers)
            from raw.shop_events
        );
        create or replace table intermediate.int_events_sessionized as
        select event_id, occurred_at, node_ids, session_key_id || ' ' || sum(is_start) over device as session_id
        from (
            select *, coalesce(epoch_us(occurred_at) - lag(epoch_us(occurred_at)) over device > {gap_us}, true)::int as is_start
            from intermediate.int_events where is_counted and session_key_id is not null
            window device as (partition by session_key_id order by occurred_at, event_id)
        )
        window device as (partition by session_key_id order by occurred_at, event_id);
        create or replace table intermediate.int_consent_events as select {IDS} as node_ids from raw.shop_events where consent_act is not null;
        create or replace table intermediate.int_event_jurisdictions as select {IDS} as node_ids from raw.shop_events where country is not null;
        update raw.lake_files set is_pending = false
    """)

    def link(connection: Connection, _: bool) -> None:
        link_records(connection, SURE, facts_sql(comparables_sql(connection)))

    resolve_identities(
        source.connection, settings=source.project.settings, customer_id_pads=SECRET.pads, full_refresh=True, link=link if is_estimated else None
    )


def remove(source: Source, *, is_modelled: bool) -> int:
    removals = remove_expired(source.connection, source.home, ["shop"], KEPT, places=COUNTRIES, is_modelled=is_modelled, and_then=lambda: None)
    source.assert_conserved()
    return sum(removal.rows for removal in removals)


class Resolved(History):
    """The same, with persons as identity resolves them."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        model(source)
        self.spells = [
            (hash((kind, value)), str(customer), since, until)
            for kind, value, customer, since, until in source.rows("""
                select identifier_type, identifier_value, customer_id, valid_from, valid_to
                from identity.membership_history join identity.nodes using (node_id)
            """)
        ]  # fmt: skip

    def persons(self, before: datetime) -> dict[int, frozenset[int]]:
        named = {node: customer for node, customer, since, until in self.spells if since < before and (until is None or before <= until)}  # type: ignore[operator]
        whole: dict[str, set[int]] = {}
        for node, customer in named.items():
            whole.setdefault(customer, set()).add(node)
        return {node: frozenset(whole[named[node]]) if node in named else frozenset([node]) for node in self.seen}


def customers(source: Source) -> set[frozenset[str]]:
    """Who is whom now, by the identifiers of each customer of several."""
    model(source)
    found: dict[object, set[str]] = {}
    for customer, value in source.rows("select customer_id, identifier_value from identity.memberships join identity.nodes using (node_id)"):
        found.setdefault(customer, set()).add(str(value).split(":")[-1])
    return {frozenset(values) for values in found.values() if len(values) > 1}


def lines_of(*told: dict[str, Any]) -> list[dict[str, Any]]:
    return [*({"id": f"e{number}", "what": "page_viewed", **line} for number, line in enumerate(told)), LAST]


DAY = 24 * 60
JANE, JANET, JOHN = ({"given": given, "family": family} for given, family in (("jane", "doe"), ("janet", "doe"), ("john", "roe")))


@pytest.mark.parametrize("is_modelled", [True, False])
def test_forms_by_which_a_probable_link_joins_two_identifiers_stay(is_modelled: bool, make_source: MakeSource) -> None:
    """b withdraws, and is a by the names alone: what made the names theirs stays, what repeats them leaves. Of c and d nothing was said."""
    source = make_source(COMPARED, extra=FAR)
    forms = [("a", JOHN), ("a", JANE), ("a", JANE), ("b", JANE), ("c", JANET), ("d", JANET)]
    told = [{"at": number * DAY, "visitor": visitor, **names} for number, (visitor, names) in enumerate(forms)]
    put(source, "a.csv", lines_of(*told, {"at": 6 * DAY, "visitor": "b", "what": "consent_withdrawn", "scopes": "profiling"}))
    assert frozenset("ab") in customers(source)
    remove(source, is_modelled=is_modelled)
    unseen = [] if is_modelled else ["e4", "e5"]  # nobody can say yet that they are not a's
    assert left(source) == ["e0", "e1", "e3", *unseen, "e6", "e99"]
    assert frozenset("ab") in customers(source)


def test_a_name_that_was_told_later_stays_where_an_earlier_one_does(make_source: MakeSource) -> None:
    """Else the earlier one would hold again: a is Jane by an order, and then John; b, who withdraws, is Jane, and no other than that."""
    source = make_source(COMPARED, extra=FAR)
    told: list[dict[str, Any]] = [{"at": 0, "visitor": "a", "what": "order_completed", **JANE}, {"at": DAY, "visitor": "a", **JOHN}]
    told += [{"at": 50 * DAY, "visitor": "b", **JANE}, *({"at": 51 * DAY, "visitor": who, "what": "consent_withdrawn", "scopes": "email"} for who in "ab")]
    put(source, "a.csv", lines_of(*told))
    assert customers(source) == set()
    assert remove(source, is_modelled=True) == 0 and customers(source) == set()


def test_forms_leave_where_no_probable_links_are_estimated(make_source: MakeSource) -> None:
    source = make_source(COMPARED, extra=FAR)
    put(source, "a.csv", lines_of({"at": 0, "visitor": "a", **JANE}, {"at": DAY, "visitor": "a", "what": "consent_withdrawn", "scopes": "email"}))
    model(source, is_estimated=False)
    assert remove(source, is_modelled=True) == 1 and left(source) == ["e1", "e99"]


def test_a_form_that_repeats_a_crawlers_stays(make_source: MakeSource) -> None:
    """A crawler tells nothing of anybody, so its names are no reason to leave those of a person out."""
    source = make_source(COMPARED, extra=FAR)
    agents = [("a", CRAWLER), ("a", FIREFOX), ("a", FIREFOX), ("b", FIREFOX)]
    told = [{"at": number * DAY, "visitor": visitor, "agent": agent, **JANE} for number, (visitor, agent) in enumerate(agents)]
    put(source, "a.csv", lines_of(*told, {"at": 6 * DAY, "visitor": "b", "what": "consent_withdrawn", "scopes": "profiling"}))
    assert customers(source) == {frozenset("ab")}
    assert remove(source, is_modelled=True) == 1 and left(source) == ["e0", "e1", "e3", "e4", "e99"]
    assert customers(source) == {frozenset("ab")}


@pytest.mark.parametrize("is_modelled", [True, False])
def test_a_session_of_two_accounts_stays_with_the_links_that_it_forbids(is_modelled: bool, make_source: MakeSource) -> None:
    """What ben grants is not ann's: that the tablet is both's is known of one session, in which no gap is long.

    A later session says nothing new, which only models tell. What ann does alone leaves.
    """
    source = make_source(MAPPING, extra=SHARED)
    first, second = ((0, ""), (9, "ann"), (25, ""), (50, "ben"), (51, "")), ((0, "ann"), (5, "ben"), (36, "ann"))
    days = [(0, "ann"), (DAY, "ben"), *((2 * DAY + at, login) for at, login in first), *((3 * DAY + at, login) for at, login in second)]
    told = [{"at": at, "visitor": "tab", "login": login} for at, login in days]
    put(source, "a.csv", lines_of(*told, {"at": 4 * DAY, "login": "ben", "what": "consent_granted", "scopes": "profiling"}))
    before = customers(source)
    assert all(not {"ann", "ben"} <= person for person in before)
    remove(source, is_modelled=is_modelled)
    assert left(source) == (["e0", "e1", "e3", "e4", "e5", "e10", "e99"] if is_modelled else [*(f"e{number}" for number in range(9)), "e10", "e99"])
    assert customers(source) == before


@pytest.mark.parametrize("is_modelled", [True, False])
def test_reports_of_one_order_that_contradict_each_other_stay(is_modelled: bool, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEPT, "order_completed", 30)
    source = make_source(MAPPING, extra=SHARED)
    orders = [(2, "ann", 10), (2, "ann", 10), (3, "ben", 20), (3, "ben", 20)]
    told: list[dict[str, Any]] = [{"at": at * DAY, "visitor": "tab", "login": login} for at, login in ((0, "ann"), (1, "ben"))]
    told += [{"at": at * DAY, "login": login, "order": "o1", "amount": amount, "what": "order_completed"} for at, login, amount in orders]
    put(source, "a.csv", lines_of(*told, {"at": 4 * DAY, "login": "ben", "what": "consent_granted", "scopes": "profiling"}))
    before = customers(source)
    assert all(not {"ann", "ben"} <= person for person in before)
    remove(source, is_modelled=is_modelled)
    assert customers(source) == before


def drawn(chance: random.Random, *, forms: bool) -> list[dict[str, Any]]:
    """Visitors, accounts, crawlers and disputed devices over thirty days, some within minutes of each other; the last event tells the time."""
    found: list[dict[str, Any]] = []
    shared = chance.choice([0.05, 0.2])
    for event in range(chance.choice([15, 30])):
        kind = chance.choice(["page_viewed"] * 6 + ["searched", "order_completed", "consent_granted", "consent_withdrawn"])
        line = {"id": f"e{event}", "at": chance.randrange(29) * DAY + chance.choice([0, 10, 35, 60]), "what": kind, "visitor": f"v{chance.randrange(3)}"}
        line |= {"login": chance.choice(["", "ann", "bob"]), "agent": chance.choice(["", FIREFOX, CRAWLER]), "country": chance.choice(["", "", "", "DE", "US"])}
        if found and chance.random() < shared:  # another account at the same device, soon
            line |= {"at": found[-1]["at"] + chance.choice([5, 20, 29, 31]), "visitor": found[-1]["visitor"], "login": chance.choice(["ann", "bob"])}
        if kind.startswith("consent_"):
            line |= {"scopes": chance.choice(["profiling", "email"]), "visitor": ""}
        elif forms and chance.random() < 0.4:
            line |= chance.choice([JANE, JANET, JOHN])
        found.append(line)
    return [*found, {**LAST, "at": 30 * DAY}]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 30))])
def test_who_somebody_is_holds_after_its_events_are_too_old(seed: int, make_source: MakeSource) -> None:
    """With models and without; with forms everything at once, as a form is compared with those that are left."""
    chance = random.Random(seed)
    forms = seed % 3 > 0
    lines = sorted(drawn(chance, forms=forms), key=lambda line: (line["at"], line["id"]))
    extra = FAR if seed % 4 == 3 else SHARED
    whole, modelled, unknown, daily = (make_source(COMPARED, extra=extra) for _ in range(4))
    for source in (whole, modelled, unknown):
        put(source, "all.csv", lines)
    model(modelled)
    removed = remove(modelled, is_modelled=True)
    remove(unknown, is_modelled=False)
    for number, (first, last) in enumerate([(0, 12), (12, 20), (20, 31)] if not forms else []):
        put(daily, f"{number}.csv", [line for line in lines if first * DAY <= line["at"] < last * DAY])
        remove(daily, is_modelled=number > 0)
        model(daily)
    before = Resolved(whole)
    for source in (modelled, unknown, *([] if forms else [daily])):
        after = Resolved(source)
        assert after.answers(after.seen) == before.answers(after.seen)
    assert seed != 0 or removed > 3


def test_who_was_joined_by_an_operators_word_is_bound_by_what_was_said_of_the_other(make_source: MakeSource) -> None:
    """a is b by a word that no models know; b withdrew, and that holds for c by a's old link."""
    source = make_source(MAPPING, extra=FAR)
    put(source, "a.csv", lines_of({"at": 0, "visitor": "c", "login": "a"}, {"at": DAY, "login": "b", "what": "consent_withdrawn", "scopes": "profiling"}))
    accounts = "select list_filter(identifiers, lambda i: i.type = 'user_id') as identifiers from raw.shop_events"
    (one,), (other,) = source.rows(f"select unnest({IDS}) from ({accounts})")
    details = f'{{"node_a": "{node_letters(int(str(one)))}", "node_b": "{node_letters(int(str(other)))}"}}'
    source.connection.execute(f"create view raw.{OPERATOR_SOURCE}_events as select 'identity_merge_declared' as event_type, '{details}' as properties")
    assert remove(source, is_modelled=False) == 0
