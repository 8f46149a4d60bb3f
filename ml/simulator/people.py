"""Who lives in the world: latent types, devices, identifiers. Each value is drawn for the customer's number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulator import catalogue as cat
from ml.simulator.rows import Array
from ml.simulator.spec import DAY_MS, WorldSpec
from ml.simulator.streams import Stream

TYPES = ("decided", "browser", "researcher", "loyal")
TYPE_WEIGHTS = np.array([0.16, 0.40, 0.27, 0.17])
DEVICE_SLOTS = 4
COOKIES_PER_DEVICE = 16
EXISTING_SHARE = 0.15
FIRST_TOUCH_SPAN, EXISTING_SPAN = 0.92, 0.3  # of the window but its last day, in which first touches lie
HAS_PHONE_SHARE = 0.6
DEVICE_COUNT_WEIGHTS = np.array([0.45, 0.33, 0.17, 0.05])
LEAD_DEVICE_WEIGHTS = np.array([0.55, 0.35, 0.02, 0.08])
PLACE_WEIGHTS = np.array([0.17, 0.14, 0.1, 0.14, 0.1, 0.07, 0.09, 0.07, 0.06, 0.06])
CONSENT_WEIGHTS = np.array([0.78, 0.14, 0.08])

Bools = npt.NDArray[np.bool_]


@dataclass
class People:
    """Customers of a block, one entry each. `agents` is (customers, 4): code of the user agent of each device that the person has, else 0."""

    number: Array
    type: Array
    first_touch: Array
    is_existing: Bools
    device_count: Array
    agents: Array
    place: Array
    consent: Array
    has_phone: Bools
    other_spelling: Bools
    is_euro: Bools
    user_id: pa.Array
    email: pa.Array
    phone: pa.Array

    def __len__(self) -> int:
        return len(self.number)


def draw_people(spec: WorldSpec, first: int, count: int, stream: Stream) -> People:
    """The customers numbered first … first + count - 1."""
    number = np.arange(first, first + count, dtype=np.int64)
    is_existing = stream.uniform("existing", number) < EXISTING_SHARE
    spread = stream.uniform("first_touch", number) * np.where(is_existing, EXISTING_SPAN, FIRST_TOUCH_SPAN)
    kinds = np.stack([_picked(stream, name, number, options) for name, options in _device_tables()], axis=1)
    device_count = 1 + stream.chosen("device_count", number, DEVICE_COUNT_WEIGHTS)
    # the first device is a phone for most; the order of the further ones rotates with it
    lead = stream.chosen("lead_device", number, LEAD_DEVICE_WEIGHTS)
    order = (lead[:, None] + np.arange(DEVICE_SLOTS)) % DEVICE_SLOTS
    agents = np.where(np.arange(DEVICE_SLOTS) < device_count[:, None], np.take_along_axis(kinds, order, axis=1), 0)
    place = places_of(number, stream)
    return People(
        number=number, type=stream.chosen("type", number, TYPE_WEIGHTS), first_touch=spec.start_ms + (spread * (spec.days - 1) * DAY_MS).astype(np.int64),
        is_existing=is_existing, device_count=device_count, agents=agents, place=place, consent=consents_of(number, stream),
        has_phone=stream.uniform("has_phone", number) < HAS_PHONE_SHARE, other_spelling=stream.uniform("other_spelling", number) < 0.1,
        is_euro=np.isin(place, cat.EURO_PLACES), user_id=_user_ids(number), email=emails_of(number, stream), phone=phones_of(number, place),
    )  # fmt: skip


def places_of(number: Array, stream: Stream) -> Array:
    """Where each customer lives: places in cat.PLACES."""
    return stream.chosen("place", number, PLACE_WEIGHTS)


def consents_of(number: Array, stream: Stream) -> Array:
    """What each customer's rows say of consent: places in cat.CONSENTS."""
    return stream.chosen("consent", number, CONSENT_WEIGHTS)


def _device_tables() -> tuple[tuple[str, tuple[int, ...]], ...]:
    return ("phone", cat.PHONES), ("desktop", cat.DESKTOPS), ("tablet", cat.TABLETS), ("app", cat.APPS)


def _picked(stream: Stream, name: str, keys: Array, options: tuple[int, ...]) -> Array:
    return np.asarray(options, dtype=np.int64)[stream.below(name, keys, len(options))]


def digits(numbers: Array, width: int) -> pa.Array:
    return pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width=width, padding="0")


def _names(codes: Array, table: tuple[str, ...]) -> pa.Array:
    return pa.array(table, pa.string()).take(pa.array(codes))


def _user_ids(number: Array) -> pa.Array:
    return pc.binary_join_element_wise("u", digits(number + 1, 7), "")


def emails_of(number: Array, stream: Stream) -> pa.Array:
    """Unique by the customer's number; lower case, as the truth has it."""
    first = _names(stream.below("first_name", number, len(cat.FIRST_NAMES)), cat.FIRST_NAMES)
    last = _names(stream.below("last_name", number, len(cat.LAST_NAMES)), cat.LAST_NAMES)
    domain = _names(stream.below("mail_domain", number, len(cat.MAIL_DOMAINS)), cat.MAIL_DOMAINS)
    return pc.binary_join_element_wise(first, ".", last, pc.cast(pa.array(number), pa.string()), "@", domain, "")


def phones_of(number: Array, place: Array) -> pa.Array:
    """E.164-like: calling code, 555, seven digits; 7919 is coprime to ten million, so no two customers share one."""
    calling = _names(place, tuple(code for _, _, code in cat.PLACES))
    return pc.binary_join_element_wise(calling, "555", digits((number * 7919 + 13) % 10_000_000, 7), "")
