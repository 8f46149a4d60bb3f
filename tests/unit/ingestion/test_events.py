"""What a row means: times, names, identifiers, sessions, campaigns, devices, consent, privacy."""

from __future__ import annotations

import json

import pytest

from tests.unit.ingestion.conftest import CSV_MAPPING, SECRET, MakeSource, Source
from waymark.core.warehouse import connect
from waymark.ingestion.moments import timestamp_sql

CONNECTION = connect()
AT = "2026-03-01T10:00:00Z"


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2025-02-23T00:00:01.750Z", "UTC", "2025-02-23 00:00:01.75"),
        ("2019-10-01 00:00:00 UTC", "UTC", "2019-10-01 00:00:00"),
        ("2025-02-23T00:00:01+02:00", "UTC", "2025-02-22 22:00:01"),
        ("2025-02-23T00:00:01+0200", "Europe/Zurich", "2025-02-22 22:00:01"),
        ("2025-02-23 00:00:01 +02:00", "UTC", "2025-02-22 22:00:01"),
        ("2025-02-23t00:00:01z", "UTC", "2025-02-23 00:00:01"),
        ("2025-02-23 12:00:00", "UTC", "2025-02-23 12:00:00"),
        ("2025-02-23 12:00:00", "Europe/Zurich", "2025-02-23 11:00:00"),
        ("2025-07-01 12:00:00.5", "Europe/Zurich", "2025-07-01 10:00:00.5"),
        ("2025-07-01", "America/New_York", "2025-07-01 04:00:00"),
        ("1740268798", "Europe/Zurich", "2025-02-22 23:59:58"),
        ("1740268798.25", "UTC", "2025-02-22 23:59:58.25"),
        ("1740268798123", "UTC", "2025-02-22 23:59:58.123"),
        ("1740268798123456", "UTC", "2025-02-22 23:59:58.123456"),
        ("2025-02-23T00:00:00.1234567890Z", "UTC", "2025-02-23 00:00:00.123456"),
        ("23.02.2025", "UTC", None), ("infinity", "UTC", None), ("epoch", "UTC", None), ("12345", "UTC", None), ("2025-13-01", "UTC", None),
        ("2025-02-23T25:00:00Z", "UTC", None),
        ("99999999999999999999", "UTC", None), ("2025-02-23 Europe/Zurich", "UTC", None), ("9999999999999999", "UTC", "2286-11-20 17:46:39.999999"),
    ],
)  # fmt: skip
def test_times_are_read_as_sources_write_them(text: str, zone: str, expected: str | None) -> None:
    found = CONNECTION.execute(f"select cast({timestamp_sql('x', zone)} as varchar) from (values ($text)) t(x)", {"text": text}).fetchall()[0][0]
    assert found == expected


def test_names_become_snake_case_unless_the_mapping_says_otherwise(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + "events: {Order Completed: order_completed, view: product_viewed}\n")
    names = ["Order Completed", "view", "pageViewed", "Add To  Cart!", "plain_name", "Étape Finie", "HTTPError", "wrote to jane@mail.example"]
    source.put("a.csv", "id,at,what\n" + "".join(f"{i},{AT},{text}\n" for i, text in enumerate(names)))
    source.ingest()
    assert [row[0] for row in source.events("event_type")] == [
        "order_completed", "product_viewed", "page_viewed", "add_to_cart", "plain_name", "étape_finie", "httperror", "wrote_to_email",
    ]  # fmt: skip


def test_identifiers_come_in_order_namespaced_or_hashed(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + "namespaces: {user_id: crm}\n")
    source.put(
        "a.csv",
        f"id,at,what,visitor,login,mail,tel\n1,{AT},x,v1,u1,Jane@Mail.example,0041 79 123 45 67\n"
        f"2,{AT},x,,,,\n3,{AT},x,,,jane@mail.example ,12\n4,{AT},x,jane@mail.example,,,\n",
    )
    source.ingest()
    hashed = SECRET.hmac("email|jane@mail.example")
    found = [row[0] for row in source.events("identifiers")]
    assert found[0] == [
        {"type": "anonymous_id", "value": "shop:v1"}, {"type": "user_id", "value": "crm:u1"},
        {"type": "email", "value": hashed}, {"type": "phone", "value": SECRET.hmac("phone|+41791234567")},
    ]  # fmt: skip
    assert found[1:] == [None, [{"type": "email", "value": hashed}], [{"type": "anonymous_id", "value": f"shop:{hashed}"}]]
    assert source.events("session_key, anonymous_id") == [("shop:v1", "v1"), (None, None), (None, None), (f"shop:{hashed}", hashed)]


