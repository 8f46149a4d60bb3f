"""Random histories of consent on top of random logs of some months: grants, withdrawals and lapses by letter, statements on web events, countries.

A letter names one or two of a cell's visitors and logins, among them some that no event ever saw; some come weeks late, some with two contents.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.integration.equality_logs import _WEB_KEYS, BASE, DAY, RATES, SETTINGS, SOURCES, Delivery, give, moment
from tests.integration.feature_logs import FIRST_MONDAY, LAST, WEEKS, cell_of, season
from tests.integration.stepwise import Stepwise

SCOPES = ("profiling", "email", "push")
RULES = {"profiling": {"EU": "denied", "US-CA": "granted"}, "email": {"US-CA": "granted", "default": "denied"}}
CONSENT = {"scopes": ["push"], "when_absent": RULES, "jurisdictions": {"EU": ["DE", "FR"], "US-CA": []}}
LETTERS: dict[str, Any] = {
    "format": "ndjson",
    "columns": {"event_id": "id", "event_type": "type", "occurred_at": "at", "received_at": "received", "anonymous_id": "visitor", "user_id": "user"},
    "namespaces": {"user_id": "people", "anonymous_id": "web"},
    "session_key": "none",
    "consent": {
        "separator": ",",
        "events": {
            "types": {"consent_granted": "grant", "consent_withdrawn": "withdraw", "consent_expired": "expire"},
            "scopes": "scopes", "expires_at": "until", "jurisdiction": "law", "channel": {"const": "letter"},
        },
    },
}  # fmt: skip
_LETTER_KEYS = ("id", "type", "at", "received", "visitor", "user", "scopes", "until", "law")


def consent_shop(directory: Path, **settings: Any) -> Stepwise:
    """An empty project of the web, the desk and the letters."""
    sources = copy.deepcopy(SOURCES)
    sources["web"]["columns"]["country"] = {"column": "country", "optional": True}
    sources["web"]["consent"] = {"scopes": {"column": "stated", "optional": True}, "separator": ",", "declared": ["profiling", "push"]}
    made = Stepwise(directory, {**sources, "letters": LETTERS}, {**SETTINGS, "consent": CONSENT, **settings})
    (directory / "rates.csv").write_text(RATES)
    return made


def consents(seed: int, *, cells: int, batches: int, on_mondays: bool = False) -> list[Delivery]:
    """A season with histories of consent."""
    base = season(seed, cells=cells, batches=batches, on_mondays=on_mondays)
    ends = [FIRST_MONDAY + WEEKS * (batch + 1) // batches * 7 * DAY if on_mondays else LAST * (batch + 1) // batches for batch in range(batches)]
    members: dict[str, list[Delivery]] = {}
    for delivery in base:
        members.setdefault(cell_of(delivery.record), []).append(delivery)
    found: list[Delivery] = []
    for name, own in members.items():
        rng = random.Random(f"{name}:{seed}:consent")
        stating = rng.choice([0, 0, 0.3])
        countries = rng.choice([[None], [None, "US"], ["DE", None], ["US", "FR"]])
        for delivery in own:
            added: dict[str, object] = {}
            if delivery.source == "web" and name != "k0":  # a duplicate stays one: what is added is the id's
                draw = random.Random(f"{delivery.record['id']}:{seed}")
                added = {"country": draw.choice(countries), "stated": draw.choice(["profiling", "push,profiling", "push"]) if draw.random() < stating else None}
            found.append(Delivery(delivery.batch, delivery.source, delivery.record | added))
        if name != "k0":
            found += _letters(rng, name, own, ends)
    return found


def _letters(rng: random.Random, name: str, own: Sequence[Delivery], ends: Sequence[int]) -> list[Delivery]:
    last = ends[-1]
    visitors = sorted({str(d.record["visitor"]) for d in own if d.record.get("visitor")} | {f"{name}.unseen"})
    users = sorted({str(d.record["user"]) for d in own if d.record.get("user")})
    moments = [round((_at(d) - BASE).total_seconds() * 1_000_000) for d in own]
    found = []
    for number in range(rng.choice([0, 1, 2, 5, 9])):
        at = rng.choice([*moments, FIRST_MONDAY + rng.randrange(WEEKS) * 7 * DAY, rng.randrange(last), last]) + rng.choice([0, 0, 1, -1, DAY])
        at = min(last, max(0, at)) if rng.random() < 0.85 else last + rng.choice([0, 0, 1, DAY])  # at data_now, and by a clock that runs ahead
        record: dict[str, object] = {
            "id": f"{name}.c{number}", "type": rng.choice(["consent_granted", "consent_granted", "consent_withdrawn", "consent_expired"]), "at": moment(at),
            "received": moment(min(last, at + rng.choice([0, 0, DAY]))), "visitor": rng.choice(visitors) if rng.random() < 0.7 or not users else None,
            "user": rng.choice(users) if users and rng.random() < 0.5 else None, "scopes": ",".join(rng.sample(SCOPES, rng.choice([1, 1, 2]))),
            "until": moment(at + rng.choice([0, DAY, 21 * DAY, 7 * DAY - at % (7 * DAY)])) if rng.random() < 0.3 else None,
            "law": rng.choice([None, None, ("EU", " eu", "fr")[number % 3], "US-CA", "elsewhere"]),
        }  # fmt: skip
        if not record["visitor"] and not record["user"]:
            record["visitor"] = visitors[0]
        arrives = next((batch for batch, end in enumerate(ends) if at <= end), len(ends) - 1)
        batch = rng.randint(arrives, len(ends) - 1)
        found.append(Delivery(batch, "letters", record))
        if rng.random() < 0.1:  # the same id again, with an earlier moment and other identifiers: that content is the event from then on
            other = {**record, "at": moment(max(0, at - DAY)), "visitor": rng.choice(visitors), "user": None, "type": "consent_withdrawn", "until": None}
            found.append(Delivery(rng.randint(arrives, len(ends) - 1), "letters", other))
    return found


def _at(delivery: Delivery) -> datetime:
    return datetime.fromisoformat(str(delivery.record["at"]))


def give_consents(project: Stepwise, deliveries: Sequence[Delivery], name: str, *, shuffle: int = 0) -> None:
    """Writes deliveries as one file a source, in an order drawn with `shuffle`."""
    give(project, [delivery for delivery in deliveries if delivery.source == "desk"], name, shuffle=shuffle)
    for source, keys in (("web", (*_WEB_KEYS, "country", "stated")), ("letters", _LETTER_KEYS)):
        records = [{key: delivery.record.get(key) for key in keys} for delivery in deliveries if delivery.source == source]
        random.Random(shuffle).shuffle(records)
        if records:
            project.add(source, name, records)
