"""Rows that are dated back because of what came later are named; rows that are honestly late are not. On simulated worlds, read without the pipeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import floor, log2
from pathlib import Path
from typing import cast

import pytest

from ml.features import VIEWS, model_fields
from ml.models.propensity.backdating import backdated_leaks, excesses
from ml.models.propensity.gate import judge
from ml.models.propensity.result import TrainingResult
from ml.simulator import DEFAULT_MECHANISMS, WorldSpec
from ml.simulator.mechanisms.leaks import BLATANT, SUBTLE
from tests.unit.propensity.received_world import fill
from waymark.core.warehouse import Connection, connect, rows

FIELDS = model_fields(VIEWS)
EVENTS = "intermediate.int_events_sessionized"
WEEK = timedelta(days=7)


@contextmanager
def world(folder: Path, customers: int = 1_200, seed: int = 1, **rates: float) -> Iterator[Connection]:
    with connect() as connection:
        fill(connection, folder, WorldSpec(customers=customers, seed=seed, is_identified=True, mechanisms={**DEFAULT_MECHANISMS, **rates}))
        yield connection


@pytest.mark.parametrize("rate", [SUBTLE, BLATANT])
def test_a_subtle_and_a_blatant_leak_are_refused_by_name(rate: float, tmp_path: Path, trained: TrainingResult) -> None:
    with world(tmp_path, leaks=rate) as connection:
        leaks = backdated_leaks(connection, FIELDS)
    assert [(leak.feature, leak.how) for leak in leaks] == [("newsletter_subscribed", "received")]
    verdict = judge(trained, leaks)
    assert not verdict.promote and [reason.code for reason in verdict.reasons] == ["leak"]
    assert "newsletter_subscribed" in verdict.summary and "micro_conversion_count_7d" in verdict.summary


@pytest.mark.parametrize("late", [0.02, 0.3])
def test_rows_that_are_honestly_late_are_no_leak(late: float, tmp_path: Path) -> None:
    with world(tmp_path, late=late) as connection:
        assert sum(excess.late for excess in excesses(connection)) > (20 if late < 0.1 else 300)
        assert backdated_leaks(connection, FIELDS) == ()


def test_a_kind_of_which_every_row_is_dated_back_is_named(tmp_path: Path) -> None:
    """There is no row that came in time to compare with; that they come after the conversion gives them away."""
    with world(tmp_path, leaks=SUBTLE) as connection:
        connection.execute(f"delete from {EVENTS} where event_type = 'newsletter_subscribed' and received_at - occurred_at < interval 1 day")
        connection.execute(f"update {EVENTS} set event_type = 'customer_tagged' where event_type = 'newsletter_subscribed'")
        assert [leak.feature for leak in backdated_leaks(connection, FIELDS)] == ["customer_tagged"]
        (tagged,) = (excess for excess in excesses(connection) if excess.event_type == "customer_tagged")
    assert abs(tagged.z[0]) < 4 < tagged.z[1]


def test_rows_dated_back_for_those_who_do_not_convert_are_named(tmp_path: Path) -> None:
    """A source that writes down, a week later, who was lost: its rows before the point belong to others than the buyers."""
    with world(tmp_path) as connection:
        connection.execute(f"""
            insert into {EVENTS}
            select md5(event_id), source, 'reminder_sent', occurred_at, received_at, * exclude (event_id, source, event_type, occurred_at, received_at)
            from {EVENTS} where event_type = 'product_viewed'
        """)
        connection.execute(f"""
            update {EVENTS} set received_at = occurred_at + interval 9 days
            where event_type = 'reminder_sent' and md5_number_lower(event_id || 'lost') % 4 = 0
                and (node_ids[1]::varchar, date_trunc('week', occurred_at) + interval 7 day)
                in (select customer_id, as_of_at from features.label_conversion where not is_converted)
        """)
        assert [leak.feature for leak in backdated_leaks(connection, FIELDS)] == ["reminder_sent"]


def test_a_weekly_delivery_and_a_source_without_times_of_receipt_are_no_leak(tmp_path: Path) -> None:
    """Everything of one kind arrives on the Wednesday after; buyers and others alike, whatever they did since."""
    with world(tmp_path, leaks=BLATANT) as connection:
        connection.execute(f"update {EVENTS} set received_at = date_trunc('week', occurred_at) + interval 9 days")
        assert backdated_leaks(connection, FIELDS) == () and excesses(connection)
        connection.execute(f"update {EVENTS} set received_at = occurred_at")
        assert excesses(connection) == ()


HONEST = {
    "two outages": """case when occurred_at >= timestamp '2026-03-20' and occurred_at < timestamp '2026-03-24' then timestamp '2026-03-24'
        when occurred_at >= timestamp '2026-05-01' and occurred_at < timestamp '2026-05-06' then timestamp '2026-05-06' else received_at end""",
    "every night": "date_trunc('day', occurred_at) + interval 26 hours",
    "telephones, which buy less, are often late": """occurred_at + to_hours(cast(case when device_type = 'mobile' and md5_number_lower(event_id) % 5 < 2
        then md5_number_lower(event_id || 'wait') % 150 else 0 end as integer))""",
    "some people are always late": """occurred_at + to_hours(cast(case when md5_number_lower(node_ids[1]::varchar) % 5 = 0
        then md5_number_lower(event_id) % 150 else 0 end as integer))""",
}


def test_lateness_that_has_other_causes_than_the_label_is_no_leak(tmp_path: Path) -> None:
    with world(tmp_path) as connection:
        connection.execute(f"create table raw.received as select event_id, received_at from {EVENTS}")
        for name, received_at in HONEST.items():
            connection.execute(f"update {EVENTS} set received_at = {received_at}")
            assert sum(excess.late for excess in excesses(connection)) > 50, name
            assert backdated_leaks(connection, FIELDS) == (), name
            connection.execute(f"update {EVENTS} as event set received_at = received.received_at from raw.received where received.event_id = event.event_id")


def test_both_sums_are_those_of_plain_loops(tmp_path: Path) -> None:
    with world(tmp_path, 250, late=0.2, leaks=BLATANT) as connection:
        events = cast(
            "list[tuple[str, str, str, datetime, datetime]]",
            rows(connection, f"select event_id, event_type, node_ids[1]::varchar, occurred_at, received_at from {EVENTS} order by event_id"),
        )
        labels = {
            (str(customer), cast("datetime", point)): cast("datetime | None", at)
            for customer, point, at in rows(connection, "select customer_id, as_of_at, first_converted_at from features.label_conversion")
        }
        found = {excess.event_type: excess for excess in excesses(connection)}
    converting = sum(at is not None for at in labels.values())
    for kind in ("newsletter_subscribed", "Page View", "order_placed"):
        label, receipt = by_loops([event for event in events if event[1] == kind], labels)
        assert found[kind].label.value == pytest.approx(label / converting, abs=1e-9)
        assert found[kind].receipt.value == pytest.approx(receipt / converting, abs=1e-9)
    assert found["newsletter_subscribed"].receipt.value > 0.05


def by_loops(events: list[tuple[str, str, str, datetime, datetime]], labels: dict[tuple[str, datetime], datetime | None]) -> tuple[float, float]:
    """Both sums for the events of one kind, without strata in SQL, without ranks."""
    seen: dict[tuple[str, datetime], list[tuple[int, datetime, str]]] = defaultdict(list)
    for event_id, _, customer, occurred, received in events:
        monday = (occurred - timedelta(days=occurred.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
        for week in range(1, 5):
            point = monday + week * WEEK
            if (customer, point) in labels:
                hours = (point - occurred - timedelta(microseconds=1)) // timedelta(hours=1)
                seen[customer, point].append((floor(log2(hours + 1)) if hours < 24 else 5 + hours // 24, received, event_id))
    strata: dict[tuple[datetime, int], list[tuple[float, bool, bool]]] = defaultdict(list)
    late_cells: dict[int, list[tuple[float, timedelta, timedelta]]] = defaultdict(list)
    for (customer, point), dated in seen.items():
        converted = labels[customer, point]
        for band, received, _ in dated:
            strata[point, band].append((1 / len(dated), received >= point, converted is not None))
        for band in {band for band, _, _ in dated}:
            late = sorted((event_id, received) for other, received, event_id in dated if other == band and received >= point)
            if late and converted is not None:
                late_cells[band].append((len(late) / len(dated), late[0][1] - point, converted - point))
    first = 0.0
    for stratum in strata.values():
        total = sum(w for w, _, _ in stratum)
        mean_late, mean_y = sum(w * late for w, late, _ in stratum) / total, sum(w * y for w, _, y in stratum) / total
        first += sum(w * (late - mean_late) * (y - mean_y) for w, late, y in stratum)
    second = 0.0
    for cells in late_cells.values():
        total = sum(w for w, _, _ in cells)
        for w, received, converted_after in cells:
            chance = sum(other for other, _, at in cells if at < received) / total
            second += w * ((received > converted_after) - chance)
    return first, second