@pytest.mark.parametrize(("setting", "expected"), [("user_id", "shop:u1"), ("none", None), ("{expr: \"visitor || '/' || login\"}", "shop:v1/u1")])
def test_the_session_key_is_what_the_mapping_says(make_source: MakeSource, setting: str, expected: str | None) -> None:
    source = make_source(CSV_MAPPING + f"session_key: {setting}\n")
    source.put("a.csv", f"id,at,what,visitor,login\n1,{AT},x,v1,u1\n")
    source.ingest()
    assert source.events("session_key") == [(expected,)]


def test_campaigns_and_places_are_taken_from_urls(source: Source) -> None:
    url = "https://WWW.Shop.example:443/a/b?utm_source=Spring%20News&utm_medium=e+mail&utm_campaign=%ff&gbraid=g1&gclid=c1#top"
    source.put(
        "a.csv",
        f"id,at,what,url,referrer\n1,{AT},x,{url},https://www.google.com/search\n"
        f"2,{AT},x,/only/path?x=1,\n3,{AT},x,https://shop.example,android-app://com.slack/\n",
    )
    source.ingest()
    assert source.events("utm_source, utm_medium, utm_campaign, click_id_type, click_id, page_host, page_path, referrer_host") == [
        ("Spring News", "e mail", "%ff", "gclid", "c1", "www.shop.example", "/a/b", "www.google.com"),
        (None, None, None, None, None, None, "/only/path", None),
        (None, None, None, None, None, "shop.example", "/", "com.slack"),
    ]


@pytest.mark.parametrize(
    ("agent", "device", "system", "browser"),
    [
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
            "mobile",
            "ios",
            "safari",
        ),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/133.0.0.0 Safari/537.36 Edg/133.0.0.0", "desktop", "windows", "edge"),
        ("Mozilla/5.0 (Linux; Android 14; SM-X900) AppleWebKit/537.36 Chrome/133.0.0.0 Safari/537.36", "tablet", "android", "chrome"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:134.0) Gecko/20100101 Firefox/134.0", "desktop", "macos", "firefox"),
        ("curl/8.5.0", "other", "other", "other"),
    ],
)
def test_devices_are_told_from_user_agents(make_source: MakeSource, agent: str, device: str, system: str, browser: str) -> None:
    source = make_source(CSV_MAPPING.replace("columns:", "columns:\n  user_agent: agent"))
    source.put("a.csv", f'id,at,what,agent\n1,{AT},x,"{agent}"\n')
    source.ingest()
    assert source.events("device_type, os, browser") == [(device, system, browser)]


@pytest.mark.parametrize(
    ("consent", "expected"),
    [
        ("{scopes: consent, when_absent: granted, declared: [marketing, analytics]}", [["analytics"], ["analytics", "marketing"], ["analytics", "marketing"]]),
        ("{scopes: consent, when_absent: denied, declared: [marketing, analytics]}", [["analytics"], ["analytics", "marketing"], []]),
        ("{scopes: consent, when_absent: {analytics: granted}, declared: [marketing, analytics]}", [["analytics"], ["analytics", "marketing"], ["analytics"]]),
    ],
)
def test_absent_consent_means_what_the_mapping_says(make_source: MakeSource, consent: str, expected: list[list[str]]) -> None:
    source = make_source(CSV_MAPPING + f"consent: {consent}\n")
    source.put("a.csv", f"id,at,what,consent\n1,{AT},x,analytics\n2,{AT},x,marketing | analytics|analytics\n3,{AT},x,\n")
    source.ingest()
    assert [row[0] for row in source.events("consent_scopes")] == expected


