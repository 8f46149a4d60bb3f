"""Random logs of small shops, rich in what breaks incremental builds; many independent ones ("cells") fit in one project.

A cell's visitors, users, orders and event ids all start with `k<number>.`, so cells share nothing but the clock and the batches.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.integration.stepwise import Stepwise

BASE = datetime(2024, 3, 1)
SECOND, MINUTE, DAY = 1_000_000, 60_000_000, 86_400_000_000
GAP, TIMEOUT = 30 * MINUTE, 2 * DAY
# Every rule has its edge here: a session's gap, an order's day, a journey's timeout, each at, just under and just over.
PAUSES = [
    *(0, 0, 1, 30 * SECOND, 10 * MINUTE, 20 * MINUTE, GAP - 1, GAP, GAP, GAP + 1, 3 * 60 * MINUTE),
    *(DAY - 1, DAY, DAY + 1, TIMEOUT - 1, TIMEOUT, TIMEOUT + 1, 3 * DAY),
]
TYPES = [
    *("page_viewed", "product_viewed", "product_added_to_cart", "order_completed", "order_completed", "order_refunded", "lead_created", "ticket_opened"),
    "odd_thing_done",
]
URLS = [
    None,
    "https://shop.example/",
    "https://shop.example/p?utm_source=news&utm_medium=email",
    "https://shop.example/p?gclid=abc123",
    "https://shop.example/q",
]
REFERRERS = [None, "https://www.google.com/", "https://shop.example/other", "https://www.facebook.com/x"]
WEB = {
    "format": "ndjson",
    "columns": {
        "event_id": "id", "event_type": "type", "occurred_at": "at", "received_at": "received", "anonymous_id": "visitor", "user_id": "user",
        "order_id": "order", "value": "value", "currency": "currency", "user_agent": "agent", "page_url": "url", "referrer": "referrer",
    },
    "identifiers": {"email": "email"},
    "is_internal": {"column": "staff", "optional": True},
    "namespaces": {"user_id": "people"},
    "session_key": "anonymous_id",
}  # fmt: skip
# No event ids, no visitors, sessions by user: what a back office sends. Its users are the web's.
DESK = {
    "format": "ndjson",
    "columns": {
        "event_type": "type", "occurred_at": "at", "received_at": "received", "user_id": "user", "order_id": "order", "value": "value", "currency": "currency",
        "source_channel": {"const": "email"},
    },
    "identifiers": {"email": "email"},
    "namespaces": {"user_id": "people"},
    "session_key": "user_id",
}  # fmt: skip
SOURCES = {"web": WEB, "desk": DESK}
SETTINGS: dict[str, Any] = {
    # A split must not decide what is quarantined, so the skew has no bound here.
    "time": {"session_gap_minutes": 30, "journey_timeout_days": 2, "max_future_skew_days": 3650},
    "identity": {"max_neighbours": 3},
    "goals": [{"name": "purchase", "event_types": ["order_completed"]}, {"name": "lead", "event_types": ["lead_created", "order_completed"]}],
    "micro_conversions": [{"name": "cart", "event_types": ["product_added_to_cart"]}],
    "money": {"reporting_currency": "USD", "rates": "rates.csv"},
}
RATES = "valid_from,currency,rate\n2024-01-01,EUR,1.1\n2024-03-03,EUR,1.2\n"


@dataclass(frozen=True)
class Delivery:
    """One record of a source's file in one batch. The same event may be delivered often, and with other content."""

    batch: int
    source: str
    record: dict[str, object]


