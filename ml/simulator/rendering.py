"""From codes to the bytes of a CSV file, column by column in Arrow; one line a row, no newline inside a field."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Typed
from ml.simulator.catalogue import EVENT, among
from ml.simulator.people import Bools, People
from ml.simulator.rows import CUSTOMER_SHIFT, SLOT_BITS, STEP_BITS, Array, Rows, cookie_keys, id_keys
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Words, mix

COLUMNS = ("event_id", "event_name", "occurred_at", "received_at", "channel", "anonymous_id", "user_id", "email", "phone", "page_url", "referrer", "user_agent",
           "device", "os", "country", "city", "value", "currency", "order_id", "properties", "message", "consent", "staff")  # fmt: skip
FORM_COLUMNS = ("given_name", "family_name", "street", "house_number", "postcode", "address_city", "birth_date")  # in worlds that have `names`
DAMAGES = ("broken_fields", "broken_time", "broken_value", "broken_quotes", "broken_encoding", "broken_type")

# the same, where neighbours that one code decides are rendered as one
_RENDERED = ",".join(COLUMNS).replace("user_agent,device,os", "agent").replace("country,city", "place").split(",")

Bytes = npt.NDArray[np.uint8]

_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint8).reshape(256, 2)
_SECONDS = np.frombuffer("".join(f"T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}." for s in range(86_400)).encode(), dtype=np.uint8).reshape(86_400, 10)
_MILLIS = np.frombuffer("".join(f"{ms:03d}Z" for ms in range(1000)).encode(), dtype=np.uint8).reshape(1000, 4)


def header(*, has_forms: bool) -> bytes:
    """A file's first line. The columns of forms stand before the last one."""
    return (",".join((*COLUMNS[:-1], *FORM_COLUMNS, COLUMNS[-1]) if has_forms else COLUMNS) + "\n").encode()


def render_lines(people: People, batch: Batch, typed: Typed | None = None) -> pa.Array:
    """Lines with their newline, as a binary array."""
    return pc.binary_join_element_wise(*_columns(people, batch, typed), pa.scalar(b",", pa.binary()))


def render_damaged(people: People, batch: Batch, damage: Array, typed: Typed | None = None) -> pa.Array:
    """Lines that no reader should accept, each damaged as its code in DAMAGES says. For few rows: it works line by line."""
    fields = [column.to_pylist() for column in _columns(people, batch, typed)]
    lines = [_damaged([field[place] for field in fields], DAMAGES[code]) for place, code in enumerate(damage.tolist())]
    return pa.array(lines, pa.binary())


def anonymous_ids(keys: Array) -> pa.Array:
    """The ids of cookie keys, as they stand in the files."""
    return _fixed(_hex(_cookie_words(keys))).cast(pa.string())


def event_ids(rows: Rows) -> pa.Array:
    """The rows' ids, as they stand in the files."""
    return _fixed(_hex(mix(id_keys(rows).astype(np.uint64)))).cast(pa.string())


def order_ids(orders: Array) -> list[str]:
    """Order ids of order keys (customer and step, plus one)."""
    return [f"WO{(order - 1) >> STEP_BITS:07d}-{(order - 1) & ((1 << STEP_BITS) - 1):03d}" for order in orders.tolist()]


def _damaged(fields: list[bytes], damage: str) -> bytes:
    place = _RENDERED.index
    match damage:
        case "broken_fields":  # the row was cut in the middle, or has a field too many
            fields = fields[: place("value")] if fields[place("event_id")][-1] % 2 else [*fields[:-1], b"surplus", fields[-1]]
        case "broken_time":
            fields[place("occurred_at")] = b"2026-02-31T25:61:00Z"
        case "broken_value":
            fields[place("value")] = b"12.9O"
        case "broken_quotes":  # closed in the middle of the field
            fields[place("message")] = b'"is the "desk lamp" still there'
        case "broken_encoding":
            fields[place("place")] = b"CH,Z\xfcrich"
        case "broken_type":
            fields[place("event_name")] = b""
    return b",".join(fields).rstrip(b"\n") + b"\n"


