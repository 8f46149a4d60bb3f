"""What a world is made of. The files' bytes are a function of this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from ml.simulator.catalogue import ENTRY_CHANNELS
from waymark.core.errors import SettingsError

MAX_CUSTOMERS = 10_000_000  # as many as there are phone numbers of seven digits
DAY_MS = 86_400_000

# Rates, each of what its module in mechanisms/ says (most: of the customers' own events). Absent or 0 is off.
DEFAULT_MECHANISMS: Mapping[str, float] = {
    "late": 0.02, "duplicates": 0.01, "conflicts": 0.002, "broken": 0.003, "skewed": 0.0005,
    "crawlers": 0.03, "staff": 0.004, "double_reports": 0.05,
}  # fmt: skip


@dataclass(frozen=True)
class Drift:
    """A change of the world from 00:00 UTC of a day on (counted from the world's start): what was learned before holds less after it.

    forward, leaving: factors on the odds of moving to a later stage and of leaving for good. channels: factors on the weights of ways in, by the
    names of catalogue.ENTRY_CHANNELS. Raises SettingsError for a factor that is not positive or a channel that does not exist.
    """

    day: int
    forward: float = 1.0
    leaving: float = 1.0
    channels: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.channels) - set(ENTRY_CHANNELS))
        if unknown:
            raise SettingsError(f"there is no way in '{unknown[0]}'", where="Drift.channels", remedy=f"Known are: {', '.join(ENTRY_CHANNELS)}.")
        if self.day < 0 or min(self.forward, self.leaving, *self.channels.values()) <= 0:
            raise SettingsError("a drift needs a day of the world and positive factors", where="Drift", remedy="1 leaves things as they are.")


@dataclass(frozen=True)
class WorldSpec:
    """A world: how many customers, for how long, and which mechanisms at which rate.

    days: length of the window in which things happen; files may arrive later. file_days: days of arrival in one file.
    mechanisms: name -> rate in [0, 1]. drift: a change of the world in its course. is_identified: every row of a customer carries the account's id,
    from the first on, so that a pipeline's customers are the persons. Raises SettingsError for a value that makes no world.
    """

    customers: int = 20_000
    days: int = 182
    start: date = date(2026, 1, 5)
    seed: int = 1
    file_days: int = 7
    gzip: bool = True
    mechanisms: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MECHANISMS))
    drift: Drift | None = None
    is_identified: bool = False

    def __post_init__(self) -> None:
        bounds = {"customers": (1, MAX_CUSTOMERS), "days": (14, 3650), "file_days": (1, 3650), "seed": (0, 2**63 - 1)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f"{name} is {value}", where="WorldSpec", remedy=f"Use a whole number from {low} to {high}.")
        for name, rate in self.mechanisms.items():
            if not 0 <= rate <= 1:
                raise SettingsError(f"the rate of '{name}' is {rate}", where="WorldSpec.mechanisms", remedy="Use a share from 0 to 1.")

    @property
    def start_ms(self) -> int:
        """The first instant of the window, in epoch milliseconds UTC."""
        return (self.start.toordinal() - date(1970, 1, 1).toordinal()) * DAY_MS

    @property
    def end_ms(self) -> int:
        """The instant after the window."""
        return self.start_ms + self.days * DAY_MS

    def rate(self, mechanism: str) -> float:
        return float(self.mechanisms.get(mechanism, 0.0))


def rates_given(texts: Sequence[str]) -> dict[str, float]:
    """The default mechanisms' rates, with those that a command line gives as NAME=RATE in their place or beside them.

    Raises SettingsError for a text of another form; WorldSpec and generate_world refuse impossible rates and unknown names.
    """
    rates = dict(DEFAULT_MECHANISMS)
    for text in texts:
        name, _, rate = text.partition("=")
        try:
            rates[name] = float(rate)
        except ValueError as error:
            raise SettingsError(f"'{text}' is not NAME=RATE", where="--rate", remedy="Write, for instance: --rate late=0.05") from error
    return rates
