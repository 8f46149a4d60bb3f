"""The three feature views of a customer as known at a point in time. A column of theirs that is not declared here fails a test, and the reverse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ml.features.field import FeatureView, Field

CHANNELS = ("direct", "organic_search", "paid_search", "organic_social", "paid_social", "email", "display", "referral", "message", "other")
DEVICES = ("desktop", "mobile", "tablet")
_COUNTED = {
    "event_count": "events",
    "page_view_count": "page and screen views",
    "session_count": "sessions begun",
    "touch_count": "touches: sessions begun and events without a session",
    "micro_conversion_count": "micro-conversions",
    "consideration_event_count": "events of stage consideration",
    "intent_event_count": "events of stage intent",
    "post_sale_event_count": "events of stage post-sale",
    "intent_session_count": "sessions that reached stage intent",
    "jump_back_count": "steps back to an earlier stage within a session",
    "conversion_count": "conversions of the first goal",
    "refund_count": "refunds",
}
_MONEY = {"revenue_amount": "revenue of conversions, in the reporting currency", "refund_amount": "refunded money, in the reporting currency"}


def _windows(measure: str, days: tuple[int, ...], *, total: bool = False) -> Iterator[Field]:
    dtype = "number" if measure in _MONEY else "integer"
    phrase = {**_COUNTED, **_MONEY}[measure]
    for window in days:
        yield Field(f"{measure}_{window}d", dtype, window, f"{phrase} in the last {window} day{'s' if window > 1 else ''}", (measure,))
    if total:
        yield Field(f"{measure}_total", dtype, None, f"{phrase}, ever", (measure,))


def _behavior() -> Iterator[Field]:
    yield Field("identifier_count", "integer", None, "known identifiers (cookies, logins, addresses)", ())
    yield Field("hours_since_last_event", "number", None, "hours since the latest event", ("last_event_us",))
    yield Field("hours_since_first_event", "number", None, "hours since the first event", ("first_event_us",))
    yield Field("hours_since_last_session", "number", None, "hours since the latest session began; none without a session", ("last_session_us",))
    yield from _windows("event_count", (1, 7, 28, 90), total=True)
    yield from _windows("page_view_count", (7, 28, 90))
    yield from _windows("session_count", (1, 7, 28, 90), total=True)
    yield Field("active_day_count_28d", "integer", 28, "24-hour days with an event among the last 28", ("event_count",))
    yield Field("session_recency_weight", "number", 90, "sessions of the last 90 days, each half as much for every 7 days of age", ("session_count",))
    between = ("first_session_us", "last_session_us", "session_count")
    yield Field("hours_between_sessions_mean", "number", None, "mean hours between starts of sessions; none with fewer than two", between)
    yield Field("events_per_session_28d", "number", 28, "events per session of the last 28 days; none without one", ("event_count", "session_count"))
    yield Field("page_views_per_session_28d", "number", 28, "page views per session begun in the last 28 days", ("page_view_count", "session_count"))
    yield Field(
        "last_visit_event_count", "integer", None,
        "events of the latest visit (at most 1,023): the position in its session of the customer's latest event there. "
        "In the session of an over-shared cookie the events of others before it are counted too", ("last_visit_event_key",),
    )  # fmt: skip
    yield Field("last_visit_stage_rank", "integer", None, "furthest stage of the latest visit with one: 1 awareness to 5 post-sale", ("last_visit_stage_key",))
    yield Field("last_visit_has_micro_conversion", "boolean", None, "latest visit had a micro-conversion", ("last_visit_micro_key",))
    yield from _windows("micro_conversion_count", (1, 7, 28, 90), total=True)
    yield from _windows("consideration_event_count", (7, 28, 90))
    yield from _windows("intent_event_count", (1, 7, 28, 90))
    yield from _windows("intent_session_count", (7, 28, 90), total=True)
    yield from _windows("post_sale_event_count", (28, 90))
    yield from _windows("jump_back_count", (7, 28, 90))
    yield Field("hours_since_last_intent", "number", None, "hours since the latest event of stage intent; none without one", ("last_intent_us",))
    yield Field("has_open_intent", "boolean", None, "stage intent was reached after the latest conversion", ("last_intent_us", "last_conversion_us"))


def _channels() -> Iterator[Field]:
    yield from _windows("touch_count", (7, 28, 90))
    for name in CHANNELS:
        spoken = name.replace("_", " ")
        yield Field(f"{name}_touch_count_90d", "integer", 90, f"touches by channel group {spoken} in the last 90 days", (f"{name}_touch_count",))
    for name in ("organic_social", "paid_social", "email"):
        spoken = name.replace("_", " ")
        yield Field(f"{name}_touch_count_total", "integer", None, f"touches by channel group {spoken}, ever", (f"{name}_touch_count",))
    yield Field("channel_count_90d", "integer", 90, "different channel groups in the last 90 days", tuple(f"{name}_touch_count" for name in CHANNELS))
    yield Field("first_channel", "category", None, "channel group of the first touch", ("first_touch_key",))
    yield Field("last_channel", "category", None, "channel group of the latest touch", ("last_touch_key",))
    yield Field("last_device_type", "category", None, "device type of the latest event that tells one", ("last_device_key",))
    for name in DEVICES:
        yield Field(f"{name}_session_count_90d", "integer", 90, f"sessions begun on a {name} device in the last 90 days", (f"{name}_session_count",))
    shares = ("mobile_session_count", "session_count")
    yield Field("mobile_session_share_90d", "number", 90, "share of sessions begun on a mobile device in the last 90 days; none without a session", shares)


def _value() -> Iterator[Field]:
    yield from _windows("conversion_count", (7, 28, 90), total=True)
    yield from _windows("revenue_amount", (28, 90), total=True)
    yield Field("hours_since_last_conversion", "number", None, "hours since the latest conversion; none without one", ("last_conversion_us",))
    mean = ("revenue_amount", "conversion_count")
    yield Field("mean_order_amount_total", "number", None, "mean revenue of a conversion, ever; none without one", mean)
    yield from _windows("refund_count", (90,))
    yield from _windows("refund_amount", (90,))
    for window in (28, 90):
        yield Field(f"max_stage_rank_{window}d", "integer", window, f"furthest stage of the last {window} days (1 to 5)", ("max_stage_rank",))
    yield Field("max_stage_rank_total", "integer", None, "furthest stage ever: 1 awareness to 5 post-sale", ("max_stage_rank",))


def _view(name: str, description: str, fields: Iterator[Field]) -> FeatureView:
    table = f"features.{name}"
    return FeatureView(
        name=name, table=table, entity="customer", owner="data-science", consent_scope="profiling", description=description,
        fields=tuple(replace(field, table=table) for field in fields),
    )  # fmt: skip


VIEWS = {
    view.name: view
    for view in (
        _view("feat_customer_behavior", "how recently, how often and how deeply a customer was active, and where it hesitated", _behavior()),
        _view("feat_customer_channels", "which channels and devices a customer came by", _channels()),
        _view("feat_customer_value", "what a customer bought and how far it came", _value()),
    )
}
