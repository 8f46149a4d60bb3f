"""Named random streams without state: the draw for a key is a function of (seed, name, key) alone.

So no draw depends on how many others were made before it, on the size of a block of customers or on the order of work, and a new mechanism with a
new name moves nobody else's draws. A stream's key comes from numpy's SeedSequence over (seed, name); the draw for an integer key is SplitMix64's
output function (Steele, Lea, Flood 2014) at that key's place in its sequence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(words: Words) -> Words:
    """SplitMix64's finalizer: a bijection of 64-bit words."""
    mixed = words ^ (words >> np.uint64(30))
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


class Stream:
    """One named stream. Keys are integers >= 0; equal keys give equal draws."""

    def __init__(self, seed: int, name: str) -> None:
        self.seed, self.name = seed, name
        self._origin = np.random.SeedSequence([seed, *name.encode()]).generate_state(1, np.uint64)[0]
        self._children: dict[str, Stream] = {}

    def child(self, name: str) -> Stream:
        """The stream for one purpose inside this one's."""
        if name not in self._children:
            self._children[name] = Stream(self.seed, f"{self.name}/{name}")
        return self._children[name]

    def words(self, name: str, keys: Ints) -> Words:
        """64 random bits a key; distinct keys give distinct words."""
        return mix(keys.astype(np.uint64) * _GAMMA + self.child(name)._origin)

    def uniform(self, name: str, keys: Ints) -> Floats:
        """Uniform on [0, 1)."""
        return (self.words(name, keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, name: str, keys: Ints, bound: int) -> Ints:
        """Uniform whole numbers in [0, bound)."""
        return (self.uniform(name, keys) * bound).astype(np.int64)

    def exponential(self, name: str, keys: Ints) -> Floats:
        """Exponential with mean 1."""
        return -np.log1p(-self.uniform(name, keys))

    def weibull(self, name: str, keys: Ints, shape: Floats | float) -> Floats:
        """Weibull with scale 1: (-ln U)^(1/shape)."""
        return np.asarray(self.exponential(name, keys) ** (1.0 / np.asarray(shape)), dtype=np.float64)

    def chosen(self, name: str, keys: Ints, weights: Floats) -> Ints:
        """An index a key by `weights`, either (k,) for all keys or (keys, k); they need not sum to 1."""
        cumulative = np.cumsum(weights, axis=-1)
        thresholds = self.uniform(name, keys) * cumulative[..., -1]
        if cumulative.ndim == 1:
            return np.asarray(np.searchsorted(cumulative, thresholds, side="right"), dtype=np.int64)
        return np.asarray((thresholds[:, None] >= cumulative).sum(axis=1), dtype=np.int64)
