"""The filter against a slow twin: plain loops over whole hidden paths, from the true visits, with the waits' law hour by hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise, product
from math import exp, isclose

import numpy as np
import pytest
from scipy import stats

from ml.simulator import WorldSpec
from ml.simulator import catalogue as cat
from ml.simulator import journeys as model
from ml.simulator import people as persons
from ml.simulator import visits as contents
from ml.simulator.catalogue import ENTRY_CHANNELS, EVENT
from ml.simulator.journeys import GONE, in_order, journey_steps, tables_of
from ml.simulator.oracle import oracle_scores
from ml.simulator.oracle.filtering import filter_visits
from ml.simulator.oracle.horizon import APP_SHARES, _visit_outcomes, outlook
from ml.simulator.oracle.observed import observed_visits
from ml.simulator.people import draw_people
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Stream

HOUR = 3_600_000
Visit = dict[str, float]


def true_visits(spec: WorldSpec) -> tuple[list[list[Visit]], np.ndarray]:
    """Per person, what each visit was; and the filter's answer for all visits in the same order."""
    people = draw_people(spec, 0, spec.customers, Stream(spec.seed, "people"))
    found: list[list[Visit]] = [[] for _ in range(spec.customers)]
    parts = []
    for step in journey_steps(people, spec, Stream(spec.seed, "journeys")):
        parts.append(step.rows)
        visits = step.visits
        for place, who in enumerate(visits.who.tolist()):
            low, high = np.searchsorted(step.rows.serial, [visits.key[place], visits.key[place] + contents.LAST_SITE_SLOT])
            rows = step.rows.take(np.arange(low, high))
            names = [int(event) for event in rows.event]
            count = {name: names.count(EVENT[name]) for name in EVENT}
            own = {name: float(getattr(visits, name)[place]) for name in (
                "start", "contact", "is_app", "way_in", "was_logged_in", "signs_up", "logs_in", "subscribes", "chats", "buys", "is_registered", "agent",
            )}  # fmt: skip
            asks = (rows.event == EVENT["checkout_started"]) | (rows.event == EVENT["crm_call_logged"])
            found[who].append(own | {
                "first": float(rows.occurred.min()), "ended": float(step.ended[place]), "pages": count["page_viewed"] + count["product_viewed"] - 1,
                "products": count["product_viewed"], "fills": count["product_added_to_cart"], "checkout": count["checkout_started"],
                "review": count["review_posted"], "phone": float((rows.phone[asks] > 0).any()) if asks.any() else -1.0,
                "account": float(own["is_registered"] and not (own["signs_up"] and own["way_in"] == ENTRY_CHANNELS.index("email"))),
                "mailed": float(count["email_opened"] > 0),
            })  # fmt: skip
    tables = tables_of(spec)
    filtered = filter_visits(observed_visits(in_order(parts), is_identified=spec.is_identified), tables, spec)
    return found, filtered.after


def bernoulli(flag: float, rate: float) -> float:
    return rate if flag else 1 - rate


def emission(visit: Visit, earlier: list[Visit], stage: int, *, existing: int, phone: int, is_identified: bool) -> float:
    registered = existing or any(other["signs_up"] for other in earlier)
    reachable = existing or any(other["signs_up"] or other["subscribes"] or other["buys"] for other in earlier)
    site, mail, call, store = model.CONTACT_WEIGHTS[stage]
    shares = [site + (0 if reachable else mail) + (0 if reachable or phone else call), mail if reachable else 0, call if reachable or phone else 0, store]
    contact = int(visit["contact"])
    likelihood = float(shares[contact])
    if not is_identified and (contact in {1, 2, 3} or visit["mailed"]) and visit["account"] != bool(registered):
        return 0.0
    if contact == contents.CALL:
        likelihood *= 1.0 if visit["phone"] == phone else 0.0
    if contact != contents.SITE:
        return likelihood
    way = {name: float(share) for name, share in zip(ENTRY_CHANNELS, model.ENTRY_WEIGHTS[stage] / model.ENTRY_WEIGHTS[stage].sum(), strict=True)}
    if not reachable:
        way["direct"] += way.pop("email")
    if visit["is_app"]:
        pushed = way["push"] + way.get("email", 0.0)
        way = {"push": pushed, "direct": 1 - pushed}
    else:
        way["direct"] += way.pop("push")
    likelihood *= way.get(ENTRY_CHANNELS[int(visit["way_in"])], 0.0)
    if not registered:
        likelihood *= bernoulli(visit["signs_up"], model.SIGN_UP[stage])
    elif visit["signs_up"]:
        return 0.0
    if registered and not visit["was_logged_in"]:
        likelihood *= bernoulli(visit["logs_in"], model.LOG_IN[stage])
    elif visit["logs_in"]:
        return 0.0
    if not reachable and not visit["signs_up"]:
        likelihood *= bernoulli(visit["subscribes"], model.SUBSCRIBE[stage])
    elif visit["subscribes"]:
        return 0.0
    likelihood *= bernoulli(visit["chats"], model.CHAT[stage]) * bernoulli(visit["fills"], contents.CART_RATE[stage])
    mean = contents.BROWSE_MEAN[stage]
    tails = [1.0 if pages == 0 else exp(-(pages - 0.35) / mean) if pages <= 8 else 0.0 for pages in range(10)]
    pages, products = int(visit["pages"]), int(visit["products"])
    likelihood *= (tails[pages] - tails[pages + 1]) * contents.PRODUCT_SHARE[stage] ** products * (1 - contents.PRODUCT_SHARE[stage]) ** (pages - products)
    if stage == model.PURCHASE:
        likelihood *= visit["checkout"] * visit["buys"]
    else:
        likelihood *= bernoulli(visit["checkout"], contents.CHECKOUT_RATE[stage] if visit["fills"] else 0.0) * (1 - visit["buys"])
    likelihood *= bernoulli(visit["review"], contents.REVIEW_RATE if stage == model.POST_SALE else 0.0)
    if visit["checkout"]:
        likelihood *= bernoulli(visit["phone"], 0.4 * phone)
    return likelihood


