"""What a person said of consent holds after its events are too old: with retention and without, the same is allowed with every identifier that is left."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date, datetime, timedelta

import pytest

from tests.integration.consent_reference import Act, Ledger, Sighting
from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource, Source
from waymark.ingestion import remove_expired

OPTIONAL = "".join(f"  {name}: {{column: {column}, optional: true}}\n" for name, column in (("country", "country"), ("user_agent", "agent")))
MAPPING = (
    CSV_MAPPING.replace("  referrer:", f"{OPTIONAL}  referrer:")
    + """
consent:
  scopes: {column: stated, optional: true}
  separator: "+"
  declared: [profiling, email]
  events:
    types: {consent_granted: grant, consent_withdrawn: withdraw}
    scopes: scopes
"""
)
HEADER = "id,at,what,visitor,login,country,stated,scopes,agent"
START = datetime(2026, 3, 1, 10)
# Acts of consent by name, too: whoever asks for that is not heeded.
KEPT = {"page_viewed": 10, "searched": 3, "consent_withdrawn": 5, "consent_granted": 5}
FAR = "time: {max_future_skew_days: 3650}\n"
COUNTRIES = {"DE": "EU", "FR": "EU", "US": "US"}
RULES = {"profiling": {"EU": True, "default": False}, "email": {"US": False, "default": True}}
IDS = "list_transform(identifiers, lambda i: cast(md5_number_lower(i.type || '|' || i.value) >> 1 as bigint))"
NO_DISPUTES = "create table identity.negative_evidence (node_a bigint, node_b bigint, kind varchar, since timestamp, source_event_id varchar)"
Line = tuple[int, float, str, str, str, str, str, str, str]  # event, day, type, visitor, login, country, stated, scopes, user agent
FIREFOX, CRAWLER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "python-requests/2.31"


def put(source: Source, name: str, lines: Iterable[Line]) -> None:
    text = [f"e{event},{START + timedelta(days=day):%Y-%m-%dT%H:%M:%SZ},{','.join(rest)}" for event, day, *rest in lines]
    source.put(name, "\n".join([HEADER, *text]) + "\n")
    source.ingest()


def remove(source: Source) -> int:
    removals = remove_expired(source.connection, source.home, ["shop"], KEPT, places=COUNTRIES, and_then=lambda: None)
    source.assert_conserved()
    return sum(removal.rows for removal in removals)


def left(source: Source) -> list[str]:
    return [str(event) for (event,) in source.events("source_event_id", "occurred_at, source_event_id")]


class History:
    """What the events of a source say of consent, and who is linked to whom by then."""

    def __init__(self, source: Source) -> None:
        acts, sightings = [], []
        self.links: list[tuple[datetime, frozenset[int]]] = []
        self.seen: dict[int, datetime] = {}
        for event_id, at, identifiers, act, country, agent in source.events("event_id, occurred_at, identifiers, consent_act, country, user_agent"):
            assert isinstance(at, datetime) and isinstance(act, dict | None)
            nodes = frozenset(hash((one["type"], one["value"])) for one in identifiers or ())  # type: ignore[attr-defined]
            for action, listed in (("grant", "granted"), ("withdraw", "withdrawn")) if act else ():
                acts += [Act(str(event_id), "shop", at, scope, action, nodes, None, bool(act["is_statement"])) for scope in act[listed]]  # type: ignore[index]
            if country:
                sightings.append(Sighting(COUNTRIES[str(country)], at, nodes))
            if not act or act["is_statement"]:
                if agent != CRAWLER:
                    self.links.append((at, nodes))
                for node in nodes:
                    self.seen[node] = min(at, self.seen.get(node, at))
        self.ledger = Ledger(acts, sightings, RULES)

    def persons(self, before: datetime) -> dict[int, frozenset[int]]:
        """By identifier: those that were known to be of one person with it."""
        found: dict[int, frozenset[int]] = {node: frozenset([node]) for node in self.seen}
        for nodes in (nodes for at, nodes in self.links if at < before and nodes):
            joined = nodes.union(*(found[node] for node in nodes))
            found |= dict.fromkeys(joined, joined)
        return found

    def answers(self, nodes: Iterable[int]) -> dict[tuple[int, str, datetime], bool]:
        """Whether an identifier's person may be used, on each day as known then, and at the end as known at the end."""
        asked, now = list(nodes), START + timedelta(days=30)
        found = {(node, scope, now): self.ledger.is_allowed_today(self.persons(now)[node], scope, now) for node in asked for scope in RULES}
        for day in range(30):
            at = START + timedelta(days=day, hours=1)
            persons = self.persons(at)
            found |= {(node, scope, at): self.ledger.is_allowed(persons[node], scope, at) for node in asked for scope in RULES}
        return found


