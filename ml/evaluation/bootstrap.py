"""The cluster bootstrap: customers, not rows, are drawn again, because one customer's rows resemble each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ml.evaluation.estimate import NOTHING, Estimate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REPLICATES = 200
_CELLS = 4_000_000


class ClusterBootstrap:
    """Draws of clusters with replacement, as counts. Equal seed and clusters give equal draws.

    codes: each row's cluster, from 0 without holes. count: number of clusters.
    """

    def __init__(self, clusters: npt.ArrayLike | None, rows: int, *, replicates: int = REPLICATES, seed: int = 0) -> None:
        codes = np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
        self.codes: Ints = codes.astype(np.int64)
        self.count = int(self.codes.max()) + 1 if rows else 0
        self.rows, self.replicates, self.seed = rows, replicates, seed

    def draws(self) -> Iterator[Floats]:
        """Blocks (replicates in the block, clusters): how often each cluster was drawn. Blocks are small enough that their rows fit in memory."""
        generator = np.random.default_rng(self.seed)
        block = max(1, _CELLS // max(self.rows, 1))
        for first in range(0, self.replicates, block):
            size = min(block, self.replicates - first)
            drawn = generator.integers(0, self.count, (size, self.count)) + np.arange(size)[:, None] * self.count
            yield np.bincount(drawn.ravel(), minlength=size * self.count).reshape(size, self.count).astype(np.float64)

    def means(self, *values: Floats) -> list[Floats]:
        """The replicates of the mean of each array of row values."""
        sums = np.column_stack([np.bincount(self.codes, value, self.count) for value in (*values, np.ones(self.rows))])
        totals = np.concatenate([draw @ sums for draw in self.draws()])
        return list((totals[:, :-1] / totals[:, -1:]).T)


def percentile_estimate(value: float, replicates: npt.ArrayLike, n: int) -> Estimate:
    """The value with the 2.5th and 97.5th percentiles of its finite replicates; NaN where there are none."""
    finite = np.asarray(replicates, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite) or not np.isfinite(value):
        return Estimate(value, *NOTHING[1:], n=n)
    low, high = np.quantile(finite, (0.025, 0.975))
    return Estimate(value, float(low), float(high), n)
