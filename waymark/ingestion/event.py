"""The canonical event: its columns, in order, and the reasons for which a row is refused."""

from __future__ import annotations

from waymark.ingestion.consent import ACT_TYPE

CANONICAL_COLUMNS: dict[str, str] = {
    "event_id": "VARCHAR",
    "source": "VARCHAR",
    "source_event_id": "VARCHAR",
    "event_type": "VARCHAR",
    "occurred_at": "TIMESTAMP",
    "received_at": "TIMESTAMP",
    "session_key": "VARCHAR",
    "anonymous_id": "VARCHAR",
    "user_id": "VARCHAR",
    "identifiers": 'STRUCT("type" VARCHAR, "value" VARCHAR)[]',
    "source_channel": "VARCHAR",
    "utm_source": "VARCHAR",
    "utm_medium": "VARCHAR",
    "utm_campaign": "VARCHAR",
    "utm_term": "VARCHAR",
    "utm_content": "VARCHAR",
    "click_id_type": "VARCHAR",
    "click_id": "VARCHAR",
    "referrer": "VARCHAR",
    "referrer_host": "VARCHAR",
    "page_url": "VARCHAR",
    "page_host": "VARCHAR",
    "page_path": "VARCHAR",
    "screen": "VARCHAR",
    "user_agent": "VARCHAR",
    "device_type": "VARCHAR",
    "os": "VARCHAR",
    "browser": "VARCHAR",
    "country": "VARCHAR",
    "region": "VARCHAR",
    "city": "VARCHAR",
    "language": "VARCHAR",
    "order_id": "VARCHAR",
    "value": "DECIMAL(18,4)",
    "currency": "VARCHAR",
    "properties": "VARCHAR",
    "text": "VARCHAR",
    "consent_scopes": "VARCHAR[]",
    "consent_act": ACT_TYPE,
    "is_internal": "BOOLEAN",
    "content_digest": "VARCHAR",
    "ingest_file_id": "INTEGER",
    "row_number": "BIGINT",
    "event_date": "DATE",
}

# What the content digest covers: all that the source says. The id stands apart, and what is derived from these columns adds nothing. A consent event's act is
# added by the digest itself, and to no other event.
CONTENT_COLUMNS = tuple(
    name
    for name in CANONICAL_COLUMNS
    if name not in ("event_id", "referrer_host", "page_host", "page_path", "consent_act", "content_digest", "ingest_file_id", "row_number", "event_date")
)

# rule -> the sentence that a person reads; {field} is the column or key at fault.
REASONS: dict[str, str] = {
    "malformed_row": "The record does not have the shape of its format.",
    "invalid_encoding": "The record holds bytes that are not text in the encoding of the mapping.",
    "nul_byte": "The record holds a NUL character.",
    "unterminated_quote": "A quote opens on this line and is never closed.",
    "field_too_large": "{field} is longer than ingestion.max_field_bytes allows.",
    "missing_occurred_at": "The event has no time.",
    "bad_occurred_at": "The time is in none of the forms that docs/sources.md lists.",
    "before_1990": "The time is before 1990: a clock that was not set, or a wrong unit.",
    "too_far_in_future": "{field} is further than time.max_future_skew_days beyond the other rows of its file.",
    "missing_event_type": "The event has no name.",
    "unknown_event_type": "The mapping does not list this event, and says unknown_events: quarantine.",
    "missing_event_id": "The mapping names an id, and this row has none.",
    "bad_value": "{field} cannot be read as the mapping says.",
    "bad_currency": "The currency is not an ISO 4217 code of three letters.",
    "value_without_currency": "The row has a value, but neither it nor the mapping gives a currency.",
    "bad_consent": "The consent event says no scope, or no action that the mapping knows, or names nobody: map scopes, action and an identifier, then replay.",
    "bad_properties": "{field} should hold JSON and does not.",
    "erased": "The record is of a person who was erased: nothing of it is kept.",
}

CLICK_IDS = ("gclid", "gbraid", "wbraid", "dclid", "msclkid", "fbclid", "ttclid", "li_fat_id", "twclid", "irclickid", "epik", "ScCid", "rdt_cid", "yclid")
UTM_COLUMNS = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")


def empty_events_sql() -> str:
    """A SELECT with the canonical columns and no row."""
    return "select " + ", ".join(f'cast(NULL as {kind}) as "{name}"' for name, kind in CANONICAL_COLUMNS.items()) + " where false"


def reason_sql(rule: str, field: str) -> str:
    """SQL: the sentence of a rule, given SQL for its name and its field. It never quotes the row."""
    cases = " ".join(f"when '{name}' then replace('{text}', '{{field}}', coalesce({field}, 'A field'))" for name, text in REASONS.items())
    return f"case {rule} {cases} else 'The row cannot be read.' end"
