"""Which events make a feature's value, and the value from nothing but those events: what `waymark why` names can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from ml.features import Field

_RANKS = {"awareness": 1, "consideration": 2, "intent": 3, "purchase": 4, "post_sale": 5}
_GROUPS = {
    "direct": "direct", "organic_search": "organic_search", "organic_shopping": "organic_search", "paid_search": "paid_search", "paid_shopping": "paid_search",
    "cross_network": "paid_search", "organic_social": "organic_social", "organic_video": "organic_social", "paid_social": "paid_social",
    "paid_video": "paid_social", "email": "email", "display": "display", "paid_other": "display", "referral": "referral", "affiliates": "referral",
    "sms": "message", "mobile_push": "message",
}  # fmt: skip
GROUP_ORDER = (
    "direct", "organic_search", "paid_search", "organic_social", "paid_social", "email", "display", "referral", "message", "other",
)  # fmt: skip
_DEVICES = ("desktop", "mobile", "tablet", "other")
Value = float | int | str | bool | Decimal | None


@dataclass(frozen=True)
class Event:
    """One event of the customer, as marts.fct_events has it.

    number: its place in its session, from 1; visit_at: start of its session, or its own instant. is_intent_start, is_jump_back: see int_events_sessionized.
    """

    event_id: str
    event_type: str
    occurred_at: datetime
    session_id: str | None
    number: int | None
    visit_at: datetime
    stage: str | None
    channel: str
    device_type: str | None
    has_micro_conversion: bool
    is_conversion: bool
    is_intent_start: bool
    is_jump_back: bool
    value: Decimal | None

    @property
    def is_touch(self) -> bool:
        return self.session_id is None or self.number == 1

    @property
    def group(self) -> str:
        return _GROUPS.get(self.channel, "other")

    @property
    def rank(self) -> int | None:
        return _RANKS.get(self.stage or "")


_COUNTS: Mapping[str, Callable[[Event], bool]] = {
    "event_count": lambda event: True,
    "page_view_count": lambda event: event.event_type in ("page_viewed", "screen_viewed"),
    "session_count": lambda event: event.number == 1,
    "touch_count": lambda event: event.is_touch,
    "micro_conversion_count": lambda event: event.has_micro_conversion,
    "consideration_event_count": lambda event: event.stage == "consideration",
    "intent_event_count": lambda event: event.stage == "intent",
    "post_sale_event_count": lambda event: event.stage == "post_sale",
    "intent_session_count": lambda event: event.is_intent_start,
    "jump_back_count": lambda event: event.is_jump_back,
    "conversion_count": lambda event: event.is_conversion,
    "revenue_amount": lambda event: event.is_conversion,
    "refund_count": lambda event: event.value is not None and event.value < 0,
    "refund_amount": lambda event: event.value is not None and event.value < 0,
    "first_event_us": lambda event: True,
    "last_event_us": lambda event: True,
    "first_session_us": lambda event: event.number == 1,
    "last_session_us": lambda event: event.number == 1,
    "last_intent_us": lambda event: event.stage == "intent",
    "last_conversion_us": lambda event: event.is_conversion,
    "first_touch_key": lambda event: event.is_touch,
    "last_touch_key": lambda event: event.is_touch,
    "last_device_key": lambda event: event.device_type is not None,
    "last_visit_stage_key": lambda event: event.stage is not None,
    "last_visit_event_key": lambda event: True,
    "last_visit_micro_key": lambda event: True,
    "max_stage_rank": lambda event: event.stage is not None,
}


def _of_measure(measure: str) -> Callable[[Event], bool]:
    if measure in _COUNTS:
        return _COUNTS[measure]
    if measure.endswith("_touch_count"):
        group = measure.removesuffix("_touch_count")
        return lambda event: event.is_touch and event.group == group
    device = measure.removesuffix("_session_count")
    return lambda event: event.number == 1 and event.device_type == device


def events_behind(field: Field, events: Sequence[Event], as_of_at: datetime) -> list[Event]:
    """The events that the field's value is made from: those before the point, in its window, that any of its measures counts."""
    wanted = [_of_measure(measure) for measure in field.measures]
    start = as_of_at - timedelta(days=field.window_days) if field.window_days else datetime.min
    return [event for event in events if start <= event.occurred_at < as_of_at and any(counts(event) for counts in wanted)]


