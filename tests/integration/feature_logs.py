"""Random logs of some months for the features: many small independent ones ("cells") in one project, as equality_logs makes them for short spans.

Visits come with devices and channels, logins link and over-share, orders are reported twice and refunded, crawlers and staff stand between; many visits
begin at midnights, so windows and points are met exactly. A cell's ids start with `k<number>.`.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.integration.equality_logs import BASE, DAY, GAP, MINUTE, SECOND, Delivery, moment

WEEKS = 18
FIRST_MONDAY = 3 * DAY  # 2024-03-04
LAST = FIRST_MONDAY + WEEKS * 7 * DAY + 2 * DAY + 577 * MINUTE + 1
_PAUSES = (0, 1, 5 * SECOND, 40 * SECOND, 4 * MINUTE, 20 * MINUTE, GAP - 1, GAP, GAP + 1, 2 * GAP)
_TYPES = (
    "page_viewed", "page_viewed", "screen_viewed", "product_viewed", "products_searched", "product_added_to_cart", "checkout_started", "order_completed",
    "order_completed", "order_refunded", "lead_created", "ticket_opened", "odd_thing_done",
)  # fmt: skip
_AGENTS = (
    None,
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.3 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPad; CPU OS 17_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.3 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/538.1 (KHTML, like Gecko) Version/6.0 TV Safari/538.1",
)
_CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1)"
_ARRIVALS = (
    ("https://shop.example/", None), ("https://shop.example/", "https://www.google.com/"), ("https://shop.example/", "https://www.facebook.com/x"),
    ("https://shop.example/", "https://blog.example.org/"), ("https://shop.example/?gclid=abc1", None),
    ("https://shop.example/?fbclid=abc1&utm_source=facebook&utm_medium=paid", None), ("https://shop.example/?utm_source=news&utm_medium=email", None),
    ("https://shop.example/?utm_source=ads&utm_medium=cpm", None), ("https://shop.example/?utm_source=partner&utm_medium=affiliate", None),
    ("https://shop.example/?utm_source=sms&utm_medium=sms", None), ("https://shop.example/?utm_source=radio&utm_medium=audio", None),
)  # fmt: skip


def season(seed: int, *, cells: int, batches: int, on_mondays: bool = False) -> list[Delivery]:
    """Many cells and the clock, which every batch carries on: to LAST in the end, or, on_mondays, each batch exactly to a Monday's midnight."""
    ends = [FIRST_MONDAY + WEEKS * (batch + 1) // batches * 7 * DAY if on_mondays else LAST * (batch + 1) // batches for batch in range(batches)]
    clock = [
        Delivery(batch, "web", {"id": f"k0.{number}", "type": "page_viewed", "at": moment(at), "visitor": "k0.v0"})
        for number, (batch, at) in enumerate([(0, 0), *enumerate(ends)])
    ]
    delays = (0,) if on_mondays else (0, 0, 0, 5 * SECOND, DAY)
    return [*clock, *(delivery for number in range(1, cells + 1) for delivery in _Cell(f"k{number}", seed, ends[-1], delays).deliveries(ends))]


def instant(record: Mapping[str, object]) -> int:
    """When it happened, microseconds since BASE."""
    return round((datetime.fromisoformat(str(record["at"])) - BASE) / (datetime.resolution))


def cell_of(record: Mapping[str, object]) -> str:
    return next(str(record[name]).split(".", maxsplit=1)[0] for name in ("id", "visitor", "user", "email") if record.get(name))


class _Cell:
    """A handful of people with their devices, logins and orders, all drawn from the name and the seed."""

    def __init__(self, name: str, seed: int, last: int, delays: Sequence[int]) -> None:
        self.rng = rng = random.Random(f"{name}:{seed}")
        self.name, self.last, self.delays = name, last, delays
        self.visitors = [f"{name}.v{i}" for i in range(rng.randint(1, 5))]
        self.users = [f"{name}.u{i}" for i in range(rng.randint(0, 4))]
        self.emails = [f"{name}.e{i}@mail.example" for i in range(rng.randint(0, 2))]
        self.orders = [f"{name}.o{i}" for i in range(rng.randint(0, 3))]
        self.login, self.bots, self.staff = rng.choice([0.1, 0.3, 0.7]), rng.choice([0, 0, 0.15]), rng.choice([0, 0, 0.15])
        self.sessionless, self.desk = rng.choice([0, 0, 0.3]), rng.choice([0, 0.2])

    def visit_start(self) -> int:
        rng = self.rng
        day = rng.randrange(FIRST_MONDAY // DAY + WEEKS * 7 + 2)
        if rng.random() < 0.15:
            day = (FIRST_MONDAY + rng.randrange(WEEKS + 1) * 7 * DAY) // DAY
        at = day * DAY + (rng.choice([-1, 0, 0, 1, -GAP, -5 * MINUTE]) if rng.random() < 0.3 else rng.randrange(DAY))
        return min(self.last, max(0, at))

    def event(self, at: int, place: Mapping[str, object]) -> dict[str, object]:
        rng = self.rng
        kind = rng.choice(_TYPES)
        paid = kind in ("order_completed", "order_refunded") and rng.random() < 0.9
        return {
            **place,
            "type": kind,
            "at": moment(at),
            "received": moment(min(self.last, at + rng.choice(self.delays))),
            "order": rng.choice(self.orders) if self.orders and kind.startswith("order") and rng.random() < 0.8 else None,
            "value": rng.choice([10, 10, 10.5, 99.99]) * (-1 if kind == "order_refunded" else 1) if paid else None,
            "currency": rng.choice(["USD", "USD", "EUR"]) if paid else None,
        }

    def place(self) -> dict[str, object]:
        """What the events of one visit share."""
        rng = self.rng
        url, referrer = rng.choice(_ARRIVALS)
        return {
            "visitor": None if rng.random() < self.sessionless else rng.choice(self.visitors),
            "user": rng.choice(self.users) if self.users and rng.random() < self.login else None,
            "email": rng.choice(self.emails) if self.emails and rng.random() < self.login / 2 else None,
            "agent": _CRAWLER if rng.random() < self.bots else rng.choice(_AGENTS),
            "staff": rng.random() < self.staff,
            "url": url,
            "referrer": referrer,
        }

    def visit(self, start: int, prefix: str) -> list[tuple[str, dict[str, object]]]:
        rng, found, at = self.rng, [], start
        if self.users and rng.random() < self.desk:
            kept = ("type", "at", "received", "email", "order", "value", "currency")
            record = self.event(at, {"email": rng.choice([None, *self.emails])})
            return [("desk", {**{name: record.get(name) for name in kept}, "user": rng.choice(self.users)})]
        place = self.place()
        for number in range(rng.randint(1, 6)):
            if at > self.last:
                break
            record = {"id": f"{prefix}.{number}", **self.event(at, place)}
            found.append(("web", record))
            again = at + rng.choice([MINUTE, DAY, DAY + 1])
            if record["order"] and rng.random() < 0.3 and again <= self.last:
                report = {"id": f"{prefix}.{number}.again", "at": moment(again), "received": moment(again), "agent": rng.choice([record["agent"], _CRAWLER])}
                found.append(("web", record | report))
            if place["visitor"] and self.users and rng.random() < 0.1:
                place = {**place, "user": rng.choice(self.users)}
            at += rng.choice(_PAUSES)
        return found

    def deliveries(self, ends: Sequence[int]) -> list[Delivery]:
        """Each event in the batch that ends at or after it, or later; logins of some cells all at the end; some events twice."""
        rng, found, batches = self.rng, [], len(ends)
        late, late_logins = rng.choice([0, 0.1, 0.3]), rng.random() < 0.3
        starts = sorted(self.visit_start() for _ in range(rng.randint(2, 14)))
        for number, start in enumerate(starts):
            for source, record in self.visit(start, f"{self.name}.{number}"):
                own = bisect_left(ends, instant(record))
                batch = batches - 1 if late_logins and record.get("user") else rng.randint(own, batches - 1) if rng.random() < late else own
                found.append(Delivery(batch, source, record))
                if rng.random() < 0.05:
                    found.append(Delivery(rng.randint(own, batches - 1), source, record))
        return found


def other_futures(deliveries: Sequence[Delivery], seed: int) -> tuple[list[Delivery], dict[str, int]]:
    """Another log of which each cell is the same before a Monday of its own; and those Mondays, in microseconds since BASE.

    From its Monday on, events are left out, altered or added, logins that link people and over-share identifiers among them. The clock stays as it is.
    """
    cells: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        cells.setdefault(cell_of(delivery.record), []).append(delivery)
    found: list[Delivery] = []
    cuts: dict[str, int] = {}
    last = max(instant(delivery.record) for delivery in cells["k0"])
    for name, members in cells.items():
        cell = _Cell(name, seed, last, (0,))
        rng = random.Random(f"{name}:{seed}:futures")
        cut = cuts[name] = FIRST_MONDAY + rng.randint(1, WEEKS - 1) * 7 * DAY
        if name == "k0":
            found.extend(members)
            continue
        cell.visitors = sorted({str(d.record["visitor"]) for d in members if d.record.get("visitor")} | {f"{name}.new"})
        cell.users = sorted({str(d.record["user"]) for d in members if d.record.get("user")} | {f"{name}.u0", f"{name}.u9"})
        cell.login = 0.8
        for delivery in members:
            chance = rng.random() if instant(delivery.record) >= cut else 1.0
            if chance >= 0.6:
                found.append(delivery)
            elif chance >= 0.3:
                found.append(Delivery(delivery.batch, delivery.source, delivery.record | _altered(rng, cell, delivery.record, cut)))
        before = [delivery for delivery in members if delivery.source == "web" and instant(delivery.record) < cut]
        # What was going on at the cut goes on, to the microsecond: the session, the order, and an id that was used before.
        for number, delivery in enumerate(before[-2:]):
            change = {
                "id": f"{name}.more.{number}",
                "at": moment(cut + rng.choice([0, 0, 1, MINUTE])),
                "received": moment(cut + MINUTE),
                "user": rng.choice(cell.users),
            }
            found.append(Delivery(0, "web", delivery.record | change))
            found.append(Delivery(0, "web", delivery.record | change | {"id": delivery.record["id"]}))
        for number in range(rng.randint(0, 8)):
            start = max(cut, rng.choice([cut, cut + MINUTE, cell.visit_start()]))
            found.extend(Delivery(0, source, record) for source, record in cell.visit(start, f"{name}.added.{number}"))
    return found, cuts


def _altered(rng: random.Random, cell: _Cell, record: Mapping[str, object], cut: int) -> dict[str, Any]:
    at = min(cell.last, max(cut, instant(record) + rng.choice([-DAY, -MINUTE, 1, DAY])))
    other: dict[str, Any] = {
        "at": moment(at), "received": moment(at), "user": rng.choice(cell.users), "type": rng.choice(_TYPES), "visitor": rng.choice(cell.visitors),
        "value": 7, "currency": "USD",
    }  # fmt: skip
    kept = [name for name in other if name in record and name not in ("at", "received")]
    changed = rng.sample(kept, rng.randint(1, len(kept)))
    return {name: other[name] for name in changed} | ({"at": other["at"], "received": other["received"]} if rng.random() < 0.5 else {})
