"""Expectation-maximisation over pairs' levels (Dempster, Laird and Rubin 1977; for linkage Winkler 1988): which shares make what was seen most likely.

The classes of pairs are strangers, one person, and up to three kinds of people who are not one and still have something in common: a household, neighbours,
and people of one place. These agree in parts that a household shares more than strangers do, and in the others as strangers do. Without them a model calls a
family one person (Fellegi and Sunter's two classes did so in the simulated world, in four of five links).

All candidate pairs are looked at together, whatever key found them, and the pairs that no key found count as strangers'. So no comparison has to be left out
because a key is made of it, and the share of matches is that among all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waymark.identity.linkage.comparisons import EXACT, FAR, LEVELS, MOVED

Floats = npt.NDArray[np.float64]

FIRST_M = np.array([0.80, 0.02, 0.06, 0.04, 0.02, 0.02, 0.01, 0.03])  # where EM begins: people mostly type a part as they did before
FIRST_ALIKE = 0.2  # the first share of a further class, of that of matches
# One person's records differ in a part in no more than so many cases, where it is a person's own, and where a household shares it (people move). Without the
# bound the class would drift to whatever else is frequent, such as people of one language in one town (Winkler 1993 on convex constraints).
MOST_DIFFERENT_OWN, MOST_DIFFERENT_SHARED = 0.2, 0.3
# What a household shares, its people type alike in no less than so many cases. Without the bound, pairs that are like each other by chance in several parts and
# the same in none can be likelier a class than a world's few families are, which are then called one person (one simulated world in three; calibration.py).
LEAST_EXACT_SHARED = 0.5
MOST_STEPS = 300
CONVERGED = 1e-7  # relative change of the log-likelihood
PSEUDO_COUNT = 0.1  # a level, so that what was never seen is unlikely and not impossible
CLASSES = ("household", "neighbours", "one place")


@dataclass(frozen=True)
class Pairs:
    """Candidate pairs. levels: (pairs, parts), an index into LEVELS or -1; rarity: (pairs, parts), log(u / frequency) where both agree (EXACT, MOVED), else 0;
    total: how many pairs there are at all; u: (parts, levels); is_shared: of a part, whether a household has it in common."""

    levels: npt.NDArray[np.int8]
    rarity: Floats
    total: float
    u: Floats
    is_shared: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Mixture:
    """m: (parts, levels); alike: of each further class (CLASSES) the same, u where a part is a person's own; match, shares: of matches, and of each further
    class, among all pairs. log_likelihood: up to a constant of the pairs."""

    m: Floats
    alike: tuple[Floats, ...]
    match: float
    shares: tuple[float, ...]
    log_likelihood: float = -np.inf
    steps: int = 0


def fit(pairs: Pairs, first_matches: float) -> Mixture:
    """The mixture with as many further classes as the Bayesian information criterion asks for (Schwarz 1978), counting all pairs as observations.

    Where a single part is a person's own, a household's pair and a mistyped name cannot be told apart, and the criterion refuses the classes.
    """
    shared = int(pairs.is_shared.sum())
    most = len(CLASSES) if 0 < shared < len(pairs.is_shared) else 0
    price = (shared * (len(LEVELS) - 1) + 1) / 2 * np.log(pairs.total)
    found = [_climb(pairs, _start(pairs, first_matches, count)) for count in range(most + 1)]
    return max(found, key=lambda mixture: mixture.log_likelihood - price * len(mixture.shares))


def _start(pairs: Pairs, matches: float, count: int) -> Mixture:
    alike = FIRST_M / FIRST_M.sum()
    match = matches / pairs.total
    household = np.where(pairs.is_shared[:, None], alike, pairs.u)
    neighbours = (household + pairs.u) / 2
    place = pairs.u.copy()
    place[np.argmax(np.where(pairs.is_shared, pairs.u[:, EXACT], -1))] = alike  # what strangers most often share
    first = (household, neighbours, place)[:count]
    return Mixture(np.tile(alike, (len(pairs.u), 1)), first, match, (match * FIRST_ALIKE,) * count)


def _climb(pairs: Pairs, now: Mixture) -> Mixture:
    before = -np.inf
    for step in range(1, MOST_STEPS + 1):
        now = _step(pairs, now, step)
        if abs(now.log_likelihood - before) <= CONVERGED * abs(now.log_likelihood):
            break
        before = now.log_likelihood
    return now


def _step(pairs: Pairs, now: Mixture, step: int) -> Mixture:
    weights, likelihood = responsibilities(pairs, now)
    m, alike = now.m.copy(), tuple(shares.copy() for shares in now.alike)
    for part, is_shared in enumerate(pairs.is_shared.tolist()):
        level = pairs.levels[:, part] + 1
        most = MOST_DIFFERENT_SHARED if is_shared else MOST_DIFFERENT_OWN
        m[part] = _bounded(_shares(level, weights[0]), most)
        for place, shares in enumerate(alike if is_shared else ()):
            told = _shares(level, weights[1 + place])
            shares[part] = told if place else _exact_enough(_bounded(told, most))
    sums = [max(float(weight.sum()), 0.5) / pairs.total for weight in weights]
    return Mixture(m, alike, sums[0], tuple(sums[1:]), likelihood, step)


def responsibilities(pairs: Pairs, now: Mixture) -> tuple[list[Floats], float]:
    """Of each pair, the probabilities of being one person's, and of each further class; and the log-likelihood of all."""
    stranger = np.log(1 - now.match - sum(now.shares))
    logs = [np.log(now.match) + pairs.rarity.sum(axis=1)]
    logs += [np.log(share) + pairs.rarity[:, pairs.is_shared].sum(axis=1) for share in now.shares]
    for part, is_shared in enumerate(pairs.is_shared.tolist()):
        level = pairs.levels[:, part] + 1
        logs[0] += _weights(now.m[part], pairs.u[part])[level]
        for place, shares in enumerate(now.alike if is_shared else ()):
            logs[1 + place] += _weights(shares[part], pairs.u[part])[level]
    most = np.maximum.reduce([*logs, np.full(len(pairs.levels), stranger)])
    odds = [np.exp(log - most) for log in logs]
    total = sum(odds, np.exp(stranger - most))
    likelihood = float((most + np.log(total)).sum() + (pairs.total - len(most)) * stranger)
    return [odd / total for odd in odds], likelihood


def _weights(shares: Floats, u: Floats) -> Floats:
    weights = np.log(shares / u)
    weights[MOVED] = weights[EXACT]  # that two names were exchanged is as likely of anybody; that they agree is what tells
    return np.concatenate([[0.0], weights])  # the first is of what is not known


def _shares(level: npt.NDArray[np.int8], weight: Floats) -> Floats:
    counts = np.bincount(level, weights=weight, minlength=len(LEVELS) + 1)[1:] + PSEUDO_COUNT
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def _bounded(shares: Floats, most: float) -> Floats:
    """The shares with no more than `most` at the levels that show no likeness."""
    different = float(shares[FAR:].sum())
    if different <= most:
        return shares
    return np.concatenate([shares[:FAR] * (1 - most) / (1 - different), shares[FAR:] * most / different])


def _exact_enough(shares: Floats) -> Floats:
    """The shares with no less than LEAST_EXACT_SHARED at the level of what is the same."""
    exact = float(shares[EXACT])
    if exact >= LEAST_EXACT_SHARED:
        return shares
    bounded = shares * (1 - LEAST_EXACT_SHARED) / (1 - exact)
    bounded[EXACT] = LEAST_EXACT_SHARED
    return bounded