def test_consent_may_be_a_json_list_or_object(make_source: MakeSource) -> None:
    mapping = CSV_MAPPING.replace("format: csv", "format: ndjson") + 'consent: {scopes: {json: "$.consent"}, declared: [analytics, marketing]}\n'
    source = make_source(mapping)
    values: list[object] = [["marketing", "analytics"], {"analytics": True, "marketing": False, 'o\'dd "key"': True}, []]
    source.put("a.ndjson", "".join(json.dumps({"id": str(i), "at": AT, "what": "x", "consent": value}) + "\n" for i, value in enumerate(values)))
    source.ingest()
    assert [row[0] for row in source.events("consent_scopes")] == [["analytics", "marketing"], ["analytics", 'o\'dd "key"'], []]


def test_mapped_identifiers_are_nowhere_in_the_lake(make_source: MakeSource) -> None:
    mapping = CSV_MAPPING.replace(
        "  email: {column: mail, optional: true}", '  email: {json: "$.who.mail", from: details}\n  loyalty_card: {json: "$.card", from: details}'
    )
    source = make_source(mapping)
    details = json.dumps(
        {"who": {"mail": "Jane@Mail.example", "role": "buyer"}, "card": "CARD-778899", "copy": "card CARD-778899", "friend": "bob@mail.example", "n": 1}
    )
    url = "https://shop.example/?card=CARD-778899&mail=jane%40mail.example&tel=%2B41791234567"
    quoted = '"' + details.replace('"', '""') + '"'
    source.put(
        "a.csv",
        f"id,at,what,visitor,url,referrer,details,note\n"
        f'1,{AT},x,v1,{url},{url},{quoted},"Jane@Mail.example, CARD-778899, 0791234567"\n2,{AT},x,jane@mail.example,,,,\n',
    )
    source.ingest()
    properties, page, note = source.events("properties, page_url, text")[0]
    assert json.loads(str(properties)) == {"who": {"role": "buyer"}, "copy": "card [loyalty_card]", "friend": "[email]", "n": 1}
    assert page == "https://shop.example/?card=[loyalty_card]&mail=[email]&tel=[phone]"
    assert note == "[email], [loyalty_card], [phone]"
    everything = " ".join(map(str, source.rows("select e from raw.shop_events e"))).lower()
    for word in ("jane", "bob@", "card-778899", "79123"):
        assert word not in everything
    types = source.rows("select i.type from (select unnest(identifiers) as i from raw.shop_events where row_number = 1)")
    assert types == [("anonymous_id",), ("email",), ("loyalty_card",)]


def test_a_scan_of_the_home_finds_no_identifier_and_no_secret(make_source: MakeSource) -> None:
    source = make_source()
    source.connection.close()
    from waymark.core.warehouse import connect as open_warehouse
    from waymark.ingestion import ingest_source
    from waymark.privacy import load_secret

    rows = "".join(f"{i},{AT},x,v{i},person{i}@mail.example,+4179555{i:04d},said person{i}@mail.example\n" for i in range(200))
    source.put("a.csv", f"id,at,what,visitor,mail,tel,note\n{rows}bad,no time,x,v,hidden@mail.example,,\nbroken\n")
    source.put("b.csv", "jane@mail.example,b\n1,2\n")
    secret = load_secret(source.project)
    source.connection = open_warehouse(source.home.warehouse, scratch=source.home.scratch)
    assert ingest_source(source.project, "shop", source.connection, secret).rows_accepted == 200
    source.connection.execute("checkpoint")
    key = source.home.secret_file.read_bytes().strip()
    seen = 0
    for path in source.home.root.rglob("*"):
        if path.is_file() and source.home.quarantine not in path.parents:
            content = path.read_bytes()
            seen += 1
            assert b"@mail.example" not in content and b"4179555" not in content, path
            assert path == source.home.secret_file or key not in content, path
    everything = " ".join(map(str, source.rows("select e from raw.shop_events e") + source.rows("select l from raw.ingestion_log l")))
    assert "@mail.example" not in everything and "4179555" not in everything and seen >= 4


def test_order_ids_are_no_identifiers(source: Source) -> None:
    source.put("a.csv", f"id,at,what,order\n1,{AT},x,o-1\n")
    source.ingest()
    assert source.events("order_id, identifiers") == [("o-1", None)]