def drawn(chance: random.Random) -> list[Line]:
    """Visitors of some persons over thirty days; the last event tells the time."""
    found: list[Line] = []
    states = chance.choice([0.0, 0.5, 1.0])
    for event in range(chance.choice([12, 40])):
        kind = chance.choice(["page_viewed"] * 4 + ["searched", "order_completed", "consent_granted", "consent_withdrawn"])
        visitor, login = f"v{chance.randrange(5)}", chance.choice(["", "", "ann", "bob"])
        is_act = kind.startswith("consent_")
        stated = chance.choice(["profiling", "email", "profiling+email"]) if not is_act and chance.random() < states else ""
        scopes = chance.choice(["profiling", "email"]) if is_act else ""
        country, agent = chance.choice(["", "", "DE", "FR", "US"]), chance.choice(["", FIREFOX, CRAWLER])
        found.append((event, chance.randrange(58) / 2, kind, visitor, login, country, stated, scopes, agent))
    return [*found, (99, 29.5, "order_completed", "v0", "", "", "", "", "")]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 40))])
def test_what_was_said_holds_after_its_events_are_too_old(seed: int, make_source: MakeSource) -> None:
    chance = random.Random(seed)
    lines = sorted(drawn(chance), key=lambda line: (line[1], line[0]))
    whole, at_once, daily = (make_source(MAPPING, extra=FAR) for _ in range(3))
    put(whole, "all.csv", lines)
    put(at_once, "all.csv", lines)
    removed = remove(at_once)
    for number, (first, last) in enumerate([(0, 12), (12, 20), (20, 30)]):
        put(daily, f"{number}.csv", [line for line in lines if first <= line[1] < last])
        remove(daily)
    before = History(whole)
    for source in (at_once, daily):
        after = History(source)
        assert after.answers(after.seen) == before.answers(after.seen)
        for node in after.seen:
            for scope in RULES:
                assert after.ledger.of([node], scope) == before.ledger.of([node], scope)
    assert seed != 0 or removed > 5


def test_acts_changes_first_sightings_and_the_links_between_them_stay_and_what_repeats_leaves(make_source: MakeSource) -> None:
    def history(*lines: tuple[str, str, str, str, str, str]) -> list[str]:
        made, last = make_source(MAPPING, extra=FAR), (99, 60.0, "order_completed", "z", "", "", "", "", "")
        put(made, "a.csv", [*((n, n / 24, *rest, "") for n, rest in enumerate(lines)), last])
        remove(made)
        return [event for event in left(made) if event != "e99"]

    page = "page_viewed"
    # A letter's withdrawal; the views that say nothing leave.
    assert history((page, "a", "", "", "", ""), ("consent_withdrawn", "a", "", "", "", "profiling"), (page, "a", "", "", "", "")) == ["e1"]
    # Granted, again granted, withdrawn, again: what repeats says nothing.
    said = ["profiling", "profiling", "email", "email", "profiling"]
    assert history(*((page, "a", "", "", stated, "") for stated in said)) == ["e0", "e2", "e4"]
    # By identifier: what repeats for the cookie is the login's first.
    assert history((page, "a", "", "", "email", ""), (page, "a", "ann", "", "email", ""), (page, "a", "ann", "", "email", "")) == ["e0", "e1"]
    # The first in a jurisdiction, not the first in a country.
    assert history(*((page, "a", "", country, "", "") for country in ("", "FR", "DE", "US", "US"))) == ["e1", "e3"]
    # b withdrew, and is ann, who is a: each first link stays, of others none.
    linked = [(page, "a", "ann"), (page, "a", "ann"), (page, "b", "ann"), ("consent_withdrawn", "b", ""), (page, "c", "bob"), (page, "b", "ann")]
    assert history(*((kind, visitor, login, "", "", "profiling" if "consent" in kind else "") for kind, visitor, login in linked)) == ["e0", "e2", "e3"]


def test_a_crawlers_event_that_is_the_first_of_a_pair_does_not_stand_for_one_that_links(make_source: MakeSource) -> None:
    """A crawler's event links nobody. b withdraws, and that holds for ann by the second event alone; the third says nothing new."""
    source = make_source(MAPPING, extra=FAR)
    pages: list[Line] = [(n, n / 24, "page_viewed", "b", "ann", "", "", "", agent) for n, agent in enumerate((CRAWLER, FIREFOX, FIREFOX))]
    put(source, "a.csv", [*pages, (3, 1, "consent_withdrawn", "b", "", "", "", "profiling", ""), (99, 60, "order_completed", "z", "", "", "", "", "")])
    assert remove(source) == 1 and left(source) == ["e0", "e1", "e3", "e99"]


def test_where_absence_means_the_same_everywhere_no_country_keeps_an_event(make_source: MakeSource) -> None:
    source = make_source(MAPPING, extra=FAR)
    put(source, "a.csv", [(0, 0, "page_viewed", "a", "", "FR", "", "", ""), (99, 60, "order_completed", "z", "", "", "", "", "")])
    assert [removal.rows for removal in remove_expired(source.connection, source.home, ["shop"], KEPT, and_then=lambda: None)] == [1]


