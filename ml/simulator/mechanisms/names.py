"""Names and addresses (off unless asked for): each form, with probability `rate`, is filled in with name, address or date of birth, as people type them.

It adds no row but seven columns (rendering.FORM_COLUMNS) to the files. Forms are sign-up, checkout (the order repeats it) and call; which parts each asks for
is in PARTS_OF. Names are of a realistic skew (namebook.py). A person who moves has an old and a new address, a household one for all (`households`).
Faults are drawn for each form and part at the rates of FAULTS, at most one a part; one that cannot befall the text (no nickname, no other sound) does not.
Repeats of a row (duplicates, conflicts, broken, skewed and double reports) repeat what was typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.simulator import catalogue as cat
from ml.simulator import misspelling as wrong
from ml.simulator import namebook
from ml.simulator.block import Batch, Block, Typed
from ml.simulator.catalogue import EVENT
from ml.simulator.mechanisms import double_reports, second_accounts
from ml.simulator.mechanisms.households import membership_of
from ml.simulator.neighbours import live_in_california, neighbours_of
from ml.simulator.people import Bools
from ml.simulator.rendering import FORM_COLUMNS, event_ids, spread
from ml.simulator.rows import Array, steps_of
from ml.simulator.spec import WorldSpec
from ml.simulator.streams import Floats, Stream
from ml.simulator.truth import TEXT, TIME, instants, person_ids

Texts = npt.NDArray[np.object_]

GIVEN, FAMILY, STREET, HOUSE, POSTCODE, CITY, BIRTH = range(len(FORM_COLUMNS))
NO_FORM, SIGN_UP, CHECKOUT, CALL = range(4)
PARTS_OF = {SIGN_UP: (GIVEN, FAMILY, POSTCODE, CITY, BIRTH), CHECKOUT: (GIVEN, FAMILY, STREET, HOUSE, POSTCODE, CITY), CALL: (GIVEN, FAMILY, CITY, BIRTH)}
_FORM_OF_EVENT = np.zeros(len(cat.EVENTS), dtype=np.int64)
for _event, _form in {"signed_up": SIGN_UP, "checkout_started": CHECKOUT, "order_completed": CHECKOUT, "crm_call_logged": CALL}.items():
    _FORM_OF_EVENT[EVENT[_event]] = _form

# part -> fault -> how often, among the forms that ask for the part
_TYPOS = {"insert": 0.006, "delete": 0.008, "substitute": 0.010, "transpose": 0.006}
FAULTS: dict[int, dict[str, float]] = {
    GIVEN: {**_TYPOS, "phonetic": 0.008, "nickname": 0.08, "missing": 0.01},
    FAMILY: {**_TYPOS, "phonetic": 0.012},
    STREET: {**_TYPOS, "abbreviate": 0.25, "missing": 0.01},
    HOUSE: {"digit": 0.01, "missing": 0.02},
    POSTCODE: {"digit": 0.012, "missing": 0.03},
    CITY: {**_TYPOS, "missing": 0.02},
    BIRTH: {"day_for_month": 0.008, "digit": 0.006, "default": 0.010, "missing": 0.10},
}
HEARD = 5.0  # times as many phonetic faults where a name was heard and not read
SWAPPED = 0.012  # of the forms: given and family name exchanged
STALE = 0.25  # of the forms of people who have moved: the old address
MISSPELT = {"insert": 1.0, "delete": 1.0, "substitute": 1.0, "transpose": 1.0, "phonetic": 2.0}  # one of a second account's two names, in these proportions
_FAULT: dict[str, wrong.Fault] = {
    "insert": wrong.inserted, "delete": wrong.deleted, "substitute": wrong.substituted, "transpose": wrong.transposed, "phonetic": wrong.misheard,
    "nickname": wrong.nicknamed, "abbreviate": wrong.abbreviated, "digit": wrong.misdialled, "day_for_month": wrong.day_for_month,
    "default": wrong.of_no_one, "missing": wrong.missing,
}  # fmt: skip

MOVE_SHARE = 0.15  # of the homes, at a time uniform over the window
DOUBLE_NAME, JUNIOR = 0.03, 0.06  # family names joined by a hyphen; second members of a household with the first one's given name
OLDEST, YOUNGEST = 1938, 2008
LAST_REPEAT = double_reports.COPY  # copies up to this one repeat a row, later ones are rows of their own

TRUTHS = {
    "truth_names": pa.schema([("person_id", TEXT), ("given_name", TEXT), ("family_name", TEXT), ("birth_date", TEXT)]),
    "truth_addresses": pa.schema([
        ("person_id", TEXT), ("street", TEXT), ("house_number", TEXT), ("postcode", TEXT), ("address_city", TEXT), ("valid_from", TIME),
        ("valid_to", TIME),
    ]),
    "truth_forms": pa.schema([("event_id", TEXT), ("person_id", TEXT), ("form", TEXT), ("faults", pa.list_(TEXT))]),
}  # fmt: skip
FORM_NAMES = ("", "sign_up", "checkout", "call")


def apply(block: Block, rate: float, stream: Stream) -> None:
    """Fills in no form yet: whose name is on a row, and whether it is there at all, is known once every mechanism has added its rows."""
    number = block.people.number
    register = Register(block.spec, stream)
    residents = register.residents(number)
    persons = person_ids(number)
    block.truth["truth_names"] = pa.table({
        "person_id": persons, "given_name": pa.array(residents.given, TEXT), "family_name": pa.array(residents.family, TEXT),
        "birth_date": pa.array(residents.birth, TEXT),
    })  # fmt: skip
    moves = residents.moved_at < block.spec.end_ms
    nobody = np.zeros(len(number), dtype=np.bool_)
    first, then = (register.addresses(residents, np.full(len(number), has_moved)) for has_moved in (False, True))
    block.truth["truth_addresses"] = pa.concat_tables([
        _addresses(persons, first, instants(residents.moved_at, nobody), instants(residents.moved_at, moves)),
        _addresses(persons, then, instants(residents.moved_at), instants(residents.moved_at, nobody)).filter(pa.array(moves)),
    ])  # fmt: skip
    block.truth["truth_forms"] = TRUTHS["truth_forms"].empty_table()
    visit = steps_of(block.events.serial)
    visits, place = np.unique(visit, return_index=True)
    block.forms = Forms(register, rate, stream, visits, block.events.occurred[place])


def _addresses(persons: pa.Array, parts: tuple[Texts, ...], since: pa.Array, until: pa.Array) -> pa.Table:
    names = FORM_COLUMNS[STREET : CITY + 1]
    columns = {name: pa.array(texts, TEXT) for name, texts in zip(names, parts, strict=True)}
    return pa.table({"person_id": persons, **columns, "valid_from": since, "valid_to": until})


@dataclass(frozen=True)
class Residents:
    """Clean parts, one entry a person. home: number that stands for the home; moved_at: epoch ms, far beyond the window for most; town: in namebook.TOWNS."""

    given: Texts
    family: Texts
    birth: Texts
    home: Array
    moved_at: Array
    town: Array


class Register:
    """Who is called what and lives where: a function of numbers, the same for every block."""

    def __init__(self, spec: WorldSpec, stream: Stream) -> None:
        self.spec, self.stream = spec, stream

    def residents(self, number: Array) -> Residents:
        spec, stream = self.spec, self.stream
        near = neighbours_of(number, stream.seed)
        home = membership_of(number, stream.seed, spec.rate("households"))
        namesake = (home.rank == 1) & (stream.uniform("junior", number) < JUNIOR)
        given = self._names("given", namebook.GIVEN, np.where(namesake, home.head, number), near.place)
        named_by = np.where(home.has_head_name, home.head, number)
        family = self._names("family", namebook.FAMILY, named_by, near.place)
        doubled = stream.uniform("double", named_by) < DOUBLE_NAME
        family = np.where(doubled, family + "-" + self._names("second_family", namebook.FAMILY, named_by, near.place), family)
        moves = stream.uniform("moves", home.head) < MOVE_SHARE
        moved_at = spec.start_ms + (stream.uniform("moved_at", home.head) * (spec.end_ms - spec.start_ms)).astype(np.int64)
        californian = namebook.FIRST_CALIFORNIAN + stream.below("californian_town", near.quarter, len(namebook.TOWNS) - namebook.FIRST_CALIFORNIAN)
        town = np.where(live_in_california(near, stream.seed), californian, near.place)
        return Residents(given, family, self._births(number), home.head, np.where(moves, moved_at, spec.end_ms * 2), town)

    def _names(self, name: str, table: namebook.Table, number: Array, place: Array) -> Texts:
        language = self.stream.chosen(f"{name}_language", number, namebook.LANGUAGE_WEIGHTS[place])
        codes = np.zeros(len(number), dtype=np.int64)
        for code, weights in enumerate(table.weights):
            speaks = language == code
            codes[speaks] = self.stream.chosen(name, number[speaks], weights)
        return np.asarray(table.texts, dtype=object)[codes]

    def _births(self, number: Array) -> Texts:
        """Any day between two years, the middle ones likelier."""
        share = (self.stream.uniform("born", number) + self.stream.uniform("born_again", number)) / 2
        first, last = (np.datetime64(f"{year}-01-01").astype(np.int64) for year in (OLDEST, YOUNGEST))
        days = first + (share * (last - first)).astype(np.int64)
        return np.datetime_as_string(days.astype("datetime64[D]")).astype(object)

    def addresses(self, residents: Residents, has_moved: Bools) -> tuple[Texts, ...]:
        """Street, house number, postcode and town of each resident's home, before or after the move. Everybody in a street of a town has its postcode."""
        key = residents.home * 2 + has_moved
        starts, weights = np.asarray(namebook.STREET_STARTS), namebook.STREET_WEIGHTS
        language = np.asarray([spoken for _, spoken, _ in namebook.TOWNS])[residents.town]
        street = np.zeros(len(key), dtype=np.int64)
        for code, weight in enumerate(weights):
            spoken = language == code
            street[spoken] = starts[code] + self.stream.chosen("street", key[spoken], weight)
        house = 1 + self.stream.below("house", key, 400)
        letter = np.asarray(["a", "b", "c", "d", *[""] * 16], dtype=object)[self.stream.below("house_letter", key, 20)]
        codes = _postcodes(self.stream.seed)[residents.town, street]
        return np.asarray(namebook.STREETS, dtype=object)[street], house.astype(str).astype(object) + letter, codes, _TOWN_NAMES[residents.town]


