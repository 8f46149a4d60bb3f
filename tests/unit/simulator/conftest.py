"""Worlds that several tests look at, and a reader of files that shares no code with the simulator."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ml.simulator import WorldReport, WorldSpec, generate_world

NAMES = (
    "event_id", "event_name", "occurred_at", "received_at", "channel", "anonymous_id", "user_id", "email", "phone", "page_url", "referrer", "user_agent",
    "device", "os", "country", "city", "value", "currency", "order_id", "properties", "message", "consent", "staff",
)  # fmt: skip
FORM = ("given_name", "family_name", "street", "house_number", "postcode", "address_city", "birth_date")  # in worlds that have names, before the last
EVENT_NAMES = {
    "Page View", "product_viewed", "Add To Cart", "checkout_started", "order_placed", "refund_issued", "logged_in", "signed_up", "newsletter_signup",
    "email_opened", "email_clicked", "push_opened", "chat_started", "chat_message_sent", "ticket_created", "ticket_closed", "crm_call_logged",
    "social_post_clicked", "ad_clicked", "store_visited", "review_posted", "consent_granted", "consent_withdrawn", "consent_expired",
}  # fmt: skip
LAST_TRUE_DAY = "2026-12-31"  # clocks that are wrong are wrong by years


@dataclass(frozen=True)
class World:
    spec: WorldSpec
    report: WorldReport
    truth_folder: Path

    @property
    def names(self) -> tuple[str, ...]:
        return (*NAMES[:-1], *FORM, NAMES[-1]) if self.spec.rate("names") else NAMES

    def lines(self) -> dict[str, list[bytes]]:
        """file -> its lines without the header, in order."""
        found = {}
        for path in self.report.paths:
            header, *lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
            assert header.decode().strip().split(",") == list(self.names)
            found[path.name] = lines
        return found

    def truth(self, name: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = pq.read_table(self.truth_folder / f"truth_{name}.parquet").to_pylist()
        return rows


def make_world(folder: Path, spec: WorldSpec, **how: Any) -> World:
    return World(spec, generate_world(folder / "landing", folder / "truth", spec, **how), folder / "truth")


def parsed(line: bytes, names: tuple[str, ...] = NAMES) -> dict[str, str] | None:
    """The fields of a line that a careful reader accepts, else None. It knows the file format, and nothing of how a line was made."""
    try:
        text = line.decode()
        fields = next(csv.reader([text], strict=True))
        row = dict(zip(names, fields, strict=True))
        datetime.fromisoformat(row["occurred_at"])
        float(row["value"] or 0)
    except (ValueError, csv.Error):
        return None
    return row if row["event_name"] in EVENT_NAMES else None


def accepted(world: World) -> list[dict[str, str]]:
    """Rows as ingestion should keep them: readable, not from a clock years ahead, one of each id (the least by time), not by crawlers or staff."""
    kept: dict[str, dict[str, str]] = {}
    for lines in world.lines().values():
        for line in lines:
            row = parsed(line, world.names)
            if row is None or row["occurred_at"] > LAST_TRUE_DAY:
                continue
            other = kept.get(row["event_id"])
            if other is None or row["occurred_at"] < other["occurred_at"]:
                kept[row["event_id"]] = row
    return [row for row in kept.values() if row["staff"] == "false" and not is_crawler(row)]


def is_crawler(row: Mapping[str, str]) -> bool:
    return any(word in row["user_agent"].lower() for word in ("bot", "crawl", "spider"))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The default mechanisms on 1,500 customers."""
    return make_world(tmp_path_factory.mktemp("world"), WorldSpec(customers=1_500))


@pytest.fixture(scope="session")
def rows(world: World) -> list[dict[str, str]]:
    return accepted(world)
