"""Consent histories (off unless asked for): each customer has, with probability `rate`, a history of what was consented to, scope by scope.

A row grants, withdraws or expires one scope; its properties say scope, consent_channel, jurisdiction, policy_version and source as JSON. Where the law asks
for an opt-in (all of the EU, text messages everywhere), nothing is valid before a grant, and a grant lapses after a time unless it is renewed; where it
leaves an opt-out, a scope is valid until withdrawn. People refuse, withdraw after days of activity, and grant again. Some rows arrive weeks late.

A row about the first three scopes names the device (and the account, if it was logged in there), others the address or account, or the phone: always what
an earlier row of the person has together, so they link nobody anew. A scope without such a row has no history. The truth's sessions and counts leave
these rows out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, PLACES
from ml.simulator.neighbours import Neighbours, live_in_california, neighbours_of
from ml.simulator.people import Bools
from ml.simulator.rendering import event_ids
from ml.simulator.rows import NO_COOKIE, Array, Rows
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Floats, Stream
from ml.simulator.truth import TEXT, TIME, instants, person_ids

COPY, MOST_ACTS = 128, 8
SCOPES = ("analytics", "personalisation", "advertising", "email", "sms", "profiling")
JURISDICTIONS = ("EU", "US-CA", "other")
assert COPY + len(SCOPES) * MOST_ACTS <= 192  # copies of other mechanisms begin there
# What absence means, by jurisdiction and scope: 1 is valid. Text messages ask for consent everywhere, mails nearly.
VALID_WHEN_ABSENT = np.array([[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 1], [1, 1, 1, 0, 0, 1]], dtype=np.bool_)
LAPSES_AFTER_DAYS = np.array([60, 90, 90])  # of a grant, by jurisdiction, where absence denies
POLICY_DAYS = 75  # a policy's version holds for so long

GRANT, WITHDRAW, EXPIRE, NOTHING = range(4)
EVENT_NAMES = ("consent_granted", "consent_withdrawn", "consent_expired")
AT_FIRST = np.array([0.70, 0.15, 0.0, 0.15])  # where absence denies: granted, refused, -, never asked
OPT_OUT = 0.35  # where absence grants: withdrawn some time
# what follows, by the act before it: a grant, a withdrawal, a lapse (nothing, where grants do not lapse), nothing
AFTER = np.array([[0.15, 0.35, 0.50, 0.0], [0.40, 0.0, 0.0, 0.60], [0.50, 0.0, 0.0, 0.50]])
LEAST_MS = 60_000  # between two acts on a scope
LATE_SHARE, MOST_DAYS_LATE = 0.12, 20

# What names the person, by scope: the device, the address or account, the phone, the account.
DEVICE, ADDRESS, PHONE, ACCOUNT = range(4)
NAMED_BY = np.array([DEVICE, DEVICE, DEVICE, ADDRESS, PHONE, ACCOUNT])
# consent_channel by what names the person (rows) and act (columns), the export's channel, and the system that says so
CHANNELS = (("banner", "banner", "system"), ("form", "email_link", "system"), ("form", "sms_reply", "system"),
            ("preference_centre", "preference_centre", "system"))  # fmt: skip
EXPORTED = {"banner": "web", "form": "web", "preference_centre": "web", "email_link": "email", "sms_reply": "crm", "system": "crm"}
SOURCES = {"banner": "cmp", "form": "shop", "preference_centre": "shop", "email_link": "mailer", "sms_reply": "sms_gateway", "system": "ledger"}

TRUTHS = {
    "truth_consent_events": pa.schema([
        ("event_id", TEXT), ("person_id", TEXT), ("scope", TEXT), ("action", TEXT), ("occurred_at", TIME), ("received_at", TIME),
        ("consent_channel", TEXT), ("jurisdiction", TEXT), ("policy_version", TEXT), ("source", TEXT),
    ]),
    "truth_consents": pa.schema([
        ("person_id", TEXT), ("scope", TEXT), ("jurisdiction", TEXT), ("valid_from", TIME), ("valid_to", TIME), ("has_history", pa.bool_()),
    ]),
}  # fmt: skip


@dataclass
class _Pairs:
    """A scope of a person, an entry each. person: place in the block; scope, jurisdiction: places in SCOPES and JURISDICTIONS."""

    person: Array
    scope: Array
    jurisdiction: Array

    @property
    def valid_when_absent(self) -> Bools:
        return np.asarray(VALID_WHEN_ABSENT[self.jurisdiction, self.scope])


@dataclass
class _Acts:
    """(pairs, MOST_ACTS): what was done about each pair, in the order of time, and when (epoch ms); NOTHING once there is no more."""

    action: Array
    at: Array


@dataclass
class _Done:
    """Acts, an entry each. local: the person's place in the block; turn: the act's place in its pair's order."""

    local: Array
    scope: Array
    turn: Array
    action: Array
    at: Array


