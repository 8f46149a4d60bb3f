"""What can be switched on in a world, a module each: `apply(block, rate, stream)` adds to the block, drawing from its own named stream alone.

They are applied in this order. `late` comes first, because copies repeat the row as it was delivered; the others do not see each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ml.simulator.block import Block
from ml.simulator.mechanisms import broken, conflicts, crawlers, double_reports, duplicates, kiosks, late, leaks, skewed, staff
from ml.simulator.streams import Stream

Mechanism = Callable[[Block, float, Stream], None]

MECHANISMS: Mapping[str, Mechanism] = {
    "late": late.apply, "duplicates": duplicates.apply, "conflicts": conflicts.apply, "broken": broken.apply, "skewed": skewed.apply,
    "crawlers": crawlers.apply, "staff": staff.apply, "double_reports": double_reports.apply, "kiosks": kiosks.apply,
    "leaks": leaks.apply,
}  # fmt: skip

__all__ = ["MECHANISMS", "Mechanism"]