def _columns(people: People, batch: Batch, typed: Typed | None) -> list[pa.Array]:
    rows = batch.rows
    local, has_agent = rows.local, rows.agent > 0
    is_staff = rows.staff_number > 0
    place = np.where(has_agent & ~is_staff & (rows.foreign == 0), people.place[local] + 1, 0)
    consent = np.where((rows.foreign == 0) & ~is_staff, people.consent[local], len(cat.CONSENTS) - 1)
    currency = np.where(rows.amount != 0, 1 + people.is_euro[local], 0)
    columns = [
        _fixed(_hex(mix(id_keys(rows).astype(np.uint64)))), _coded(rows.event, _EVENT_NAMES), _times(rows.occurred), _times(rows.received),
        _coded(rows.channel, _CHANNEL_NAMES), _cookies(rows), _personal(rows.user, local, [people.user_id], _STAFF_IDS, rows.staff_number),
        _personal(rows.email, local, [people.email, pc.utf8_title(people.email)], _STAFF_EMAILS, rows.staff_number),
        _personal(rows.phone, local, [people.phone, _spaced(people.phone)], _STAFF_EMAILS, rows.staff_number),
        _page_urls(people, rows), _coded(_referrers(rows), _REFERRERS), _coded(rows.agent, _AGENT_FIELDS), _coded(place, _PLACE_FIELDS),
        spread(rows.amount != 0, _money(rows.amount[rows.amount != 0])),
        _coded(currency, _CURRENCIES), spread(rows.order > 0, order_ids(rows.order[rows.order > 0])), _properties(people, rows), _messages(people, rows),
        _coded(consent, _CONSENT_NAMES), _coded(is_staff.astype(np.int64), _STAFF_FLAGS),
    ]  # fmt: skip
    for column, texts in batch.given.items():
        columns[_RENDERED.index(column)] = texts.cast(pa.binary())
    return [*columns[:-1], *typed.columns, columns[-1]] if typed else columns


def _binary(texts: list[str] | tuple[str, ...]) -> pa.Array:
    return pa.array([text.encode() for text in texts], pa.binary())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if text else ""


_EVENT_NAMES = _binary([export for _, export in cat.EVENTS])
_CHANNEL_NAMES = _binary(cat.CHANNELS)
_CURRENCIES = _binary(("", "USD", "EUR"))
_CONSENT_NAMES = _binary(cat.CONSENTS)
_STAFF_FLAGS = _binary(("false\n", "true\n"))
# neighbouring columns that one code decides are one table: user_agent, device, os / country, city
_AGENT_FIELDS = _binary([f"{_quoted(agent.user_agent)},{agent.device},{agent.os}" for agent in cat.AGENTS])
_PLACE_FIELDS = _binary([",", *(f"{country},{city}" for country, city, _ in cat.PLACES)])
_STAFF_IDS = _binary([f"staff-{member:02d}" for member in range(100)])
_STAFF_EMAILS = _binary([f"team{member:02d}@{cat.STAFF_DOMAIN}" for member in range(100)])
_REFERRERS = _binary([*(entry.referrer for entry in cat.ENTRIES), f"{cat.SITE}/"])
_OWN_REFERRER = len(cat.ENTRIES)
_URLS = _binary(["", *(cat.SITE + path for path in cat.PAGES[1:]), *(f"{cat.SITE}/p/{product.slug}" for product in cat.PRODUCTS)])
_IS_APP = np.array([agent.is_app for agent in cat.AGENTS])
_HAS_CLICK = np.array([bool(entry.click_parameter) for entry in cat.ENTRIES])
_HAS_QUERY = np.array([bool(entry.query or entry.click_parameter) for entry in cat.ENTRIES])
_QUERIES = _binary(["?" + "&".join(part for part in (entry.query, entry.click_parameter and entry.click_parameter + "=") if part) for entry in cat.ENTRIES])


def _coded(codes: Array, table: pa.Array) -> pa.Array:
    return table.take(pa.array(codes.astype(np.int32)))


def _hex(words: Words) -> Bytes:
    """(n, 16) hexadecimal digits."""
    return _HEX[words.astype(">u8").view(np.uint8)].reshape(-1, 16)


