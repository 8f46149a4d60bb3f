"""What can be switched on in a world, a module each: `apply(block, rate, stream)` adds to the block, drawing from its own named stream alone.

They are applied in this order. `late` comes first, because copies repeat the row as it was delivered; the others do not see each other. A mechanism with
a truth of its own says so in `TRUTHS`: name of the table -> its schema; the table stands beside the others where the mechanism is on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from ml.simulator.block import Block
from ml.simulator.mechanisms import (
    broken,
    conflicts,
    consents,
    crawlers,
    double_reports,
    duplicates,
    households,
    kiosks,
    late,
    leaks,
    names,
    placeholder_emails,
    reused_order_ids,
    second_accounts,
    shared_devices,
    skewed,
    staff,
)  # fmt: skip
from ml.simulator.spec import WorldSpec
from ml.simulator.streams import Stream

Mechanism = Callable[[Block, float, Stream], None]

MECHANISMS: Mapping[str, Mechanism] = {
    "late": late.apply, "duplicates": duplicates.apply, "conflicts": conflicts.apply, "broken": broken.apply, "skewed": skewed.apply,
    "crawlers": crawlers.apply, "staff": staff.apply, "double_reports": double_reports.apply, "kiosks": kiosks.apply,
    "leaks": leaks.apply, "names": names.apply, "households": households.apply, "shared_devices": shared_devices.apply,
    "placeholder_emails": placeholder_emails.apply, "reused_order_ids": reused_order_ids.apply, "second_accounts": second_accounts.apply,
    "consents": consents.apply,
}  # fmt: skip

_TRUTHS: Mapping[str, Mapping[str, pa.Schema]] = {
    "names": names.TRUTHS, "households": households.TRUTHS, "shared_devices": shared_devices.TRUTHS, "placeholder_emails": placeholder_emails.TRUTHS,
    "reused_order_ids": reused_order_ids.TRUTHS, "second_accounts": second_accounts.TRUTHS, "consents": consents.TRUTHS,
}  # fmt: skip


def truth_schemas(spec: WorldSpec) -> dict[str, pa.Schema]:
    """The truth tables that the mechanisms of this world add."""
    return {table: schema for name, truths in _TRUTHS.items() if spec.rate(name) > 0 for table, schema in truths.items()}


__all__ = ["MECHANISMS", "Mechanism", "truth_schemas"]
