"""Times and amounts as sources write them, read by SQL."""

from __future__ import annotations

from waymark.core.quoting import literal

_USUAL = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]+)?Z"
_ISO = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[T ][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]+)?)?)?"
_ZONED = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}[T ][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]+)?)? ?(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)"


def timestamp_sql(text: str, zone: str) -> str:
    """SQL: UTC TIMESTAMP (µs) of a text, or NULL where it is no time.

    ISO 8601 with or without offset (without: in `zone`), and epoch seconds (9 or 10 digits, decimals allowed),
    milliseconds (12 or 13) and microseconds (15 or 16). In DuckDB a cast to TIMESTAMP drops the offset, hence TIMESTAMPTZ.
    `text` is evaluated several times.
    """
    upper = f"upper({text})"
    spaceless = f"replace(replace({upper}, ' +', '+'), ' -', '-')"
    local = f"try_cast({upper} as timestamp)" if zone == "UTC" else _utc(f"timezone({literal(zone)}, try_cast({upper} as timestamp))")
    return (
        f"try(case when regexp_full_match({text}, '{_USUAL}') then {_utc(f'try_cast({text} as timestamptz)')}"
        f" when regexp_full_match({upper}, '{_ZONED}') then {_utc(f'try_cast({spaceless} as timestamptz)')}"
        f" when regexp_full_match({upper}, '{_ISO}') then {local}"
        f" when regexp_full_match({text}, '[0-9]{{9,10}}([.][0-9]+)?') then make_timestamp(cast(cast({text} as decimal(30,6)) * 1000000 as bigint))"
        f" when regexp_full_match({text}, '[0-9]{{12,13}}([.][0-9]+)?') then make_timestamp(cast(cast({text} as decimal(30,3)) * 1000 as bigint))"
        f" when regexp_full_match({text}, '[0-9]{{15,16}}') then make_timestamp(cast({text} as bigint)) end)"
    )


def _utc(instant: str) -> str:
    """SQL: the UTC TIMESTAMP of a TIMESTAMPTZ. As timezone('UTC', …), which asks the calendar of ICU for every row, would give it."""
    return f"make_timestamp(epoch_us({instant}))"


def amount_sql(text: str) -> str:
    """SQL: DECIMAL(18,4) of a text, or NULL where it is no plain number."""
    return f"case when regexp_full_match({text}, '[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{{1,2}})?') then try_cast({text} as decimal(18,4)) end"
