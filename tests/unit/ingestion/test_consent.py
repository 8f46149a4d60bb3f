"""What a mapping makes of consent: acts of consent events, what every event states, and what it refuses."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.conftest import REPOSITORY
from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource
from waymark.core.errors import MappingError
from waymark.ingestion.event import CONTENT_COLUMNS

AT = "2026-03-01T10:00:00Z"
EVENTS = """
consent:
  names: {Ads: advertising}
  declared: [email, sms]
  events:
    types: {consent_granted: grant, consent_lapsed: expire, preferences_saved: stated, consent_changed: told}
    actions: {agreed: grant}
    scopes: {json: "$.scopes", from: details}
    action: {json: "$.action", from: details}
    channel: {json: "$.by", from: details}
    policy_version: {json: "$.policy", from: details}
    expires_at: {json: "$.until", from: details}
"""
SEGMENT = (REPOSITORY / "examples" / "sources" / "segment.yml").read_text().replace("source: segment", "source: shop")


def act(row: object) -> dict[str, object]:
    """An act without what it does not say."""
    assert isinstance(row, dict)
    return {name: value for name, value in row.items() if value not in (None, [])}


@pytest.mark.parametrize(
    ("what", "details", "expected"),
    [
        ("consent_granted", {"scopes": "email|Ads", "by": "banner", "policy": "v2", "until": "2026-06-01"},
         {"granted": ["advertising", "email"], "channel": "banner", "policy_version": "v2", "expires_at": datetime(2026, 6, 1)}),
        ("consent_granted", {"scopes": ["SMS", "sms"], "by": "jane@mail.example"}, {"granted": ["sms"], "channel": "[email]"}),
        ("consent_lapsed", {"scopes": "email"}, {"expired": ["email"]}),
        ("consent_changed", {"scopes": "email", "action": "Revoked"}, {"withdrawn": ["email"]}),
        ("consent_changed", {"scopes": "email", "action": "AGREED"}, {"granted": ["email"]}),
        ("preferences_saved", {"scopes": {"Ads": True, "email": False, "push": None}}, {"granted": ["advertising"], "withdrawn": ["email", "push"]}),
        ("preferences_saved", {"scopes": "email"}, {"granted": ["email"], "withdrawn": ["sms"]}),
        ("preferences_saved", {"scopes": {"jane@mail.example": True, "+41 79 123 45 67": False}}, {"granted": ["[email]"], "withdrawn": ["[phone]"]}),
    ],
)  # fmt: skip
def test_a_consent_event_is_an_act(make_source: MakeSource, what: str, details: dict[str, object], expected: dict[str, object]) -> None:
    source = make_source(CSV_MAPPING + EVENTS)
    quoted = json.dumps(details).replace('"', '""')
    source.put("a.csv", f'id,at,what,visitor,details\n1,{AT},{what},v1,"{quoted}"\n2,{AT},page_viewed,v1,"{quoted}"\n')
    assert source.ingest().rows_accepted == 2
    (one,), (other,) = source.events("consent_act")
    assert act(one) == {**expected, "is_statement": False}
    assert other is None  # only the types that the mapping names are acts


@pytest.mark.parametrize(
    ("what", "details", "rule"),
    [
        ("consent_granted", {}, "bad_consent"), ("consent_granted", {"scopes": "|"}, "bad_consent"), ("consent_changed", {"scopes": "email"}, "bad_consent"),
        ("consent_changed", {"scopes": "email", "action": "maybe"}, "bad_consent"), ("consent_granted", {"scopes": "email", "until": "soon"}, "bad_value"),
    ],
)  # fmt: skip
def test_an_act_that_cannot_be_understood_is_refused_and_may_be_mended(make_source: MakeSource, what: str, details: dict[str, object], rule: str) -> None:
    source = make_source(CSV_MAPPING + EVENTS)
    quoted = json.dumps(details).replace('"', '""')
    source.put("a.csv", f'id,at,what,visitor,details\n1,{AT},{what},v1,"{quoted}"\n2,{AT},page_viewed,v1,\n')
    source.ingest()
    assert source.rows("select rule from raw.quarantine") == [(rule,)]
    source.assert_conserved()


def test_an_act_that_names_nobody_is_refused_and_a_statement_beside_an_event_that_names_nobody_is_not(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + EVENTS.replace("consent:\n", "consent:\n  scopes: {column: stated, optional: true}\n", 1))
    quoted = json.dumps({"scopes": "email"}).replace('"', '""')
    act_of = f'{AT},consent_granted,"{quoted}"'
    source.put(
        "a.csv",
        f"id,at,what,details,stated,visitor,login,mail,tel\n1,{act_of},,,,,\n2,{act_of},,,,,12\n3,{act_of},,v1,,,\n4,{act_of},,,l1,,\n"
        f"5,{act_of},,,,jane@mail.example,\n6,{AT},page_viewed,,email,,,,\n",
    )
    assert source.ingest().rows_accepted == 4  # a phone of two digits is none
    assert source.rows("select rule, field from raw.quarantine") == [("bad_consent", "identifiers")] * 2
    assert all("names nobody" in str(reason) and "replay" in str(reason) for (reason,) in source.rows("select reason from raw.quarantine"))
    assert source.events("source_event_id, consent_act.is_statement") == [("3", False), ("4", False), ("5", False), ("6", True)]
    source.assert_conserved()


def test_what_every_event_states_enters_the_ledger_unless_the_mapping_says_note(make_source: MakeSource) -> None:
    stated = "consent: {scopes: consent, when_absent: granted, declared: [Analytics, marketing], names: {Analytics: analytics}"
    content = f"id,at,what,consent\n1,{AT},x,Analytics\n2,{AT},x,marketing|Analytics\n3,{AT},x,\n"
    acts, noted = make_source(CSV_MAPPING + stated + "}\n"), make_source(CSV_MAPPING + stated + ", statements: note}\n")
    for source in (acts, noted):
        source.put("a.csv", content)
        source.ingest()
    found = [act(row) if row else None for (row,) in acts.events("consent_act")]
    assert found == [
        {"granted": ["analytics"], "withdrawn": ["marketing"], "is_statement": True}, {"granted": ["analytics", "marketing"], "is_statement": True}, None,
    ]  # fmt: skip
    assert noted.events("consent_act") == [(None,)] * 3
    kept = "event_id, content_digest, consent_scopes"
    assert acts.events(kept) == noted.events(kept)  # the column says it already


def test_a_scope_that_is_named_by_an_address_is_redacted_wherever_it_is_stated(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + "consent: {scopes: consent, declared: [analytics], names: {Ads: advertising}}\n")
    source.put("a.csv", f"id,at,what,consent\n1,{AT},x,Ads|Jane@mail.example|jane%40mail.example|call +41 79 123 45 67\n")
    source.ingest()
    ((scopes, said),) = source.events("consent_scopes, consent_act")
    assert scopes == ["Ads", "[email]", "call [phone]"]
    assert act(said) == {"granted": ["[email]", "advertising", "call [phone]"], "withdrawn": ["analytics"], "is_statement": True}


def test_two_acts_of_one_id_are_a_conflict_and_other_events_keep_their_digest(make_source: MakeSource) -> None:
    with_acts, without = make_source(CSV_MAPPING + EVENTS), make_source()
    bodies = [{"scopes": "email"}, {"scopes": "sms"}]
    quoted = [json.dumps(body).replace('"', '""') for body in bodies]
    for source in (with_acts, without):
        source.put("a.csv", f'id,at,what,visitor,details\n1,{AT},consent_granted,v1,"{quoted[0]}"\n2,{AT},page_viewed,v1,"{quoted[0]}"\n')
        source.ingest()
    pages = [source.rows("select event_id, content_digest from raw.shop_events where event_type = 'page_viewed'") for source in (with_acts, without)]
    assert pages[0] == pages[1] and "consent_act" not in CONTENT_COLUMNS
    with_acts.put("b.csv", f'id,at,what,visitor,details\n1,{AT},consent_granted,v1,"{quoted[1]}"\n')
    assert with_acts.ingest().rows_conflict == 1
    assert with_acts.value("select count(*) from raw.event_conflicts") == 2


def test_lake_files_from_before_acts_were_known_go_on_without_them(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + EVENTS)
    source.put("a.csv", f"id,at,what,visitor,details\n1,{AT},page_viewed,v1,\n")
    source.ingest()
    path = source.home.root / str(source.value("select path from raw.lake_files"))
    source.connection.execute(f"copy (select * exclude (consent_act) from read_parquet('{path}')) to '{path}' (format parquet)")
    source.connection.execute("drop table raw.lake_columns")
    source.connection.execute(f"update raw.lake_files set bytes = {path.stat().st_size}")
    source.prepare()
    quoted = json.dumps({"scopes": "email"}).replace('"', '""')
    source.put("b.csv", f'id,at,what,visitor,details\n2,{AT},consent_granted,v1,"{quoted}"\n')
    source.ingest()
    assert [row is None for (row,) in source.events("consent_act", "source_event_id")] == [True, False]
    source.assert_conserved()


def test_segment_s_preference_event_is_an_act_and_its_copies_on_other_events_are_none(make_source: MakeSource) -> None:
    source = make_source(SEGMENT)
    context = {"consent": {"categoryPreferences": {"Advertising": True, "Analytics": False, "Own": True}}}
    calls = [
        {"type": "track", "event": name, "messageId": str(number), "anonymousId": "a", "timestamp": AT, "context": context}
        for number, name in enumerate(["Segment Consent Preference Updated", "Segment Consent Preference", "Article Read"])
    ]
    source.put("a.ndjson", "".join(json.dumps(record) + "\n" for record in calls))
    source.ingest()
    expected = {"granted": ["advertising", "own"], "withdrawn": ["analytics"], "is_statement": False}
    assert [act(row) if row else None for (row,) in source.events("consent_act", "source_event_id")] == [expected, expected, None]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("consent: {when_absent: granted, declared: [a]}", "consent.scopes"),
        ("consent: {scopes: c, statements: maybe}", "consent.statements"),
        ("consent: {scopes: c, names: {A: 'Not a name'}}", "consent.names.A"),
        ("consent: {events: {scopes: c}}", "consent.events.types"),
        ("consent: {events: {types: {consent_granted: grant}}}", "consent.events.scopes"),
        ("consent: {events: {types: {consent_granted: allow}, scopes: c}}", "consent.events.types.consent_granted"),
        ("consent: {events: {types: {Consent Granted: grant}, scopes: c}}", "consent.events.types.Consent Granted"),
        ("consent: {events: {types: {consent_changed: told}, scopes: c}}", "consent.events.action"),
        ("consent: {events: {types: {consent_changed: told}, scopes: c, action: a, actions: {agreed: allow}}}", "consent.events.actions.agreed"),
        ("consent: {events: {types: {consent_changed: told}, scopes: c, action: a, actions: {yes: grant}}}", "quoted"),
        ("consent: {events: {types: {consent_granted: grant}, scopes: c, scope: d}}", "consent.events.scope"),
        ('consent: {events: {types: {consent_granted: grant}, scopes: {json: "$.c"}}}', "consent.events.scopes.from"),
    ],
)
def test_a_mapping_that_cannot_say_what_consent_means_is_refused(make_source: MakeSource, text: str, field: str) -> None:
    with pytest.raises(MappingError) as caught:
        make_source(CSV_MAPPING + text + "\n")
    assert field in str(caught.value) and caught.value.remedy