def test_links_that_are_neither_old_nor_new_are_those_of_the_last_run(make_source: MakeSource) -> None:
    """b is c by an old event, c is a by one that is kept, and a withdrew: the models know the latter two, and of the lake only the old files are read."""
    source = make_source(MAPPING, extra=FAR)
    put(source, "a.csv", [(0, 0, "page_viewed", "b", "c", "", "", "", ""), (1, 0.1, "page_viewed", "x", "y", "", "", "", "")])
    new: list[Line] = [(2, 55, "page_viewed", "a", "c", "", "", "", ""), (3, 55, "consent_withdrawn", "a", "", "", "", "profiling", "")]
    put(source, "b.csv", new)
    put(source, "c.csv", [(99, 60, "order_completed", "z", "", "", "", "", "")])
    nodes = f"(select event_id, {IDS} as node_ids from raw.shop_events where source_event_id = 'e{{}}')"
    source.connection.execute(f"""
        create schema identity; create schema intermediate;
        create table identity.edges as select list_min(node_ids) as node_a, list_max(node_ids) as node_b from {nodes.format(2)};
        {NO_DISPUTES};
        create table intermediate.int_consent_events as from {nodes.format(3)};
        create table intermediate.int_event_jurisdictions as from {nodes.format(3)} where false;
        update raw.lake_files set is_pending = false
    """)
    days = {"page_viewed": 10}
    (removal,) = remove_expired(source.connection, source.home, ["shop"], days, is_modelled=True, and_then=lambda: None)
    assert removal.rows == 1 and left(source) == ["e0", "e2", "e3", "e99"]


@pytest.mark.parametrize(
    ("without", "is_modelled", "expected"),
    [
        ({"analytics": {"*": 30}}, True, ["e2", "e3", "e4", "e5", "e99"]),
        ({"analytics": {"*": 30, "order_completed": 90}}, True, ["e1", "e2", "e3", "e4", "e5", "e99"]),
        ({"analytics": {"page_viewed": 30}}, True, ["e1", "e2", "e3", "e4", "e5", "e99"]),
        ({"analytics": {"*": 60}, "email": {"*": 30}}, True, ["e2", "e3", "e4", "e5", "e99"]),
        ({"profiling": {"*": 30}}, True, ["e0", "e1", "e2", "e3", "e4", "e5", "e99"]),
        ({"analytics": {"*": 30}}, False, ["e0", "e1", "e2", "e3", "e4", "e5", "e99"]),
    ],
)  # fmt: skip
def test_events_of_who_does_not_grant_a_scope_leave_sooner_by_what_the_last_run_knew(
    without: dict[str, dict[str, int]], is_modelled: bool, expected: list[str], make_source: MakeSource
) -> None:
    """a withdrew and is c_a; b is c_b, whom c_a was merged with once; of c nothing is known yet. Days 0 and 1 are old, whatever is young."""
    source = make_source(MAPPING, extra=FAR)
    kinds = [("page_viewed", "a"), ("order_completed", "a"), ("consent_withdrawn", "a"), ("page_viewed", "b"), ("page_viewed", "c")]
    lines: list[Line] = [(n, n / 24, kind, visitor, "", "", "", "email" if "consent" in kind else "", "") for n, (kind, visitor) in enumerate(kinds)]
    put(source, "a.csv", [*lines, (5, 55, "page_viewed", "a", "", "", "", "", ""), (99, 60, "order_completed", "z", "", "", "", "", "")])
    source.connection.execute(f"""
        create schema identity; create schema intermediate;
        create table identity.edges (node_a bigint, node_b bigint); {NO_DISPUTES};
        create table intermediate.int_consent_events as select {IDS} as node_ids from raw.shop_events where source_event_id = 'e2';
        create table intermediate.int_event_jurisdictions (node_ids bigint[]);
        create table identity.memberships as select unnest({IDS}) as node_id, 'c_' || right(anonymous_id, 1) as customer_id from raw.shop_events
        where source_event_id in ('e0', 'e3', 'e99');
        create table intermediate.int_consent_denied_today as select * from (values
            ('analytics', 'c_a', null), ('email', 'c_a', null), ('analytics', 'c_b', timestamp '2026-03-05')) denied (scope, customer_id, valid_to);
        update raw.lake_files set is_pending = false
    """)
    removals = remove_expired(source.connection, source.home, ["shop"], {}, without=without, is_modelled=is_modelled, and_then=lambda: None)
    assert sorted(left(source), key=lambda event: int(event[1:])) == expected
    source.assert_conserved()
    gone = 7 - len(expected)
    assert sum(removal.rows for removal in removals) == gone
    assert source.rows("select distinct reason, older_than from raw.removals") == ([("consent", date(2026, 3, 31))] if gone else [])