def value_from(field: Field, events: Sequence[Event], as_of_at: datetime) -> Value:
    """The field's value from the events that `events_behind` names. Raises KeyError for a field that no rule here knows."""
    name = field.name
    if name in _SPECIAL:
        return _SPECIAL[name](events, as_of_at)
    measure = field.measures[0]
    if measure == "max_stage_rank":
        return max((event.rank for event in events if event.rank), default=None)
    if name.startswith("hours_since_"):
        pick = min if measure.startswith("first_") else max
        chosen = [event.occurred_at for event in events if _of_measure(measure)(event)]
        return (as_of_at - pick(chosen)) / timedelta(hours=1) if chosen else None
    counted = [event for event in events if _of_measure(measure)(event)]
    if measure == "revenue_amount":
        return sum((event.value or Decimal(0) for event in counted), Decimal(0))
    if measure == "refund_amount":
        return sum((-(event.value or Decimal(0)) for event in counted), Decimal(0))
    return len(counted)


def _count(events: Sequence[Event], measure: str) -> int:
    return sum(_of_measure(measure)(event) for event in events)


def _ratio(above: str, below: str) -> Callable[[Sequence[Event], datetime], Value]:
    def ratio(events: Sequence[Event], as_of_at: datetime) -> Value:
        divisor = _count(events, below)
        return _count(events, above) / divisor if divisor else None

    return ratio


def _last_visit(events: Sequence[Event]) -> list[Event]:
    latest = max((event.visit_at for event in events), default=None)
    return [event for event in events if event.visit_at == latest]


def _age(event: Event, as_of_at: datetime) -> int:
    return (as_of_at - timedelta(microseconds=1) - event.occurred_at) // timedelta(days=1)


def _active_days(events: Sequence[Event], as_of_at: datetime) -> Value:
    return len({_age(event, as_of_at) for event in events})


def _weight(events: Sequence[Event], as_of_at: datetime) -> Value:
    return float(sum(round(1048576 * 0.5 ** (_age(event, as_of_at) / 7)) for event in events if event.number == 1)) / 1048576


def _between(events: Sequence[Event], as_of_at: datetime) -> Value:
    starts = sorted(event.occurred_at for event in events if event.number == 1)
    return (starts[-1] - starts[0]) / timedelta(hours=1) / (len(starts) - 1) if len(starts) > 1 else None


def _open_intent(events: Sequence[Event], as_of_at: datetime) -> Value:
    intents = [event.occurred_at for event in events if event.stage == "intent"]
    bought = [event.occurred_at for event in events if event.is_conversion]
    return bool(intents) and (not bought or max(intents) > max(bought))


def _last_stage(events: Sequence[Event], as_of_at: datetime) -> Value:
    return max((event.rank for event in _last_visit(events) if event.rank), default=None)


def _channel(events: Sequence[Event], *, latest: bool) -> Value:
    touches = [(event.occurred_at, GROUP_ORDER.index(event.group), event.group) for event in events if event.is_touch]
    return (max(touches) if latest else min(touches))[2] if touches else None


def _device(events: Sequence[Event], as_of_at: datetime) -> Value:
    known = [(event.occurred_at, _DEVICES.index(event.device_type), event.device_type) for event in events if event.device_type in _DEVICES]
    return max(known)[2] if known else None


def _mean_order(events: Sequence[Event], as_of_at: datetime) -> Value:
    bought = [event for event in events if event.is_conversion]
    return float(sum((event.value or Decimal(0) for event in bought), Decimal(0))) / len(bought) if bought else None


_SPECIAL: Mapping[str, Callable[[Sequence[Event], datetime], Value]] = {
    "active_day_count_28d": _active_days,
    "session_recency_weight": _weight,
    "hours_between_sessions_mean": _between,
    "events_per_session_28d": _ratio("event_count", "session_count"),
    "page_views_per_session_28d": _ratio("page_view_count", "session_count"),
    "last_visit_event_count": lambda events, as_of_at: min(max((event.number or 1 for event in _last_visit(events)), default=0), 1023),
    "last_visit_stage_rank": _last_stage,
    "last_visit_has_micro_conversion": lambda events, as_of_at: any(event.has_micro_conversion for event in _last_visit(events)),
    "has_open_intent": _open_intent,
    "channel_count_90d": lambda events, as_of_at: len({event.group for event in events if event.is_touch}),
    "first_channel": lambda events, as_of_at: _channel(events, latest=False),
    "last_channel": lambda events, as_of_at: _channel(events, latest=True),
    "last_device_type": _device,
    "mobile_session_share_90d": _ratio("mobile_session_count", "session_count"),
    "mean_order_amount_total": _mean_order,
}