def jurisdictions_of(near: Neighbours, seed: int) -> Array:
    """Places in JURISDICTIONS."""
    is_eu = np.isin(near.place, [code for code, (country, _, _) in enumerate(PLACES) if country in {"DE", "FR"}])
    return np.where(is_eu, 0, np.where(live_in_california(near, seed), 1, 2))


def apply(block: Block, rate: float, stream: Stream) -> None:
    people, count = block.people, len(block.people)
    jurisdiction = jurisdictions_of(neighbours_of(people.number, stream.seed), stream.seed)
    pairs = _Pairs(np.repeat(np.arange(count), len(SCOPES)), np.tile(np.arange(len(SCOPES)), count), np.repeat(jurisdiction, len(SCOPES)))
    acts = _acts(block, pairs, stream.uniform("picked", people.number) < rate, stream)
    pair, turn = np.nonzero(acts.action != NOTHING)
    done = _Done(pairs.person[pair], pairs.scope[pair], turn, acts.action[pair, turn], acts.at[pair, turn])
    rows = _rows(block, done, stream)
    channel = np.asarray(CHANNELS, dtype=object)[NAMED_BY[done.scope], done.action]
    version = 1 + (rows.occurred - block.spec.start_ms) // (POLICY_DAYS * DAY_MS)
    columns = {
        "scope": np.asarray(SCOPES, dtype=object)[done.scope], "consent_channel": channel,
        "jurisdiction": np.asarray(JURISDICTIONS, dtype=object)[jurisdiction[done.local]],
        "policy_version": np.asarray([f"v{number}" for number in version.tolist()], dtype=object),
        "source": np.asarray([SOURCES[name] for name in channel.tolist()], dtype=object),
    }  # fmt: skip
    texts = {name: pa.array(values, TEXT) for name, values in columns.items()}
    given = {"event_name": pa.array(EVENT_NAMES).take(pa.array(done.action)), "properties": _json(texts)}
    block.batches.append(Batch("consent", rows, given=given))
    received = np.minimum(rows.received, block.spec.end_ms)
    block.truth["truth_consent_events"] = pa.table({
        "event_id": event_ids(rows), "person_id": person_ids(people.number[done.local]), "scope": texts["scope"],
        "action": pa.array(("grant", "withdraw", "expire")).take(pa.array(done.action)), "occurred_at": instants(rows.occurred),
        "received_at": instants(received),
        **{name: texts[name] for name in ("consent_channel", "jurisdiction", "policy_version", "source")},
    })  # fmt: skip
    block.truth["truth_consents"] = _intervals(block, pairs, acts, np.isin(pairs.person, done.local))


def _json(texts: dict[str, pa.Array]) -> pa.Array:
    """A quoted CSV field with the texts as one JSON object."""
    parts: list[pa.Array | str] = ['"{']
    for place, (name, values) in enumerate(texts.items()):
        parts += [f'{"," if place else ""}""{name}"":""', values, '""']
    return pc.binary_join_element_wise(*parts, '}"', "")


def _acts(block: Block, pairs: _Pairs, is_picked: Bools, stream: Stream) -> _Acts:
    spec, person, scope = block.spec, pairs.person, pairs.scope
    anchors, last = _anchors(block)
    anchor = anchors[NAMED_BY[scope], person]
    key = (block.people.number[person] * len(SCOPES) + scope) * 2 * MOST_ACTS
    # people change their minds while they are about: half of the time from first to last row, on average, and three days at least
    pace = np.maximum((last - anchors[DEVICE].clip(max=last)) / 2, 3 * DAY_MS)[person]
    valid = pairs.valid_when_absent
    starts = is_picked[person] & (anchor < spec.end_ms)
    action = np.where(valid, np.where(stream.uniform("opt_out", key) < OPT_OUT, WITHDRAW, NOTHING), stream.chosen("at_first", key, AT_FIRST))
    action = np.where(starts, action, NOTHING)
    at = anchor + np.where(valid, _waits(stream, key, pace), 1_000 + stream.below("at_once", key, 20_000))
    acts = _Acts(np.full((len(person), MOST_ACTS), NOTHING), np.zeros((len(person), MOST_ACTS), dtype=np.int64))
    lapse = LAPSES_AFTER_DAYS[pairs.jurisdiction] * DAY_MS * ~valid
    for turn in range(MOST_ACTS):
        action = np.where(at < spec.end_ms, action, NOTHING)
        acts.action[:, turn], acts.at[:, turn] = action, np.where(action != NOTHING, at, 0)
        following = stream.chosen("after", key + turn, AFTER[np.minimum(action, EXPIRE)])
        if turn == MOST_ACTS - 2:  # the last act that has room is no grant, which would want another to end it
            following = np.where(following == GRANT, EXPIRE, following)
        wait = _waits(stream, key + turn + 1, pace)
        # a grant that is neither renewed nor withdrawn in time lapses, where grants do
        lapses = (action == GRANT) & (lapse > 0) & ((following == EXPIRE) | (wait >= lapse))
        following = np.where(lapses, EXPIRE, np.where((action == NOTHING) | (following == EXPIRE), NOTHING, following))
        at = at + np.where(lapses, lapse, wait)
        action = following
    return acts


