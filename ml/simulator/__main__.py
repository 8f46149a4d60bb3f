"""`python -m ml.simulator --landing DIR --truth DIR`: makes a world and says what is in it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ml.simulator.mechanisms import MECHANISMS
from ml.simulator.oracle import write_propensity
from ml.simulator.spec import Drift, WorldSpec, rates_given
from ml.simulator.world import generate_world
from waymark.core.errors import WaymarkError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; gives its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ml.simulator", description="Make a known-truth world: source files in one folder, truth in another.")
    default = WorldSpec()
    parser.add_argument("--landing", type=Path, required=True, help="folder for the source files")
    parser.add_argument("--truth", type=Path, required=True, help="folder for the truth tables (Parquet)")
    parser.add_argument("--customers", type=int, default=default.customers, help="default: %(default)s")
    parser.add_argument("--days", type=int, default=default.days, help="length of the window; default: %(default)s")
    parser.add_argument("--seed", type=int, default=default.seed, help="default: %(default)s")
    parser.add_argument("--file-days", type=int, default=default.file_days, help="days of arrival in one file; default: %(default)s")
    parser.add_argument("--plain", action="store_true", help="write .csv instead of .csv.gz")
    parser.add_argument("--rate", action="append", default=[], metavar="NAME=RATE", help=f"a mechanism's rate, 0 is off: {', '.join(MECHANISMS)}")
    parser.add_argument("--identified", action="store_true", help="every row of a customer names the account")
    parser.add_argument("--drift", metavar="DAY=FACTOR", help="from that day of the world on, the odds of moving forward are multiplied")
    parser.add_argument("--propensity", action="store_true", help="write the oracle's probabilities, too (truth_propensity)")
    given = parser.parse_args(arguments)
    try:
        rates = rates_given(given.rate)
        day, factor = _drift(given.drift) if given.drift else ("", 1.0)
        if day and not day.isdecimal():
            raise WaymarkError(f"'{day}' is no day of a world", where="--drift", remedy="Write, for instance: --drift 120=0.5")
        spec = WorldSpec(
            given.customers, days=given.days, seed=given.seed, file_days=given.file_days, gzip=not given.plain, mechanisms=rates,
            drift=Drift(int(day), forward=factor) if day else None, is_identified=given.identified,
        )  # fmt: skip
        report = generate_world(given.landing, given.truth, spec)
        if given.propensity:
            write_propensity(given.truth, spec)
    except WaymarkError as error:
        print(f"ml.simulator: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{report.customers:,} customers, {report.events:,} events, {report.rows:,} rows in {report.files} files, {report.seconds:.1f} s")
    for kind, count in report.rows_by_kind.items():
        print(f"  {kind:<16}{count:>12,}")
    return 0


def _drift(text: str) -> tuple[str, float]:
    day, _, factor = text.partition("=")
    try:
        return day, float(factor)
    except ValueError as error:
        raise WaymarkError(f"'{text}' is not DAY=FACTOR", where="--drift", remedy="Write, for instance: --drift 120=0.5") from error


if __name__ == "__main__":
    sys.exit(main())
