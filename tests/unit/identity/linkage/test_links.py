"""Probable links against slow readings of their rules: records, candidates, probabilities, and an increment that gives what a rebuild gives."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.identity.linkage.people import PARTS, SECRET, Form, forms_of, load_facts
from waymark.core.warehouse import Connection, connect, rows
from waymark.identity import prepare_identity
from waymark.identity.linkage import EstimateReport, Estimation, Part, estimate, facts_sql, link_records, records_sql
from waymark.identity.linkage import links as links_module
from waymark.identity.linkage.comparisons import FORMS, LEVELS, wide_sql
from waymark.identity.linkage.estimation import PartEstimate
from waymark.identity.linkage.links import COMMON, KEYS, LINKS, MOVED, RECORDS
from waymark.identity.linkage.splink_model import splink_weights
from waymark.identity.probable import RETOLD, merge_probable, rebuild_probable
from waymark.privacy import Secret

Told = dict[str, Any]


@pytest.fixture(scope="module")
def estimated() -> EstimateReport:
    with connect() as connection:
        load_facts(connection, forms_of(300, seed=1)[0])
        connection.execute(f"create temp table known as {records_sql('temp.told')}")
        return estimate(connection, "temp.known", PARTS, fingerprint=SECRET.fingerprint)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with connect() as opened:
        yield opened


def records(connection: Connection) -> list[tuple[int, Any, Any, dict[str, Told]]]:
    found = rows(connection, f"select node_id, valid_from, valid_to, comparables from {RECORDS} order by node_id, valid_from")
    return [(int(str(node)), since, until, {told["part"]: told for told in parts}) for node, since, until, parts in found]  # type: ignore[attr-defined]


def overlap(a: Told, b: Told) -> float:
    return 2 * len(set(a["bigrams"]) & set(b["bigrams"])) / (len(a["bigrams"]) + len(b["bigrams"]))


def level(part: Part, one: dict[str, Told], other: dict[str, Told], parts: list[Part]) -> int:
    """Which level two records are at, read from the rules."""
    a, b = one.get(part.name), other.get(part.name)
    siblings = [p.name for p in parts if p.kind == part.kind and p != part and part.kind in ("name", "street")]
    if not a or not b:
        return -1
    dice = overlap(a, b)
    crossings = [((a, other[s]), (one[s], b)) for s in siblings if s in one and s in other]
    moved = any(x["exact"] == y["exact"] and overlap(*rest) >= 0.6 for pair in crossings for (x, y), rest in (pair, pair[::-1]))
    holds = {
        "exact": a["exact"] == b["exact"], "moved": moved, "close": dice >= 0.8, "near": dice >= 0.6, "far": dice >= 0.4, "start": a["prefix"] == b["prefix"],
        "sound": a["phonetic"] is not None and a["phonetic"] == b["phonetic"],
    }  # fmt: skip
    return next((number for number, name in enumerate(LEVELS) if holds.get(name)), LEVELS.index("other"))


def most_frequent(told: PartEstimate, one: dict[str, Told], other: dict[str, Told]) -> float:
    return max(dict(told.frequencies).get(record[told.part.name]["exact"], told.rare) for record in (one, other))


def probability(one: dict[str, Told], other: dict[str, Told], estimation: Estimation) -> float:
    parts = [told.part for told in estimation.parts]
    match, others = estimation.match, [1 - estimation.match - sum(estimation.alike), *estimation.alike]
    for told in estimation.parts:
        at = level(told.part, one, other, parts)
        if at < 0:
            continue
        rarity = 1.0
        if at in (0, 1):  # what was exchanged weighs as what agrees, at the frequency of the more frequent of the two
            at, rarity = 0, told.u[0] / most_frequent(told, one, other)
        match *= told.m[at] / told.u[at] * rarity
        for place, shares in enumerate(told.alike):
            others[1 + place] *= shares[at] / told.u[at] * rarity
    odds = max(-30.0, min(30.0, math.log(match / sum(others))))
    knots = estimation.calibration
    segment = next((number for number in range(len(knots) - 2) if odds < knots[number + 1][0]), len(knots) - 2)
    (x, y), (a, b) = knots[segment], knots[segment + 1]
    return 1 / (1 + math.exp(-(y + (b - y) / (a - x) * (odds - x))))


def keys(record: dict[str, Told], parts: list[Part]) -> set[tuple[object, ...]]:
    names = sorted(parts)
    found: set[tuple[object, ...]] = {(part.name, record[part.name]["exact"]) for part in names if part.name in record}
    for one, other in combinations(names, 2):
        if one.name in record and other.name in record:
            codes = [record[part.name]["phonetic"] or record[part.name]["exact"] for part in (one, other)]
            found.add((one.name, other.name, *(sorted(codes) if one.kind == other.kind and one.kind in ("name", "street") else codes)))
    return found


def links(connection: Connection) -> list[tuple[object, ...]]:
    return rows(connection, f"select * from {LINKS} order by node_a, node_b, valid_from")


def test_a_record_says_what_was_known_last_and_since_when(connection: Connection) -> None:
    forms = [
        Form(1, 10, {"given": "anna", "town": "basel"}), Form(1, 20, {"given": "anna"}), Form(1, 30, {"given": "berta"}), Form(2, 5, {"family": "ott"}),
        Form(1, 30, {"given": "carl", "street": "mill road"}),
    ]  # fmt: skip
    load_facts(connection, forms)
    since, until = (f"epoch({instant})::bigint - epoch(timestamp '2026-01-01')::bigint" for instant in ("valid_from", "valid_to"))
    names = "list_transform(comparables, lambda c: c.part)"
    found = rows(connection, f"select node_id, {since}, {until}, {names} from ({records_sql('temp.told')}) order by 1, 2")
    assert found == [(1, 10, 30, ["given", "town"]), (1, 30, None, ["given", "street", "town"]), (2, 5, None, ["family"])]
    latest = f"({records_sql('temp.told')}) where node_id = 1 and valid_to is null"
    told = rows(connection, f"select list_filter(comparables, lambda c: c.part = 'given')[1].exact from {latest}")
    (carl,) = rows(connection, "select comparables[1].exact from told where event_id = 'e000004'")
    assert told == [carl]  # of one instant, the greatest event id


@pytest.mark.parametrize("limit", [60, 5])
def test_links_are_what_the_rules_say_pair_by_pair(connection: Connection, estimated: EstimateReport, limit: int) -> None:
    estimation = replace(estimated.estimation, block_limit=limit, calibration=((-30.0, -20.0), (1.0, 0.5), (30.0, 12.0)))
    forms, _ = forms_of(120, seed=2)
    rng = random.Random(3)
    forms += [Form(form.node, form.at + 500, {**form.texts, "town": "graz"}) for form in rng.sample(forms, 20)]
    load_facts(connection, forms)
    report = link_records(connection, estimation, "from temp.told")
    known = records(connection)
    # When each identifier first held a key; from the instant on at which one too many does, it finds nobody.
    first_held: dict[tuple[object, ...], dict[int, Any]] = {}
    for node, since, _, parts in known:
        for key in keys(parts, PARTS):
            held = first_held.setdefault(key, {})
            held[node] = min(since, held.get(node, since))
    expected, is_cut = {}, 0
    for (a, since_a, until_a, one), (b, since_b, until_b, other) in combinations(known, 2):
        since = max(since_a, since_b)
        shared = keys(one, PARTS) & keys(other, PARTS)
        if a == b or not shared:
            continue
        too_many = [sorted(first_held[key].values())[limit : limit + 1] for key in shared]
        last_usable = None if [] in too_many else max(instant for (instant,) in too_many)
        until = min((until for until in (until_a, until_b, last_usable) if until), default=None)
        if until is None or since < until:
            expected[a, b, since, until] = probability(one, other, estimation)
            is_cut += until is not None and until == last_usable
    assert limit == 60 or is_cut > 100
    assert report.compared == len(expected) > 100
    found = {(a, b, since, until): chance for a, b, chance, _, since, until in links(connection)}
    assert set(found) == {key for key, chance in expected.items() if chance >= 0.5} and len(found) > 20
    assert all(abs(float(str(chance)) - expected[key]) < 1e-9 for key, chance in found.items())  # type: ignore[index]


def test_a_later_event_changes_no_earlier_link(connection: Connection, estimated: EstimateReport) -> None:
    """At each instant: what all events say of links before it, is what the events before it said. Every pair that is compared is a link here."""
    estimation = replace(estimated.estimation, block_limit=5, calibration=((-30.0, 0.1), (30.0, 12.0)))
    forms, _ = forms_of(80, seed=5)
    forms += [Form(form.node, form.at + 300, {**form.texts, "town": "graz"}) for form in random.Random(6).sample(forms, 20)]
    load_facts(connection, forms)
    link_records(connection, estimation, "from temp.told")
    in_the_end = links(connection)
    ended_later = 0
    for second in (300, 700):
        (point,) = rows(connection, f"select timestamp '2026-01-01' + to_seconds({second})")[0]
        link_records(connection, estimation, f"from temp.told where occurred_at < timestamp '{point}'")
        known = [(*told, until if until is not None and until < point else None) for *told, until in in_the_end if told[-1] < point]  # type: ignore[operator]
        assert links(connection) == known != []
        ended_later += sum(row[-1] is None for row in known) - sum(row[-1] is None and row[-2] < point for row in in_the_end)  # type: ignore[operator]
    assert ended_later > 100


def test_splink_weighs_every_pair_alike(connection: Connection, estimated: EstimateReport) -> None:
    """Splink's own prediction with the frozen shares, against our SQL: the weight of one person's pairs against strangers'."""
    load_facts(connection, forms_of(60, seed=4)[0])
    link_records(connection, estimated.estimation, "from temp.told")
    columns = ", ".join(f"{part.name}_{form}" for part in PARTS for form in FORMS)
    table: pa.Table = connection.sql(f"select node_id, {columns} from ({wide_sql(RECORDS, PARTS)}) order by node_id").to_arrow_table()
    known = records(connection)
    parts = [told.part for told in estimated.estimation.parts]
    expected = {}
    for (a, _, _, one), (b, _, _, other) in combinations(known, 2):
        weight = math.log2(estimated.estimation.match / (1 - estimated.estimation.match))
        for told in estimated.estimation.parts:
            at = level(told.part, one, other, parts)
            if at in (0, 1):
                weight += math.log2(told.m[0] / most_frequent(told, one, other))
            elif at > 0:
                weight += math.log2(told.m[at] / told.u[at])
        expected[a, b] = weight
    pairs = pa.table({"node_l": [a for a, _ in expected], "node_r": [b for _, b in expected]})
    found = splink_weights(table, pairs, estimated.estimation)
    weights = {(row["node_id_l"], row["node_id_r"]): row["match_weight"] for row in found.to_pylist()}
    assert set(weights) == set(expected)
    assert max(abs(weights[pair] - expected[pair]) for pair in expected) < 1e-6


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(4))
def test_an_increment_gives_what_a_rebuild_gives(connection: Connection, estimated: EstimateReport, seed: int) -> None:
    """Batches in any order, with a content that changes and a form that goes; keys cross the limit both ways."""
    estimation = replace(estimated.estimation, block_limit=4)
    rng = random.Random(seed)
    forms, _ = forms_of(60, seed=10 + seed)
    load_facts(connection, forms, "everything")
    load_facts(connection, [Form(rng.choice(forms).node, form.at, form.texts) for form in forms], "otherwise")
    connection.execute("create temp table present (event_id varchar, variant integer); create temp table batch (event_id varchar)")
    variants = enumerate(("everything", "otherwise"))
    facts = " union all ".join(f"select e.* from temp.{table} e join temp.present using (event_id) where variant = {place}" for place, table in variants)
    link_records(connection, estimation, facts)
    for _ in range(4):
        connection.execute("delete from batch")
        connection.execute(f"insert into batch select event_id from everything where hash(event_id, {rng.randrange(1 << 30)}) % 3 = 0")
        connection.execute("delete from present where event_id in (select event_id from batch)")
        connection.execute(f"insert into present select event_id, (hash(event_id, {rng.randrange(1 << 30)}) % 5 = 0)::integer from batch"
                           f" where hash(event_id, {rng.randrange(1 << 30)}) % 10 > 1")  # fmt: skip
        link_records(connection, estimation, facts, touched_events="temp.batch")
        link_records(connection, estimation, facts, touched_events="temp.batch")  # again, without harm
        states = []
        for _ in range(2):
            states.append([
                links(connection), rows(connection, f"select * from {RECORDS} order by node_id, valid_from"),
                rows(connection, f"from {KEYS} order by all nulls last"), rows(connection, f"from {COMMON} order by all nulls last"),
            ])  # fmt: skip
            link_records(connection, estimation, facts)
        assert states[0] == states[1]