def _fixed(text: Bytes, present: Bools | None = None) -> pa.Array:
    """Texts of one width; with `present`, they go to the rows where it holds and the others are empty."""
    width = text.shape[1]
    ends = np.cumsum(present) if present is not None else np.arange(1, len(text) + 1)
    offsets = np.zeros(len(ends) + 1, dtype=np.int32)
    offsets[1:] = ends * width
    return pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text))])


def spread(present: Bools, texts: list[str] | pa.Array) -> pa.Array:
    """Texts for the rows where `present` holds, in their order; the others are empty."""
    table = pa.concat_arrays([pa.array([b""], pa.binary()), _binary(texts) if isinstance(texts, list) else texts.cast(pa.binary())])
    return table.take(pa.array(np.where(present, np.cumsum(present), 0).astype(np.int32)))


def _times(milliseconds: Array) -> pa.Array:
    """ISO 8601, milliseconds, Z."""
    days, rest = milliseconds // DAY_MS, milliseconds % DAY_MS
    first, last = (int(days.min()), int(days.max())) if len(days) else (0, 0)
    dates = np.datetime_as_string(np.arange(first, last + 1).astype("datetime64[D]")).astype("S10").view(np.uint8).reshape(-1, 10)
    text = np.empty((len(milliseconds), 24), dtype=np.uint8)
    text[:, :10], text[:, 10:20], text[:, 20:] = dates[days - first], _SECONDS[rest // 1000], _MILLIS[rest % 1000]
    return _fixed(text)


def _money(cents: Array) -> list[str]:
    return [f"{'-' if amount < 0 else ''}{abs(amount) // 100}.{abs(amount) % 100:02d}" for amount in cents.tolist()]


def _cookie_words(keys: Array) -> Words:
    return mix(keys.astype(np.uint64) ^ np.uint64(0xA5A5_5A5A_0F0F_F0F0))


def _cookies(rows: Rows) -> pa.Array:
    present = (rows.cookie >= 0) | (rows.foreign > 0)
    return _fixed(_hex(_cookie_words(cookie_keys(rows)[present])), present)


def _spaced(phones: pa.Array) -> pa.Array:
    """+15550000013 -> +1 555 000 00 13"""
    return pc.replace_substring_regex(phones, r"555(\d{3})(\d{2})(\d{2})$", r" 555 \1 \2 \3")


def _personal(spelling: Array, local: Array, spellings: list[pa.Array], staff: pa.Array, member: Array) -> pa.Array:
    """An identifier column: 0 nothing, 1 and 2 the customer's in their spellings, 3 a staff member's."""
    tables = [pa.array([b""], pa.binary()), *(table.cast(pa.binary()) for table in spellings), staff]
    count = len(spellings[0])
    index = np.where(spelling == 0, 0, 1 + (spelling - 1) * count + local)
    index = np.where(spelling == 3, 1 + len(spellings) * count + member, index)
    return pa.concat_arrays(tables).take(pa.array(index.astype(np.int32)))


def _referrers(rows: Rows) -> Array:
    """The landing page has what led there; further pages of the site have the site itself."""
    on_web = (rows.page > 0) & ~_IS_APP[rows.agent]
    crawls = rows.agent >= cat.CRAWLERS[0]
    return np.where((rows.entry > 0) & on_web, rows.entry, np.where(on_web & ~crawls, _OWN_REFERRER, 0))


def _page_urls(people: People, rows: Rows) -> pa.Array:
    pages = _coded(np.where(_IS_APP[rows.agent], 0, rows.page), _URLS)
    with_query = (rows.page > 0) & (_HAS_QUERY[rows.entry] | (rows.leak > 0))
    if not with_query.any():
        return pages
    entry, leak = rows.entry[with_query], rows.leak[with_query]
    # the click id is the visit's: the advertisement's click and the landing page share it
    click = _hex(mix((rows.serial[with_query] >> SLOT_BITS << CUSTOMER_SHIFT).astype(np.uint64)))
    clicks = _fixed(click[_HAS_CLICK[entry]], _HAS_CLICK[entry])
    email = people.email.take(pa.array(rows.local[with_query]))
    address = pc.if_else(pa.array(leak == 2), pc.replace_substring(email, "@", "%40"), email)
    leaked = pc.if_else(pa.array(leak > 0), pc.binary_join_element_wise("&email=", address, ""), "").cast(pa.binary())
    query = pc.binary_join_element_wise(_coded(entry, _QUERIES), clicks, leaked, pa.scalar(b"", pa.binary()))
    return pc.binary_join_element_wise(pages, spread(with_query, query), pa.scalar(b"", pa.binary()))


def _json(**values: str | int | float) -> str:
    pairs = (f'"{key}":"{value}"' if isinstance(value, str) else f'"{key}":{value}' for key, value in values.items())
    return "{" + ",".join(pairs) + "}"


def _property_tables() -> tuple[pa.Array, pa.Array, dict[str, int]]:
    """All property objects, the same with a second revision, and where each group starts."""
    groups: dict[str, list[str]] = {
        "none": [""],
        "scroll": [_json(scroll=share) for share in (25, 50, 75, 100)],
        "screen": [_json(screen=name) for name in (*cat.SCREENS, *(["product"] * len(cat.PRODUCTS)))],
        "product": [_json(sku=p.sku, price=p.cents / 100, category=p.category) for p in cat.PRODUCTS],
        "mail": [_json(campaign=entry.query.rpartition("utm_campaign=")[2] or "none") for entry in cat.ENTRIES],
        "other": [_json(origin=name) for name, _ in cat.EVENTS],
    }
    starts: dict[str, int] = {}
    texts: list[str] = []
    for name, group in groups.items():
        starts[name] = len(texts)
        texts += group
    revised = [text[:-1] + ',"revision":2}' if text else _json(revision=2) for text in texts]
    return _binary([_quoted(text) for text in texts]), _binary([_quoted(text) for text in revised]), starts


_PROPERTIES, _REVISED_PROPERTIES, _PROPERTY_STARTS = _property_tables()
_PROPERTY_TABLE = pa.concat_arrays([_PROPERTIES, _REVISED_PROPERTIES])


def _properties(people: People, rows: Rows) -> pa.Array:
    start = _PROPERTY_STARTS
    views = rows.event == EVENT["page_viewed"]
    code = np.select(
        [rows.product >= 0, views & _IS_APP[rows.agent], views, among(rows.event, "email_opened", "email_clicked")],
        [start["product"] + rows.product, start["screen"] + rows.page, start["scroll"] + rows.serial % 4, start["mail"] + rows.entry],
        start["other"] + rows.event,
    )
    plain = _coded(code + rows.revision * len(_PROPERTIES), _PROPERTY_TABLE)
    # forms repeat the address that was typed, or the number
    forms = among(rows.event, "newsletter_subscribed", "checkout_started") & (rows.email > 0) & (rows.revision == 0)
    if not forms.any():
        return plain
    place = pa.array(rows.local[forms])
    phone = pc.if_else(pa.array(rows.phone[forms] > 0), people.phone.take(place), "")
    filled = pc.binary_join_element_wise('"{""form"":""main"",""contact"":""', people.email.take(place), '"",""callback"":""', phone, '""}"', "")
    return pc.if_else(pa.array(forms), spread(forms, filled), plain)


def _messages(people: People, rows: Rows) -> pa.Array:
    written = rows.text > 0
    if not written.any():
        return spread(written, [])
    place = pa.array(rows.local[written])
    texts = pa.array(['"' + text + '"' if text else "" for text in cat.TEXTS], pa.string()).take(pa.array(rows.text[written]))
    order = pa.array(order_ids((rows.serial[written] >> SLOT_BITS) + 1), pa.string())
    fillings = (("{email}", people.email.take(place)), ("{phone}", _spaced(people.phone).take(place)), ("{order}", order))
    for mark, values in fillings:
        before, after = (pc.list_element(_halves(texts, mark), side) for side in (0, 1))
        texts = pc.if_else(pc.match_substring(texts, mark), pc.binary_join_element_wise(before, values, after, ""), texts)
    return spread(written, texts)


def _halves(texts: pa.Array, mark: str) -> pa.Array:
    """The texts before and after a mark; the second is empty where there is none."""
    return pc.split_pattern(pc.if_else(pc.match_substring(texts, mark), texts, pc.binary_join_element_wise(texts, mark, "")), mark)
