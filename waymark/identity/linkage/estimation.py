"""What was estimated, frozen: with it, a pair's probability is a function of the two records alone.

The model is a mixture of classes of pairs: strangers, one person, and people who are alike without being one (mixture.py). A pair's weights are those of
Fellegi and Sunter (1969), with the frequencies of agreeing values (Winkler 2000) in the place of their mean.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from waymark.core.errors import WaymarkError
from waymark.core.home import Home, write_atomically
from waymark.identity.linkage.comparisons import LEVELS, Part

FOLDER = "linkage"
CURRENT = "current"
FORMAT = 1
_DIGITS = 8
ESTIMATE = "Estimate anew: waymark identity estimate"


@dataclass(frozen=True)
class PartEstimate:
    """A part's shares by level (LEVELS): among one person's pairs (m), strangers' (u), and each class of people who are alike (none: a part of one's own).

    frequencies: of its most frequent values, by their exact hash, largest first; rare: of any other value. They are shares of the records that know the part.
    """

    part: Part
    m: tuple[float, ...]
    u: tuple[float, ...]
    alike: tuple[tuple[float, ...], ...]
    frequencies: tuple[tuple[int, float], ...]
    rare: float


@dataclass(frozen=True)
class Estimation:
    """match, alike: the shares of one person's pairs, and of those of each further class, among all pairs. block_limit: a key of more nodes finds nobody.

    calibration: a monotone map, as (log-odds of the model, log-odds told); fingerprint: of the secret under which everything was hashed. records, seed: of
    how many records, and with which seed, it was estimated.
    """

    parts: tuple[PartEstimate, ...]
    match: float
    alike: tuple[float, ...]
    block_limit: int
    calibration: tuple[tuple[float, float], ...]
    fingerprint: str
    records: int
    seed: int
    version: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", hashlib.sha256(self._content().encode()).hexdigest()[:16])

    @property
    def number(self) -> int:
        """The version as a positive 31-bit number, as links carry it."""
        return int(self.version, 16) % (2**31 - 1) + 1

    def _content(self) -> str:
        document = asdict(self)
        del document["version"]
        return json.dumps({"format": FORMAT, "levels": LEVELS, **document}, sort_keys=True)

    def to_json(self) -> str:
        """The artifact's text; `from_json` gives the same estimation, to the bit."""
        return json.dumps({"version": self.version, **json.loads(self._content())}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> Estimation:
        """Raises WaymarkError where the text is no artifact of this form, or was altered."""
        try:
            document: dict[str, Any] = json.loads(text)
            if (document["format"], tuple(document["levels"])) != (FORMAT, LEVELS):
                raise WaymarkError("the estimation is of another form than this Waymark's", where=where, remedy=ESTIMATE)
            parts = tuple(
                PartEstimate(
                    Part(**told["part"]), tuple(told["m"]), tuple(told["u"]), tuple(tuple(shares) for shares in told["alike"]),
                    tuple((int(value), float(share)) for value, share in told["frequencies"]), told["rare"],
                )
                for told in document["parts"]
            )  # fmt: skip
            found = cls(
                parts, document["match"], tuple(document["alike"]), document["block_limit"], tuple((x, y) for x, y in document["calibration"]),
                document["fingerprint"], document["records"], document["seed"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise WaymarkError("the estimation cannot be read", where=where, remedy=ESTIMATE) from error
        if found.version != document.get("version"):
            raise WaymarkError(f"the estimation was altered: it says version {document.get('version')}, and is {found.version}", where=where, remedy=ESTIMATE)
        return found


def rounded(value: float) -> float:
    """To eight significant digits: estimations that differ by the order of a sum alone are one version."""
    return float(f"{value:.{_DIGITS - 1}e}")


def keep_estimation(home: Home, estimation: Estimation) -> Path:
    """Writes the artifact (mode 600: it holds keyed hashes), which is not in force by that; older ones stay. Gives its path."""
    folder = home.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{estimation.version}.json"
    write_atomically(path, estimation.to_json() + "\n", mode=0o600)
    return path


def put_in_force(home: Home, estimation: Estimation) -> None:
    """Makes a kept estimation the one that the next run links by."""
    write_atomically(home.root / FOLDER / CURRENT, estimation.version + "\n", mode=0o600)


def version_in_force(home: Home) -> str | None:
    """The version of the estimation in force; None where none was made yet."""
    try:
        return (home.root / FOLDER / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def current_estimation(home: Home, fingerprint: str) -> Estimation | None:
    """The estimation in force, or None where none was made yet.

    fingerprint: of the secret that hashes the records. Raises WaymarkError where the artifact is gone, altered, or of another secret: under another key no two
    values are equal, and nobody would be linked.
    """
    version = version_in_force(home)
    if version is None:
        return None
    path = home.root / FOLDER / f"{version}.json"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WaymarkError("the estimation in force is gone", where=str(path), remedy=ESTIMATE) from error
    found = Estimation.from_json(text, str(path))
    if found.fingerprint != fingerprint:
        raise WaymarkError(
            f"the estimation was made under another secret (fingerprint {found.fingerprint}, this one's is {fingerprint})", where=str(path),
            remedy=f"Set WAYMARK_SECRET to that secret. {ESTIMATE}",
        )  # fmt: skip
    return found


def has_estimation(home: Home) -> bool:
    """Whether the artifact of one is here, in force or, after a kill, not yet."""
    return any((home.root / FOLDER).glob("*.json"))


def remove_estimations(home: Home) -> None:
    """Removes every artifact. First none is in force: a kill in between leaves no version in force whose artifact is gone."""
    folder = home.root / FOLDER
    (folder / CURRENT).unlink(missing_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()


def remove_other_estimations(home: Home) -> None:
    """Removes every artifact but the one in force."""
    folder = home.root / FOLDER
    current = version_in_force(home)
    for path in folder.glob("*.json"):
        if path.stem != current:
            path.unlink()