def moment(microseconds: int) -> str:
    return (BASE + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def random_cell(name: str, seed: int, batches: int) -> list[Delivery]:
    """One cell's deliveries, a function of its arguments alone."""
    rng = random.Random(f"{name}:{seed}")
    visitors = [f"{name}.v{i}" for i in range(rng.randint(1, 5))]
    users = [f"{name}.u{i}" for i in range(rng.randint(0, 4))]
    emails = [f"{name}.e{i}@mail.example" for i in range(rng.randint(0, 2))]
    orders = [f"{name}.o{i}" for i in range(rng.randint(0, 3))]
    login, bots, staff, conflict, desk = rng.random() * 0.6, rng.choice([0, 0, 0.2]), rng.choice([0, 0, 0.15]), rng.choice([0, 0.15, 0.4]), rng.choice([0, 0.2])
    sessionless = rng.choice([0, 0, 0.25])
    pauses = rng.sample(PAUSES, rng.randint(2, 6))
    at, seen, events = rng.randrange(3) * DAY + rng.choice([0, 12 * 60 * MINUTE, DAY - 1]), [0], []

    def content(at: int) -> dict[str, object]:
        kind = rng.choice(TYPES)
        paid = kind in ("order_completed", "order_refunded") and rng.random() < 0.9
        return {
            "type": kind,
            "at": moment(at),
            "received": moment(at + rng.choice([0, 0, 0, 5 * SECOND, DAY, 4 * DAY])),
            "visitor": None if rng.random() < sessionless else rng.choice(visitors),
            "user": rng.choice(users) if users and rng.random() < login else None,
            "email": rng.choice(emails) if emails and rng.random() < login / 2 else None,
            "order": rng.choice(orders) if orders and kind.startswith("order") and rng.random() < 0.8 else None,
            "value": rng.choice([10, 10, 10.5, 99.99]) * (-1 if kind == "order_refunded" else 1) if paid else None,
            "currency": rng.choice(["USD", "USD", "EUR"]) if paid else None,
            "agent": "Googlebot/2.1" if rng.random() < bots else None,
            "staff": rng.random() < staff,
            "url": rng.choice(URLS),
            "referrer": rng.choice(REFERRERS),
        }

    for number in range(rng.randint(2, 14)):
        at = rng.choice(seen) if rng.random() < 0.15 else at + rng.choice(pauses)
        seen.append(at)
        if rng.random() < desk and users:
            record = {key: value for key, value in content(at).items() if key in ("type", "at", "received", "email", "order", "value", "currency")}
            events.append(("desk", record | {"user": rng.choice(users)}))
            continue
        first = {"id": f"{name}.{number}", **content(at)}
        events.append(("web", first))
        while rng.random() < conflict:
            other = content(rng.choice(seen) if rng.random() < 0.5 else at + rng.choice(pauses))
            changed = rng.sample(sorted(other), rng.randint(1, 3))
            events.append(("web", first | {key: other[key] for key in changed}))
    return _delivered(rng, events, batches)


def _delivered(rng: random.Random, events: list[tuple[str, dict[str, object]]], batches: int) -> list[Delivery]:
    """Puts events in batches: in order, reversed, by chance, or with every login late; some arrive twice."""
    way = rng.choice(["ordered", "reversed", "random", "random", "late logins"])
    found = []
    for position, (source, record) in enumerate(events):
        share = position * batches // len(events)
        batch = {"ordered": share, "reversed": batches - 1 - share}.get(way, rng.randrange(batches))
        if way == "late logins":
            batch = batches - 1 if record.get("user") else rng.randrange(max(1, batches - 1))
        found.append(Delivery(batch, source, record))
        while rng.random() < 0.1:
            found.append(Delivery(rng.randrange(batches), source, record))
    return found


def clock(batches: int) -> list[Delivery]:
    """A lone visitor whose events carry the clock on, batch by batch, past journeys' timeouts."""
    return [
        Delivery(batch, "web", {"id": f"k0.{batch}", "type": "page_viewed", "at": moment(at), "received": moment(at), "visitor": "k0.v0"})
        for batch in range(batches)
        for at in [(batch + 1) * 2 * DAY]
    ]


def log(seed: int, *, cells: int, batches: int) -> list[Delivery]:
    """Many cells and the clock."""
    return [*clock(batches), *(delivery for number in range(1, cells + 1) for delivery in random_cell(f"k{number}", seed, batches))]


_WEB_KEYS = ("id", "type", "at", "received", "visitor", "user", "email", "order", "value", "currency", "agent", "staff", "url", "referrer")
_DESK_KEYS = ("type", "at", "received", "user", "email", "order", "value", "currency")


def shop(directory: Path, **settings: Any) -> Stepwise:
    """An empty project of the two sources."""
    made = Stepwise(directory, SOURCES, {**SETTINGS, **settings})
    (directory / "rates.csv").write_text(RATES)
    return made


def give(project: Stepwise, deliveries: Iterable[Delivery], name: str, *, shuffle: int = 0) -> None:
    """Writes deliveries as one file a source, in an order drawn with `shuffle`."""
    for source, keys in (("web", _WEB_KEYS), ("desk", _DESK_KEYS)):
        records = [{key: delivery.record.get(key) for key in keys} for delivery in deliveries if delivery.source == source]
        random.Random(shuffle).shuffle(records)
        if records:
            project.add(source, name, records)


def run_in_batches(project: Stepwise, deliveries: Sequence[Delivery]) -> None:
    """One run for each batch; dbt's own tests run with the last."""
    batches = sorted({delivery.batch for delivery in deliveries})
    for batch in batches:
        give(project, [delivery for delivery in deliveries if delivery.batch == batch], f"b{batch}", shuffle=batch)
        project.run(stop_before="publish", checks=batch == batches[-1])


def run_at_once(project: Stepwise, deliveries: Sequence[Delivery]) -> None:
    """One run that rebuilds everything from all deliveries in one file a source."""
    give(project, deliveries, "all", shuffle=99)
    project.run(stop_before="publish", checks=False)


def told(deliveries: Sequence[Delivery]) -> str:
    """Deliveries as lines to read, without what is NULL."""
    return "\n".join(
        f"batch {d.batch} {d.source} {json.dumps({key: value for key, value in d.record.items() if value not in (None, False)})}"
        for d in sorted(deliveries, key=lambda d: d.batch)
    )