@lru_cache(maxsize=4)
def _postcodes(seed: int) -> Texts:
    """(towns, streets) postal codes."""
    stream, streets = Stream(seed, "names"), len(namebook.STREETS)
    codes = np.empty((len(namebook.TOWNS), streets), dtype=object)
    for town, (_, _, pattern) in enumerate(namebook.TOWNS):
        keys = ((town * streets + np.arange(streets)) * 16)[:, None] + np.arange(len(pattern))
        draws = stream.uniform("postcode", keys).tolist()
        codes[town] = ["".join(_written(sign, draw) for sign, draw in zip(pattern, line, strict=True)) for line in draws]
    return codes


def _written(sign: str, draw: float) -> str:
    signs = {"d": "0123456789", "A": "ABDEFGHJLNPQRSTUWXYZ"}.get(sign, sign)
    return signs[int(draw * len(signs))]


_TOWN_NAMES = np.asarray([town for town, _, _ in namebook.TOWNS], dtype=object)


@dataclass
class _Pile:
    """Forms, an entry each. form: which it is; key: of its draws; faults: what was done to it so far; is_misspelt: they are those of second accounts."""

    form: Array
    key: Array
    faults: list[list[str]]
    is_misspelt: bool


class Forms:
    """Fills in the forms of a block. visits, started: the block's visits by number, and the instant of each one's first row."""

    def __init__(self, register: Register, rate: float, stream: Stream, visits: Array, started: Array) -> None:
        self.register, self.rate, self.stream, self.visits, self.started = register, rate, stream, visits, started

    def typed(self, batch: Batch) -> Typed:
        """The seven columns of a batch. A form is one by its visit, its kind, and which mechanism's it is; so repeats and orders are filled in alike."""
        rows = batch.rows
        own = np.where(rows.copy <= LAST_REPEAT, 0, rows.copy)
        if batch.kind == second_accounts.KIND:
            own = np.minimum(own, second_accounts.COPY)
        form = _FORM_OF_EVENT[rows.event]
        key = ((steps_of(rows.serial) << 8) | own) << 2 | form
        picked = np.flatnonzero((form > 0) & (self.stream.uniform("filled", key) < self.rate))
        form, key, person = form[picked], key[picked], batch.numbers[picked]
        seen = np.where(own[picked] > 0, rows.occurred[picked], self.started[np.searchsorted(self.visits, steps_of(rows.serial[picked]))])
        residents = self.register.residents(person)
        has_moved = residents.moved_at <= seen
        stale = has_moved & (form != CALL) & (self.stream.uniform("stale", key) < STALE)
        parts: list[Texts] = [residents.given, residents.family, *self.register.addresses(residents, has_moved & ~stale), residents.birth]
        pile = _Pile(form, key, [["address:stale"] if is_stale else [] for is_stale in stale.tolist()], batch.kind == second_accounts.KIND)
        columns = [self._part(part, texts, pile) for part, texts in enumerate(parts)]
        self._swap(columns, pile)
        present = np.zeros(len(rows), dtype=np.bool_)
        present[picked] = True
        event_id = event_ids(rows.take(picked))
        truth = pa.table({
            "event_id": event_id, "person_id": person_ids(person), "form": pa.array(FORM_NAMES).take(pa.array(form)),
            "faults": pa.array(pile.faults, pa.list_(TEXT)),
        }, schema=TRUTHS["truth_forms"])  # fmt: skip
        return Typed(tuple(spread(present, pa.array(column, TEXT)) for column in columns), truth)

    def _part(self, part: int, clean: Texts, pile: _Pile) -> Texts:
        """One part of the forms that ask for it, faults done to it and noted; empty in the others."""
        name, rates = FORM_COLUMNS[part], FAULTS[part]
        asked = np.isin(pile.form, [kind for kind, parts in PARTS_OF.items() if part in parts])
        kinds = [*rates, ""]
        weights = np.tile(np.array([*rates.values(), 1 - sum(rates.values())]), (len(pile.key), 1))
        if "phonetic" in rates:
            more = rates["phonetic"] * (HEARD - 1) * (pile.form == CALL)
            weights[:, kinds.index("phonetic")] += more
            weights[:, -1] -= more
        key = pile.key
        chosen = self.stream.chosen(name, key, weights)
        if pile.is_misspelt and part in (GIVEN, FAMILY):
            account = key >> 2
            is_here = self.stream.below("misspelt_name", account, 2) == part
            again = self.stream.chosen("misspelt", account, np.array([MISSPELT.get(kind, 0.0) for kind in kinds]))
            key, chosen = account, np.where(is_here, again, len(kinds) - 1)
        typed: Texts = np.where(asked, clean, "")
        where, which = (self.stream.uniform(f"{name}_{draw}", key) for draw in ("where", "which"))
        for place in np.flatnonzero(asked & (chosen < len(kinds) - 1)).tolist():
            fault = kinds[chosen[place]]
            text = _FAULT[fault](typed[place], float(where[place]), float(which[place]))
            if text is not None:
                typed[place] = text
                pile.faults[place].append(f"{name}:{fault}")
        return typed

    def _swap(self, columns: list[Texts], pile: _Pile) -> None:
        swaps: Floats = self.stream.uniform("swapped", pile.key)
        for place in np.flatnonzero((swaps < SWAPPED) & (columns[GIVEN] != "") & (columns[FAMILY] != "")).tolist():
            columns[GIVEN][place], columns[FAMILY][place] = columns[FAMILY][place], columns[GIVEN][place]
            pile.faults[place].append("names:swapped")
