"""Small random logs that hold what makes identity hard: late logins, shared identifiers, ties, crawlers, orders used twice."""

from __future__ import annotations

import random
from dataclasses import replace

from reference import Event, Identifier, minutes


def random_event(stream: random.Random, number: int, people: int) -> Event:
    person = stream.randrange(people)
    device: Identifier = ("anonymous_id", f"web:d{person}.{stream.randrange(3)}")
    found: list[Identifier] = [device]
    if stream.random() < 0.3:
        # Now and then somebody else logs in on the device, so that clusters chain and identifiers get shared.
        found.append(("user_id", f"shop:u{person if stream.random() < 0.7 else stream.randrange(people)}"))
    if stream.random() < 0.15:
        found.append(("email", f"hash{person // 2}"))
    shape = stream.random()
    if shape < 0.05:
        found = []
    elif shape < 0.1:
        found = found[1:]
    # Few distinct instants, so that many things happen at once.
    at = minutes(stream.choice([stream.randrange(0, 240), 20 * stream.randrange(0, 30)]))
    is_order = stream.random() < 0.15
    return Event(
        event_id=f"{number:032x}",
        occurred_at=at,
        session_key_id=None if not found or stream.random() < 0.15 else person * 4 + stream.randrange(2),
        identifiers=tuple(found),
        is_counted=stream.random() > 0.1,
        is_conversion_event=is_order and stream.random() < 0.9,
        order_id=f"order{stream.randrange(6)}" if is_order else None,
    )


def random_batches(stream: random.Random, *, events: int, batches: int, people: int = 6, flips: float = 0.15) -> list[list[Event]]:
    """Batches of events in arbitrary order; some events come again with other content, as when a conflict's survivor changes."""
    log = [random_event(stream, number, people) for number in range(events)]
    split: list[list[Event]] = [[] for _ in range(batches)]
    for event in log:
        first = stream.randrange(batches)
        split[first].append(event)
        if first + 1 < batches and stream.random() < flips:
            other = random_event(stream, 0, people)
            split[stream.randrange(first + 1, batches)].append(
                replace(event, is_counted=not event.is_counted) if stream.random() < 0.2 else replace(other, event_id=event.event_id)
            )
    return split
