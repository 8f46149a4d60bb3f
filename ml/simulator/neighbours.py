"""Who lives near whom: the customers of one place among sixty-four neighbouring numbers are a quarter, and up to four in a row of them are next-door.

It is a function of the seed and of numbers alone, so it does not depend on blocks of customers, nor on how many customers there are: a quarter or a group
may have numbers that the world does not reach. The least number of a group or quarter stands for it, and is reached if any of it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.people import Bools, places_of
from ml.simulator.rows import Array
from ml.simulator.streams import Stream

WINDOW, GROUP = 64, 4
CALIFORNIAN_SHARE = 1 / 3  # of the quarters in the United States

_IS_AMERICAN = np.array([country == "US" for country, _, _ in cat.PLACES])


@dataclass(frozen=True)
class Neighbours:
    """One entry a customer. place: in cat.PLACES. quarter: a number for the quarter. first: the least number of those next door, with oneself; rank: place
    among them; size: how many, 1 to 4. crowd_first, crowd_rank, crowd_size: the same of the whole quarter."""

    place: Array
    quarter: Array
    first: Array
    rank: Array
    size: Array
    crowd_first: Array
    crowd_rank: Array
    crowd_size: Array


def neighbours_of(number: Array, seed: int) -> Neighbours:
    """The neighbours of customers, by their numbers in the world."""
    windows = np.unique(number // WINDOW)
    everyone = (windows[:, None] * WINDOW + np.arange(WINDOW)).ravel()
    place = places_of(everyone, Stream(seed, "people"))
    quarter = everyone // WINDOW * len(cat.PLACES) + place
    order = np.lexsort((everyone, quarter))
    starts = np.flatnonzero(np.concatenate([[True], np.diff(quarter[order]) > 0])[: len(order)])
    length = np.diff(np.append(starts, len(order)))
    start, size = np.repeat(starts, length), np.repeat(length, length)
    rank = np.arange(len(order)) - start
    group = rank // GROUP * GROUP
    wanted = np.empty(len(order), dtype=np.int64)
    wanted[order] = np.arange(len(order))  # of a place in `everyone`: its place in `order`
    at = wanted[np.searchsorted(windows, number // WINDOW) * WINDOW + number % WINDOW]
    sorted_numbers = everyone[order]
    return Neighbours(
        place=place[order][at], quarter=quarter[order][at], first=sorted_numbers[(start + group)[at]], rank=(rank - group)[at],
        size=np.minimum(size - group, GROUP)[at], crowd_first=sorted_numbers[start[at]], crowd_rank=rank[at], crowd_size=size[at],
    )  # fmt: skip


def live_in_california(near: Neighbours, seed: int) -> Bools:
    """Whether customers live in California: all of a quarter, or none. No row's column `city` says so; it is that of the network."""
    return np.asarray(_IS_AMERICAN[near.place] & (Stream(seed, "residence").uniform("california", near.quarter) < CALIFORNIAN_SHARE))
