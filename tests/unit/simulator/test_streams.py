"""The random streams: what is drawn for a key is a function of seed, name and key, and looks random."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ml.simulator.streams import Stream, mix

SERIALS = (np.arange(20_000, dtype=np.int64)[:, None] << 16 | np.arange(4) << 5).ravel()  # keys as the world has them: structured, not consecutive


def test_a_draw_does_not_depend_on_the_other_keys_nor_on_their_order() -> None:
    stream = Stream(3, "journeys")
    whole = stream.uniform("gap", SERIALS)
    assert np.array_equal(whole[::-7], Stream(3, "journeys").uniform("gap", SERIALS[::-7]))


@pytest.mark.parametrize("other", [Stream(4, "late").child("picked"), Stream(3, "duplicates").child("picked"), Stream(3, "late").child("delay")])
def test_streams_of_another_seed_name_or_purpose_are_uncorrelated(other: Stream) -> None:
    one = Stream(3, "late").child("picked").uniform("u", SERIALS)
    correlation, _ = stats.pearsonr(one, other.uniform("u", SERIALS))
    assert abs(correlation) < 4 / np.sqrt(len(SERIALS))


@pytest.mark.parametrize("name", ["a", "b", "late/picked"])
def test_draws_are_uniform_and_neighbouring_keys_uncorrelated(name: str) -> None:
    draws = Stream(11, "quality").uniform(name, SERIALS)
    assert draws.min() >= 0 and draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 1e-4
    assert stats.chisquare(np.bincount((draws * 64).astype(int))).pvalue > 1e-4
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 4 / np.sqrt(len(draws))


def test_weibull_draws_have_their_distribution() -> None:
    draws = Stream(5, "quality").weibull("w", SERIALS, 0.8)
    assert stats.kstest(draws, stats.weibull_min(0.8).cdf).pvalue > 1e-4


def test_choices_follow_their_weights_and_never_pick_a_weight_of_zero() -> None:
    weights = np.array([0.0, 3.0, 0.0, 1.0, 0.0])
    for picked in (Stream(5, "quality").chosen("c", SERIALS, weights), Stream(5, "quality").chosen("c", SERIALS, np.tile(weights, (len(SERIALS), 1)))):
        counts = np.bincount(picked, minlength=5)
        assert counts[[0, 2, 4]].sum() == 0
        assert stats.binomtest(int(counts[1]), len(SERIALS), 0.75).pvalue > 1e-4


def test_the_finalizer_is_a_bijection_on_the_keys_in_use() -> None:
    assert len(np.unique(mix(SERIALS.astype(np.uint64)))) == len(SERIALS)


def test_a_published_value_of_splitmix64() -> None:
    # the first outputs of SplitMix64 for seed 1234567 (Steele, Lea, Flood; Vigna's reference code)
    gamma, origin = 0x9E3779B97F4A7C15, 1234567
    places = np.array([(origin + gamma * place) % 2**64 for place in (1, 2, 3)], dtype=np.uint64)
    assert mix(places).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