def _waits(stream: Stream, key: Array, pace: Floats) -> Array:
    return LEAST_MS + (stream.exponential("wait", key) * pace).astype(np.int64)


def _anchors(block: Block) -> tuple[Array, Array]:
    """(4, people): when a row first named each person by device, address or account, phone, account; and (people,) each one's last row. Epoch ms."""
    events, count = block.events, len(block.people)
    anchors = np.full((4, count), np.iinfo(np.int64).max // 2)
    for named_by, names in enumerate(_naming(events)):
        np.minimum.at(anchors[named_by], events.local[names], events.occurred[names])
    last = np.zeros(count, dtype=np.int64)
    np.maximum.at(last, events.local, events.occurred)
    return anchors, last


def _naming(events: Rows) -> tuple[Bools, Bools, Bools, Bools]:
    has_account = events.user == 1
    return events.cookie >= 0, (events.email > 0) | has_account, events.phone > 0, has_account


def _rows(block: Block, done: _Done, stream: Stream) -> Rows:
    """A row for each act, by what names the person in the latest of their rows that has it."""
    events, local, at, action = block.events, done.local, done.at, done.action
    nothing = np.zeros(len(local), dtype=np.int64)
    base, named_by = nothing.copy(), NAMED_BY[done.scope]
    span = block.spec.end_ms - block.spec.start_ms
    for kind, names in enumerate(_naming(events)):
        wanted = np.flatnonzero(named_by == kind)
        candidates = np.flatnonzero(names)
        when = events.local[candidates] * span + events.occurred[candidates] - block.spec.start_ms
        order = np.argsort(when, kind="stable")
        found = np.searchsorted(when[order], local[wanted] * span + at[wanted] - block.spec.start_ms, side="right") - 1
        base[wanted] = candidates[order][found]
    by_device = named_by == DEVICE
    user = np.where(named_by == PHONE, 0, events.user[base])
    email = np.where((named_by == ADDRESS) & (user == 0), events.email[base], 0)
    channels = np.asarray([[CHANNEL[EXPORTED[name]] for name in names] for names in CHANNELS])[named_by, action]
    copy = COPY + done.scope * MOST_ACTS + done.turn
    rows = Rows.blank(
        events.serial[base], local=local, event=nothing, channel=channels, occurred=at, received=nothing, delivered=nothing,
        cookie=np.where(by_device, events.cookie[base], NO_COOKIE), user=user, email=email,
        phone=np.where(named_by == PHONE, events.phone[base], 0), agent=np.where(by_device & (action != EXPIRE), events.agent[base], 0), copy=copy,
    )  # fmt: skip
    key = (block.people.number[local] << 8) | copy
    late = np.minimum(1 + stream.exponential("delay", key) * 4, MOST_DAYS_LATE) * DAY_MS
    wait = np.where(stream.uniform("late", key) < LATE_SHARE, late, 2_000).astype(np.int64)
    rows.received, rows.delivered = at + wait, at + wait
    return rows


def _intervals(block: Block, pairs: _Pairs, acts: _Acts, has_history: Bools) -> pa.Table:
    """When each scope of each person was valid: from the grant on, until before the withdrawal or lapse. Null: since ever, or still."""
    valid = pairs.valid_when_absent
    since = np.zeros(len(valid), dtype=np.int64)
    found: list[tuple[Array, Array, Array]] = []
    for turn in range(MOST_ACTS):
        action, at = acts.action[:, turn], acts.at[:, turn]
        ends = np.flatnonzero(valid & ((action == WITHDRAW) | (action == EXPIRE)))
        found.append((ends, since[ends], at[ends]))
        begins = ~valid & (action == GRANT)
        since = np.where(begins, at, since)
        valid = (valid | begins) & ~np.isin(action, (WITHDRAW, EXPIRE))
    still = np.flatnonzero(valid)
    found.append((still, since[still], np.zeros(len(still), dtype=np.int64)))
    pair, begun, ended = (np.concatenate([part[place] for part in found]) for place in range(3))
    order = np.lexsort((begun, pair))
    pair, begun, ended = pair[order], begun[order], ended[order]
    return pa.table({
        "person_id": person_ids(block.people.number[pairs.person[pair]]), "scope": pa.array(SCOPES).take(pa.array(pairs.scope[pair])),
        "jurisdiction": pa.array(JURISDICTIONS).take(pa.array(pairs.jurisdiction[pair])), "valid_from": instants(begun, begun > 0),
        "valid_to": instants(ended, ended > 0), "has_history": has_history[pair],
    })  # fmt: skip