def is_after_social(earlier: list[Visit]) -> bool:
    return any(other["contact"] == contents.SITE and ENTRY_CHANNELS[int(other["way_in"])] in {"social", "paid_social"} for other in earlier)


def move(visit: Visit, earlier: list[Visit], kind: int, stage: int) -> np.ndarray:
    effect = model.CHAT_EFFECT * visit["chats"]
    if visit["contact"] == contents.SITE:
        effect += model.ENTRY_EFFECT[int(visit["way_in"])]
    by_mail = visit["contact"] == contents.MAIL_ONLY or (visit["contact"] == contents.SITE and ENTRY_CHANNELS[int(visit["way_in"])] == "email")
    effect += model.EMAIL_AFTER_SOCIAL * (by_mail and is_after_social(earlier))
    weights = [
        model.MOVES[stage, to] * (model.TYPE_LEAVING[kind] if to == GONE else model.TYPE_FORWARD[kind] * exp(effect) if to > stage else 1.0) for to in range(6)
    ]
    return np.array(weights) / sum(weights)


class Start:
    """The law of the next visit's start after a visit that ended at an instant."""

    def __init__(self, ended: float, kind: int, stage: int) -> None:
        self.scale, self.shape = float(model.SOJOURN_DAYS[stage] * model.TYPE_PACE[kind]), float(model.SOJOURN_SHAPE[stage])
        self.ended, self.midnight, self.earliest = ended, ended // DAY_MS * DAY_MS, ended + 2 * HOUR
        self.resting = sum(self.on_day(day) * self.curve_to((self.earliest - self.midnight) / HOUR - 24 * day) for day in (0, 1))

    def later(self, days: float) -> float:
        return exp(-((max(days, 0.0) / self.scale) ** self.shape))

    def on_day(self, day: float) -> float:
        ahead = (self.midnight + day * DAY_MS - self.ended) / DAY_MS
        return self.later(ahead) - self.later(ahead + 1)

    @staticmethod
    def curve_to(hour: float) -> float:
        return float(np.interp(hour, range(25), model.DAY_CURVE))

    def density(self, start: float) -> float:
        """An hour."""
        if start < self.earliest:
            return 0.0
        hour = int((start % DAY_MS) // HOUR)
        plain = self.on_day((start - self.midnight) // DAY_MS) * (model.DAY_CURVE[hour + 1] - model.DAY_CURVE[hour])
        return plain + (self.resting / 4 if start < self.earliest + 4 * HOUR else 0.0)

    def share(self, opens: float) -> float:
        """P(it lies in the hour that opens then): the density is constant between marks."""
        marks = [opens, *(mark for mark in (self.earliest, self.earliest + 4 * HOUR) if opens < mark < opens + HOUR), opens + HOUR]
        return sum(self.density((low + high) / 2) * (high - low) / HOUR for low, high in pairwise(marks))


def wait(ended: float, first: float, kind: int, stage: int) -> float:
    """Density of the first row, by integrating over the gap before it."""
    law = Start(ended, kind, stage)
    earliest, density = law.earliest, law.density
    marks = sorted({gap for gap in (first % HOUR, first - earliest, first - earliest - 4 * HOUR) if 2_000 < gap < 540_000})
    edges = [2_000, *marks, 540_000]
    inside = 0.0
    for low, high in pairwise(edges):  # the density is constant between two marks
        inside += density(first - (low + high) / 2) * (exp(-(low - 2_000) / 45_000) - exp(-(high - 2_000) / 45_000))
    return inside + density(first - 540_000) * exp(-538_000 / 45_000)


def twin(visits: list[Visit], spec: WorldSpec) -> np.ndarray:
    """P(existing, phone, type, stage) after the last visit, by summing over every path of stages."""
    found = np.zeros((2, 2, 4, 5))
    day = (visits[0]["first"] - spec.start_ms) // DAY_MS
    steps = range(len(visits))
    moves = [[[move(visits[v], visits[:v], kind, s) for s in range(5)] for v in steps] for kind in range(4)]
    waits = [[[wait(visits[v - 1]["ended"], visits[v]["first"], kind, s) if v else 1.0 for s in range(5)] for v in steps] for kind in range(4)]
    for existing, phone in product((0, 1), repeat=2):
        days = (persons.EXISTING_SPAN if existing else persons.FIRST_TOUCH_SPAN) * (spec.days - 1)
        prior = min(max(days - day, 0.0), 1.0) / days * (0.15 if existing else 0.85) * (0.6 if phone else 0.4)
        seen = [[emission(visits[v], visits[:v], s, existing=existing, phone=phone, is_identified=spec.is_identified) for s in range(5)] for v in steps]
        for kind in range(4):
            for path in product(range(5), repeat=len(visits) - 1):
                stages = (model.POST_SALE if existing else model.AWARENESS, *path)
                chance = prior * persons.TYPE_WEIGHTS[kind]
                for v, stage in enumerate(stages):
                    chance *= seen[v][stage] * (moves[kind][v - 1][stages[v - 1]][stage] * waits[kind][v][stage] if v else 1.0)
                found[existing, phone, kind, stages[-1]] += chance
    return np.asarray(found / found.sum())


@pytest.mark.parametrize("is_identified", [True, False])
def test_the_filter_gives_what_summing_over_all_hidden_paths_gives(is_identified: bool) -> None:
    spec = WorldSpec(customers=600, days=182, seed=23, mechanisms={}, is_identified=is_identified)
    by_person, after = true_visits(spec)
    ends = np.cumsum([len(visits) for visits in by_person])
    shown: dict[str, int] = {}
    tried = 0
    for visits, end in zip(by_person, ends.tolist(), strict=True):
        names = ("signs_up", "subscribes", "chats", "buys", "logs_in", "fills", "review", "is_app", "mailed")
        traits = {name for visit in visits for name in names if visit[name]}
        traits |= {f"contact {visit['contact']:.0f}" for visit in visits} | {f"{len(visits)} visits"}
        if any(is_after_social(visits[:place]) and visit["mailed"] for place, visit in enumerate(visits[:-1])):
            traits.add("mail after social")
        if len(visits) > 4 or all(shown.get(trait, 0) >= 3 for trait in traits):
            continue
        for trait in traits:
            shown[trait] = shown.get(trait, 0) + 1
        assert np.allclose(after[end - 1], twin(visits, spec), atol=1e-9), visits
        tried += 1
    assert tried > 15 and len(shown) == 18, shown


def app_shares(visits: list[Visit]) -> dict[float, float]:
    """How often a person's visits to the site are in the app: share -> weight, given the devices seen. Devices rotate from the first one."""
    kinds = (cat.PHONES, cat.DESKTOPS, cat.TABLETS, cat.APPS)
    weights: dict[float, float] = {}
    for count, lead in product(range(1, 5), range(4)):
        own = {kinds[(lead + slot) % 4]: model.DEVICE_WEIGHTS[slot] / model.DEVICE_WEIGHTS[:count].sum() for slot in range(count)}
        weight = persons.DEVICE_COUNT_WEIGHTS[count - 1] * persons.LEAD_DEVICE_WEIGHTS[lead]
        for visit in visits:
            if visit["contact"] == contents.SITE:
                weight *= sum(share for agents, share in own.items() if int(visit["agent"]) in agents)
        share = round(float(own.get(cat.APPS, 0.0)), 12)
        weights[share] = weights.get(share, 0.0) + float(weight)
    return weights


@pytest.mark.prove
def test_the_probability_is_the_mean_over_all_hidden_paths_and_next_visits() -> None:
    spec = WorldSpec(customers=150, days=182, seed=29, mechanisms={}, is_identified=True)
    by_person, _ = true_visits(spec)
    as_of = datetime(2026, 4, 6)
    instant = (as_of - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    table = oracle_scores(spec, [as_of])
    told = dict(zip(table["person_id"].to_pylist(), table["p_observable"].to_pylist(), strict=True))
    view = outlook(tables_of(spec), instant, instant + 7 * DAY_MS, 7)
    tried = near = can_be_reached = 0
    for number, every in enumerate(by_person):
        visits = [visit for visit in every if visit["first"] < instant]
        if not 1 <= len(visits) <= 3:
            continue
        age = instant - visits[-1]["ended"]
        reached = any(visit["signs_up"] or visit["subscribes"] or visit["buys"] for visit in visits)
        if age > DAY_MS and number % 6 and not (reached and age < 25 * DAY_MS):
            continue
        believed, last, earlier = twin(visits, spec), visits[-1], visits[:-1]
        past = round((instant - last["ended"] // DAY_MS * DAY_MS) / DAY_MS)
        social = int(is_after_social(visits))
        devices = app_shares(visits)
        hits = left = 0.0
        for kind, stage in product(range(4), range(5)):
            moves = move(last, earlier, kind, stage)
            left += believed[:, :, kind, stage].sum() * moves[GONE]
            for to in range(5):
                law = Start(last["ended"], kind, to)
                left += believed[:, :, kind, stage].sum() * moves[to] * (1 - sum(law.share(law.midnight + hour * HOUR) for hour in range(24 * past)))
                shares = np.array([law.share(instant + hour * HOUR) for hour in range(168)]).reshape(7, 24)
                for share, weight in devices.items():
                    value = view.hours[int(np.flatnonzero(share == APP_SHARES)[0]), social, kind, to]
                    for existing, phone in product((0, 1), repeat=2):
                        ahead = (shares * value[:, :, int(existing or reached), phone]).sum()
                        hits += believed[existing, phone, kind, stage] * moves[to] * ahead * weight / sum(devices.values())
        assert isclose(told[f"p{number:07d}"], hits / left, rel_tol=1e-6), visits
        tried, near, can_be_reached = tried + 1, near + (past == 1), can_be_reached + reached
    assert tried >= 10 and near >= 1 and can_be_reached >= 3, (tried, near, can_be_reached)


@pytest.mark.parametrize("before", [(0, 1, 1, 1, 1, 0), (3, 2, 1, 0, 1, 0), (2, 1, 0, 0, 0, 0), (3, 4, 0, 1, 0, 1)])
def test_where_a_visit_leads_is_the_share_of_drawn_visits_that_lead_there(before: tuple[int, ...]) -> None:
    kind, stage, social, reach, phone, app = before
    count = 250_000
    spec, stream = WorldSpec(customers=10), Stream(kind, "one visit")
    tables = tables_of(spec)
    drawn = draw_people(WorldSpec(customers=1), 0, 1, Stream(1, "people"))
    numbers = np.arange(count)
    everybody = persons.People(**{
        name: np.resize(np.asarray(getattr(drawn, name)), (count, 4) if name == "agents" else count) for name in drawn.__dataclass_fields__
    })  # fmt: skip
    everybody.number, everybody.type, everybody.has_phone = numbers, numbers * 0 + kind, numbers >= (0 if phone else count)
    everybody.device_count, everybody.agents = numbers * 0 + 1, np.tile([11 if app else 1, 0, 0, 0], (count, 1))
    flags = np.ones(count, dtype=np.bool_)
    state = model.State(
        time=numbers * 0 + spec.start_ms, stage=numbers * 0 + stage, registered=flags & False, reachable=flags & bool(reach),
        renewals=np.zeros((count, 4), dtype=np.int64), logged_in=np.zeros((count, 4), dtype=np.bool_), after_social=flags & bool(social),
    )  # fmt: skip
    visits = model._visits(everybody, state, numbers, 1, stream, tables=tables)
    moved = model._move_on(everybody, state, visits, visits.start, stream, tables=tables)
    stays = moved < GONE
    cells = (moved * 4 + state.after_social * 2 + state.reachable)[stays]
    found = np.append(np.bincount(cells, minlength=20), (~stays).sum())
    place = -1 if app else 0
    expected = _visit_outcomes(tables, 0)[kind, stage, place, social, reach, phone].reshape(20) * count
    expected = np.append(expected, count - expected.sum())
    possible = expected > 5
    assert found[~possible].sum() < 30
    surprise = ((found - expected)[possible] ** 2 / expected[possible]).sum()
    assert stats.chi2.sf(surprise, possible.sum() - 1) > 1e-4, (found, expected)
    assert isclose(expected.sum(), count)