def test_an_increment_reads_the_records_that_it_compares_and_no_others(
    connection: Connection, estimated: EstimateReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms, _ = forms_of(150, seed=9)
    load_facts(connection, [*forms, Form(1_000_000, 999, forms[0].texts)])
    connection.execute("create temp table batch as select event_id from told where node_id < 1000000")
    late = "(select * from temp.told where node_id < 1000000 or event_id in (from temp.batch))"
    link_records(connection, estimated.estimation, f"from {late}")
    widened = []
    make_wide = links_module._make_wide

    def counting(connection: Connection, estimation: Estimation, of: str) -> None:
        widened.append(int(str(rows(connection, f"select count(*) from {of}")[0][0])))
        make_wide(connection, estimation, of)

    monkeypatch.setattr(links_module, "_make_wide", counting)
    connection.execute("delete from batch")
    assert link_records(connection, estimated.estimation, f"from {late}", touched_events="temp.batch").compared == 0 == len(widened)
    connection.execute("insert into batch select event_id from told where node_id = 1000000")
    report = link_records(connection, estimated.estimation, f"from {late}", touched_events="temp.batch")
    assert report.touched == 1 and widened[0] == 1 and widened[1:] == [report.compared + 1] and 1 < widened[1] < len(forms) / 2
    assert any(node == 1_000_000 for _, node, *_ in links(connection))


@pytest.mark.parametrize("late", ["e000000", "e000002", "e000003"])
def test_an_edge_tells_of_the_same_events_in_whatever_order_they_arrive(connection: Connection, estimated: EstimateReport, late: str) -> None:
    """Several events at one instant say the same; the least id is told, though the one that comes last changes no record."""
    texts = {"given": "gustav", "family": "imhof", "birth": "1961-03-17", "town": "graz", "street": "mill road 5"}
    load_facts(connection, [Form(2, 20, texts), Form(1, 10, texts), Form(2, 20, texts), Form(1, 20, texts)])
    prepare_identity(connection)
    connection.execute(f"create temp table arrived as select event_id from told where event_id <> '{late}'; create temp table batch as from arrived")
    connection.execute("create temp table seed_nodes (node_id bigint)")
    facts = "select told.* from temp.told join temp.arrived using (event_id)"

    def link(connection: Connection, pending_only: bool) -> None:
        link_records(connection, estimated.estimation, facts, touched_events="temp.batch" if pending_only else None)

    rebuild_probable(connection, link, threshold=0.95)
    before = rows(connection, "from identity.edges")
    connection.execute(f"insert into arrived values ('{late}'); delete from batch; insert into batch values ('{late}')")
    merge_probable(connection, link, threshold=0.95)
    ((*_, first, last, _, _),) = after = rows(connection, "from identity.edges")
    assert (first, last) == ("e000000", "e000000")
    assert rows(connection, f"from temp.{RETOLD}") == ([] if before == after else [(1, 2)]) and rows(connection, f"from temp.{MOVED}") == []


def test_a_form_is_about_the_account_before_the_address_before_the_device(connection: Connection) -> None:
    connection.execute("""
        create schema intermediate;
        create table intermediate.int_events as select * from (values
            ('e1', timestamp '2026-01-01', [{'type': 'anonymous_id', 'value': 'c'}, {'type': 'user_id', 'value': 'u'}, {'type': 'email', 'value': 'm'}],
                [1, 2, 3]::bigint[], true),
            ('e2', timestamp '2026-01-01', [{'type': 'anonymous_id', 'value': 'c'}, {'type': 'phone', 'value': 'p'}], [1, 4]::bigint[], true),
            ('e3', timestamp '2026-01-01', [{'type': 'anonymous_id', 'value': 'c'}], [1]::bigint[], true),
            ('e4', timestamp '2026-01-01', [{'type': 'anonymous_id', 'value': 'c'}], [1]::bigint[], false),
            ('e5', timestamp '2026-01-01', NULL, NULL, true)
        ) t (event_id, occurred_at, identifiers, node_ids, is_counted)
    """)  # fmt: skip
    found = rows(connection, f"select event_id, node_id from ({facts_sql('select event_id, [] as comparables from intermediate.int_events')}) order by 1")
    assert found == [("e1", 2), ("e2", 4), ("e3", 1)]


def test_another_key_links_nobody(connection: Connection, estimated: EstimateReport) -> None:
    """Records hashed under another secret than the others agree with none of them; the estimation in force is refused before it comes to that."""
    forms, person = forms_of(80, seed=6)
    load_facts(connection, [form for form in forms if form.node % 4 == 0], "firsts")
    load_facts(connection, [form for form in forms if form.node % 4], "seconds", secret=Secret(b"another secret, long enough as well"))
    link_records(connection, estimated.estimation, "select * from temp.firsts union all select * replace ('x' || event_id as event_id) from temp.seconds")
    assert len({person[form.node] for form in forms if form.node % 4}) > 20
    assert [row for row in links(connection) if (int(str(row[0])) % 4 == 0) != (int(str(row[1])) % 4 == 0)] == []
