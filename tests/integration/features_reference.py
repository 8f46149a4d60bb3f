"""The features and the label written as plainly as possible, from the words of their yml: slow Python over lists, one customer and point at a time.

Taken as given are an event's own attributes (type, stage, channel, device, whether it counts, its worth, its identifiers). Who is who, sessions,
conversions, windows, points and labels are worked out here, from the events before the point alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import combinations

from tests.integration.stepwise import Stepwise
from waymark.identity.probabilities import link_probability

DAY, WEEK = timedelta(days=1), timedelta(days=7)
LOOKBACK = timedelta(days=90)
GAP = timedelta(minutes=30)
FIRST_GOAL = "purchase"
STAGES = ("awareness", "consideration", "intent", "purchase", "post_sale")
# Channels by the group that features tell apart; any other channel is "other". A group's place decides between touches of one instant.
GROUPS = {
    "direct": {"direct"}, "organic_search": {"organic_search", "organic_shopping"}, "paid_search": {"paid_search", "paid_shopping", "cross_network"},
    "organic_social": {"organic_social", "organic_video"}, "paid_social": {"paid_social", "paid_video"}, "email": {"email"},
    "display": {"display", "paid_other"}, "referral": {"referral", "affiliates"}, "message": {"sms", "mobile_push"}, "other": set(),
}  # fmt: skip
DEVICES = ("desktop", "mobile", "tablet", "other")
# What `placed` adds to an event.
PLACE = ("number", "visit_started_at", "is_intent_start", "is_jump_back")
Key = tuple[str, datetime]
Features = dict[str, object]


@dataclass(frozen=True)
class Event:
    """An event as int_events has it, and (from `number` on) its place in its session; without session, all of that is as in a session of its own."""

    event_id: str
    occurred_at: datetime
    event_type: str
    session_key_id: int | None
    node_ids: tuple[int, ...]
    channel: str
    stage: str | None
    device_type: str | None
    is_counted: bool
    goals: tuple[str, ...]
    micro_conversion: str | None
    order_id: str | None
    value: Decimal | None
    currency: str | None
    value_reporting: Decimal | None
    source: str = ""
    number: int | None = None
    visit_started_at: datetime | None = None
    is_intent_start: bool = False
    is_jump_back: bool = False

    @property
    def rank(self) -> int | None:
        return STAGES.index(self.stage) + 1 if self.stage else None

    @property
    def group(self) -> str:
        return next((name for name, channels in GROUPS.items() if self.channel in channels), "other")

    @property
    def is_touch(self) -> bool:
        return self.number in (None, 1)


@dataclass(frozen=True)
class Known:
    """Who is who as known at an instant: the customer of each identifier, none for those that too many share."""

    customers: dict[int, str]
    nodes: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def customer_of(self, event: Event) -> str | None:
        return next((self.customers[node] for node in event.node_ids if node in self.customers), None)


@dataclass
class Log:
    """All events of a project, and what its settings say. names: (type, value, customer id if it is a component's earliest) by identifier."""

    events: list[Event]
    names: dict[int, tuple[str, str, str]]
    data_now: datetime
    max_neighbours: int
    horizon: timedelta

    def __post_init__(self) -> None:
        self.events = placed(sorted(self.events, key=lambda event: (event.occurred_at, event.event_id)))
        self._known: dict[datetime, Known] = {}
        self._active: dict[datetime, dict[str, list[Event]]] = {}

    @cached_property
    def conversions(self) -> set[str]:
        return conversions(self.events)

    @cached_property
    def points(self) -> list[datetime]:
        first = min(event.occurred_at for event in self.events)
        monday = datetime(first.year, first.month, first.day) - timedelta(days=first.weekday())
        mondays = [monday + week * WEEK for week in range(1, (self.data_now - monday) // WEEK + 1)]
        return sorted({*mondays, self.data_now})

    def known(self, at: datetime) -> Known:
        if at not in self._known:
            self._known[at] = known([event for event in self.events if event.is_counted and event.occurred_at < at], self.names, self.max_neighbours)
        return self._known[at]

    def active(self, at: datetime) -> dict[str, list[Event]]:
        """Events before the point that count, by their customer as known at it, in order."""
        if at not in self._active:
            found: dict[str, list[Event]] = defaultdict(list)
            for event in self.events:
                customer = self.known(at).customer_of(event) if event.is_counted and event.occurred_at < at else None
                if customer:
                    found[customer].append(event)
            self._active[at] = found
        return self._active[at]

    def keys(self) -> set[Key]:
        return {(customer, at) for at in self.points for customer, events in self.active(at).items() if events[-1].occurred_at >= at - LOOKBACK}


def read_log(project: Stepwise) -> Log:
    """The events of a project that ran."""
    settings = project.project.settings
    assert settings.goals[0].name == FIRST_GOAL
    assert timedelta(minutes=settings.time.session_gap_minutes) == GAP
    columns = [column.name for column in fields(Event) if column.name not in PLACE]
    found = [dict(zip(columns, row, strict=True)) for row in project.rows(f"select {', '.join(columns)} from intermediate.int_events")]
    events = [Event(**row | {name: tuple(row[name] or ()) for name in ("node_ids", "goals")}) for row in found]  # type: ignore[arg-type]
    names = {
        int(str(node)): (str(kind), str(value), str(customer))
        for node, kind, value, customer in project.rows("select node_id, identifier_type, identifier_value, node_customer_id from identity.nodes")
    }
    ((data_now,),) = project.rows("select data_now from raw.run_clock")
    assert isinstance(data_now, datetime)
    return Log(events, names, data_now, settings.identity.max_neighbours, timedelta(days=settings.learning.horizon_days))


def known(events: Iterable[Event], names: dict[int, tuple[str, str, str]], max_neighbours: int) -> Known:
    """Components of identifiers that were seen together, without those that have too many neighbours; named after the earliest identifier.

    Links join one by one, the surest first, then the earliest; one that would bring together two accounts of one session, or people whose reports of one
    order contradict each other, joins nobody; nor does one bring together two accounts of one source.
    """
    events = list(events)
    first_seen: dict[int, datetime] = {}
    first_link: dict[tuple[int, int], datetime] = {}
    neighbours: dict[int, set[int]] = defaultdict(set)
    for event in events:
        for node in event.node_ids:
            first_seen[node] = min(first_seen.get(node, event.occurred_at), event.occurred_at)
        for one, other in combinations(sorted(set(event.node_ids), key=lambda node: names[node][:2]), 2):
            neighbours[one].add(other)
            neighbours[other].add(one)
            first_link[one, other] = min(first_link.get((one, other), event.occurred_at), event.occurred_at)
    over_shared = {node for node, others in neighbours.items() if len(others) > max_neighbours}
    apart = _kept_apart(events, names)
    component = {node: {node} for node in first_seen if node not in over_shared}

    def order(link: tuple[int, int]) -> tuple[object, ...]:
        one, other = link
        return (-link_probability(f"{names[one][0]}-{names[other][0]}"), first_link[link], names[one][:2], names[other][:2])

    for one, other in sorted(first_link, key=order):
        if one not in component or other not in component or component[one] is component[other]:
            continue
        here, there = component[one], component[other]
        sources = [{names[node][1].split(":")[0] for node in side if names[node][0] == "user_id"} for side in (here, there)]
        if not sources[0] & sources[1] and not any(apart.get(node, set()) & there for node in here):
            here |= there
            component.update(dict.fromkeys(there, here))
    found = Known({})
    for members in {id(members): members for members in component.values()}.values():
        customer = names[min(members, key=lambda node: (first_seen[node], *names[node][:2]))][2]
        found.customers.update(dict.fromkeys(members, customer))
        found.nodes[customer] = members
    return found


def _kept_apart(events: Sequence[Event], names: dict[int, tuple[str, str, str]]) -> dict[int, set[int]]:
    apart: dict[int, set[int]] = defaultdict(set)

    def keep(one: int, other: int) -> None:
        apart[one].add(other)
        apart[other].add(one)

    logins: dict[tuple[int, datetime], set[int]] = defaultdict(set)
    reports: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event.session_key_id is not None and event.visit_started_at is not None:
            logins[event.session_key_id, event.visit_started_at] |= {node for node in event.node_ids if names[node][0] == "user_id"}
        if event.order_id is not None and event.goals and event.node_ids:
            reports[event.source, event.order_id].append(event)
    for accounts in logins.values():
        for one, other in combinations(accounts, 2):
            keep(one, other)
    for told in reports.values():
        for first, second in combinations(told, 2):
            is_other = (first.value, first.currency) != (second.value, second.currency) or second.occurred_at - first.occurred_at > DAY
            if is_other and not set(first.node_ids) & set(second.node_ids):
                keep(first.node_ids[0], second.node_ids[0])
    return apart


def placed(events: Sequence[Event]) -> list[Event]:
    """The events, each with its place in its session. A pause longer than the gap ends a session of its key."""
    sessions: dict[int, list[Event]] = {}
    found = []
    for event in events:
        if not event.is_counted or event.session_key_id is None:
            found.append(event)
            continue
        session = sessions.get(event.session_key_id, [])
        if session and event.occurred_at - session[-1].occurred_at > GAP:
            session = []
        earlier = [before.rank for before in session if before.rank]
        placed_event = replace(
            event,
            number=len(session) + 1,
            visit_started_at=session[0].occurred_at if session else event.occurred_at,
            is_intent_start=event.stage == "intent" and STAGES.index("intent") + 1 not in earlier,
            is_jump_back=bool(earlier and event.rank and event.rank < earlier[-1]),
        )
        sessions[event.session_key_id] = [*session, placed_event]
        found.append(placed_event)
    return found


def conversions(events: Sequence[Event]) -> set[str]:
    """The events that stand for a conversion of the first goal: of one order's reports with equal worth, each at most a day after the one before, the first."""
    orders: dict[object, list[list[Event]]] = defaultdict(list)
    for event in events:
        if FIRST_GOAL in event.goals:
            chains = orders[(event.order_id, event.value, event.currency) if event.order_id else event.event_id]
            if not chains or event.occurred_at - chains[-1][-1].occurred_at > DAY:
                chains.append([])
            chains[-1].append(event)
    return {min(chain, key=lambda event: (not event.is_counted, event.occurred_at, event.event_id)).event_id for chains in orders.values() for chain in chains}


def age_days(event: Event, at: datetime) -> int:
    """Whole days before the point: 0 for the 24 hours just before it, its first instant included."""
    return (at - timedelta(microseconds=1) - event.occurred_at) // DAY


def hours(span: timedelta) -> float:
    return span / timedelta(hours=1)


def hours_since(events: Sequence[Event], at: datetime) -> float | None:
    return hours(at - events[-1].occurred_at) if events else None


def ratio(one: float | Decimal, other: float) -> float | None:
    return float(one) / other if other else None


def features(log: Log, customer: str, at: datetime) -> Features:
    """All columns of the three views for a customer as known at a point."""
    events = log.active(at)[customer]
    sessions = [event for event in events if event.number == 1]
    touches = [event for event in events if event.is_touch]
    intents = [event for event in events if event.stage == "intent"]
    bought = [event for event in events if event.event_id in log.conversions]
    refunds = [event for event in events if event.value_reporting is not None and event.value_reporting < 0]

    def within(found: Iterable[Event], days: int) -> list[Event]:
        return [event for event in found if at - timedelta(days=days) <= event.occurred_at]

    def counted(name: str, found: list[Event], windows: Sequence[int], *, total: bool = False) -> Features:
        return {**{f"{name}_{days}d": len(within(found, days)) for days in windows}, **({f"{name}_total": len(found)} if total else {})}

    def of(rule: Callable[[Event], object]) -> list[Event]:
        return [event for event in events if rule(event)]

    def revenue(found: Iterable[Event]) -> Decimal:
        return sum((event.value_reporting or Decimal(0) for event in found), Decimal(0))

    def furthest(found: Iterable[Event]) -> int | None:
        return max((event.rank for event in found if event.rank), default=None)

    page_views = of(lambda event: event.event_type in ("page_viewed", "screen_viewed"))
    micros = of(lambda event: event.micro_conversion)
    recent_sessions, sessions_90d = within(sessions, 28), within(sessions, 90)
    return {
        "identifier_count": len(log.known(at).nodes[customer]),
        "hours_since_last_event": hours_since(events, at),
        "hours_since_first_event": hours_since(events[:1], at),
        "hours_since_last_session": hours_since(sessions, at),
        **counted("event_count", events, (1, 7, 28, 90), total=True),
        **counted("page_view_count", page_views, (7, 28, 90)),
        **counted("session_count", sessions, (1, 7, 28, 90), total=True),
        "active_day_count_28d": len({age_days(event, at) for event in within(events, 28)}),
        "session_recency_weight": sum((0.5 ** (age_days(event, at) / 7) for event in sessions_90d), 0.0),
        "hours_between_sessions_mean": hours(sessions[-1].occurred_at - sessions[0].occurred_at) / (len(sessions) - 1) if len(sessions) > 1 else None,
        "events_per_session_28d": ratio(len(within(events, 28)), len(recent_sessions)),
        "page_views_per_session_28d": ratio(len(within(page_views, 28)), len(recent_sessions)),
        **_last_visit(events),
        **counted("micro_conversion_count", micros, (1, 7, 28, 90), total=True),
        **counted("consideration_event_count", of(lambda event: event.stage == "consideration"), (7, 28, 90)),
        **counted("intent_event_count", intents, (1, 7, 28, 90)),
        **counted("intent_session_count", of(lambda event: event.is_intent_start), (7, 28, 90), total=True),
        **counted("post_sale_event_count", of(lambda event: event.stage == "post_sale"), (28, 90)),
        **counted("jump_back_count", of(lambda event: event.is_jump_back), (7, 28, 90)),
        "hours_since_last_intent": hours_since(intents, at),
        "has_open_intent": bool(intents) and (not bought or intents[-1].occurred_at > bought[-1].occurred_at),
        **counted("touch_count", touches, (7, 28, 90)),
        **_channels(touches, lambda found: within(found, 90)),
        "last_device_type": _last_device(events),
        **{f"{name}_session_count_90d": sum(event.device_type == name for event in sessions_90d) for name in DEVICES[:3]},
        "mobile_session_share_90d": ratio(sum(event.device_type == "mobile" for event in sessions_90d), len(sessions_90d)),
        **counted("conversion_count", bought, (7, 28, 90), total=True),
        **{f"revenue_amount_{days}d": revenue(within(bought, days)) for days in (28, 90)},
        "revenue_amount_total": revenue(bought),
        "hours_since_last_conversion": hours_since(bought, at),
        "mean_order_amount_total": ratio(revenue(bought), len(bought)),
        **counted("refund_count", refunds, (90,)),
        "refund_amount_90d": -revenue(within(refunds, 90)),
        **{f"max_stage_rank_{days}d": furthest(within(events, days)) for days in (28, 90)},
        "max_stage_rank_total": furthest(events),
    }


def _last_visit(events: Sequence[Event]) -> Features:
    """A visit is a session or an event without one; of visits that begin at one instant, the most of each is told."""
    visits: dict[datetime, list[Event]] = defaultdict(list)
    for event in events:
        visits[event.visit_started_at or event.occurred_at].append(event)
    last = visits[max(visits)]
    staged = [started for started, members in visits.items() if any(event.rank for event in members)]
    return {
        # A cookie's session can hold events of several people where the cookie is over-shared: told is how far it had come with this one's last event.
        "last_visit_event_count": min(1023, max(event.number or 1 for event in last)),
        "last_visit_stage_rank": max(event.rank or 0 for event in visits[max(staged)]) if staged else None,
        "last_visit_has_micro_conversion": any(event.micro_conversion for event in last),
    }


def _channels(touches: Sequence[Event], recent: Callable[[Iterable[Event]], list[Event]]) -> Features:
    by_group = {name: [event for event in touches if event.group == name] for name in GROUPS}
    places = [(event.occurred_at, list(GROUPS).index(event.group)) for event in touches]
    return {
        **{f"{name}_touch_count_90d": len(recent(found)) for name, found in by_group.items()},
        **{f"{name}_touch_count_total": len(by_group[name]) for name in ("organic_social", "paid_social", "email")},
        "channel_count_90d": sum(bool(recent(found)) for found in by_group.values()),
        "first_channel": list(GROUPS)[min(places)[1]] if places else None,
        "last_channel": list(GROUPS)[max(places)[1]] if places else None,
    }


def _last_device(events: Sequence[Event]) -> str | None:
    told = [(event.occurred_at, DEVICES.index(event.device_type)) for event in events if event.device_type]
    return DEVICES[max(told)[1]] if told else None


def label(log: Log, customer: str, at: datetime) -> Features | None:
    """Whether the person converts in the horizon, persons as known at its end; None where the horizon has not passed."""
    end = at + log.horizon
    if end > log.data_now:
        return None
    later = log.known(end)
    persons = {later.customers[node] for node in log.known(at).nodes[customer] if node in later.customers}
    bought = [
        event for event in log.events
        if event.event_id in log.conversions and event.is_counted and at <= event.occurred_at < end and later.customer_of(event) in persons
    ]  # fmt: skip
    return {
        "horizon_days": log.horizon.days,
        "is_converted": bool(bought),
        "first_converted_at": bought[0].occurred_at if bought else None,
        "conversion_value": sum((event.value_reporting or Decimal(0) for event in bought), Decimal(0)) if bought else None,
    }
