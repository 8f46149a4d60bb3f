"""A number that was estimated, with what is known about its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

Z95 = 1.959963984540054
NOTHING = (float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Estimate:
    """value with a 95 % interval [low, high], from n rows. NaN where it cannot be estimated (say, an AUC of rows of one class)."""

    value: float
    low: float
    high: float
    n: int

    def excludes(self, number: float) -> bool:
        """Whether the interval lies wholly to one side of the number: a difference that excludes 0 is beyond noise. False where it is NaN."""
        return bool(self.low > number or self.high < number)

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"
