"""Probable links in a world whose truth is known: how many are right, how many are found, and whether what is called 95 % comes true in 95 of a hundred.

`python -m benchmarks.linkage_world [--customers N] [--seed N]`. The world has names, households and second accounts; its files go
through the door like anybody's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ml.simulator.spec import DEFAULT_MECHANISMS, WorldSpec
from ml.simulator.world import generate_world
from waymark.core.settings import load_project
from waymark.core.shipped import shipped
from waymark.core.warehouse import Connection, connect, rows
from waymark.identity.linkage import EstimateReport, Part, estimate, facts_sql, link_records, records_sql
from waymark.identity.linkage.calibration import IDENTITY, SIMULATED, Knots
from waymark.identity.linkage.links import LINKS
from waymark.identity.linkage.mixture import CLASSES
from waymark.identity.linkage.records import RECORDS
from waymark.ingestion import ingest_source, load_mapping, prepare_raw
from waymark.ingestion.tables import comparables_sql
from waymark.privacy import Secret

COMPARE = """
compare:
  given_name: {column: given_name, kind: name}
  family_name: {column: family_name, kind: name, household: true}
  street: {column: street, kind: street}
  house_number: {column: house_number, kind: number, household: true}
  postcode: {column: postcode, kind: number, household: true}
  address_city: {column: address_city, kind: place}
  birth_date: {column: birth_date, kind: date}
"""
RATES = {"names": 0.6, "households": 0.3, "second_accounts": 0.2}
SOURCE = "waymark_world"
KNOTS = (0.0, 2.0, 4.0, 9.0, 15.0)  # log-odds of the model
RISES = (1.5, 2.0, 1.2, 0.5)  # what is expected between them: what a model that takes parts for independent is sure of, is rarer than it thinks


@dataclass(frozen=True)
class LinkedWorld:
    """probability, is_right: of each link of now (identity.probable_links); person: of each identifier with a record; log_odds: before calibration."""

    report: EstimateReport
    ends: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    is_right: npt.NDArray[np.bool_]
    person: dict[int, str]
    seconds: float

    @property
    def true_pairs(self) -> int:
        return sum(count * (count - 1) // 2 for count in Counter(self.person.values()).values())

    def pairwise(self, threshold: float) -> tuple[int, int, int]:
        """(links, right ones, true pairs) at a threshold."""
        linked = self.probability >= threshold
        return int(linked.sum()), int(self.is_right[linked].sum()), self.true_pairs

    def b_cubed(self, threshold: float) -> tuple[float, float, float]:
        """Precision, recall and F1 of the components, as the mean over identifiers (Bagga and Baldwin 1998)."""
        nodes = sorted(self.person)
        place = {node: number for number, node in enumerate(nodes)}
        ends = np.array([(place[a], place[b]) for a, b in self.ends[self.probability >= threshold].tolist()], dtype=np.int64).reshape(-1, 2)
        _, component = connected_components(coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(nodes),) * 2), directed=False)
        found = list(zip(component.tolist(), [self.person[node] for node in nodes], strict=True))
        both, of_component, of_person = Counter(found), Counter(component.tolist()), Counter(self.person.values())
        precision = sum(both[one] / of_component[one[0]] for one in found) / len(found)
        recall = sum(both[one] / of_person[one[1]] for one in found) / len(found)
        return precision, recall, 2 * precision * recall / (precision + recall)


def linked_world(folder: Path, customers: int, seed: int, calibration: Knots = SIMULATED, rates: dict[str, float] | None = None) -> LinkedWorld:
    """Makes a world in an empty folder, takes it in, estimates and links."""
    started = monotonic()
    spec = WorldSpec(customers, seed=seed, mechanisms={**DEFAULT_MECHANISMS, **(RATES if rates is None else rates)})
    (folder / "home" / "landing" / SOURCE).mkdir(parents=True)
    generate_world(folder / "home" / "landing" / SOURCE, folder / "truth", spec)
    connection = taken_in(folder)
    secret = Secret(b"a key for a made-up world")
    facts = facts_sql(f"select * from {comparables_relation(connection)}")
    connection.execute(f"create temp table known as {records_sql(f'({facts})')}")
    parts = [Part(name, compared.kind, compared.household) for name, compared in load_mapping(folder / "world.yml").compare.items()]
    report = estimate(connection, "temp.known", parts, fingerprint=secret.fingerprint, calibration=calibration)
    link_records(connection, report.estimation, facts)
    person = persons(connection, folder / "truth")
    links = connection.execute(f"select node_a, node_b, probability from {LINKS} where valid_to is null order by node_a, node_b").fetchnumpy()
    ends = np.stack([links["node_a"], links["node_b"]], axis=1).astype(np.int64).reshape(-1, 2)
    right = np.array([person[a] == person[b] for a, b in ends.tolist()], dtype=np.bool_)
    return LinkedWorld(report, ends, np.asarray(links["probability"]), right, person, monotonic() - started)


def taken_in(folder: Path) -> Connection:
    """Takes in the folder's landed files; intermediate.int_events has what linkage asks of it."""
    (folder / "world.yml").write_text((shipped("examples") / "sources" / f"{SOURCE}.yml").read_text(encoding="utf-8") + COMPARE)
    (folder / "waymark.yml").write_text(f"name: linkage\nsources:\n  {SOURCE}: {{mapping: world.yml, files: ['{{landing}}/*.csv.gz']}}\n")
    project = load_project(folder)
    project = type(project)(folder, project.settings, type(project.home)(folder / "home"))
    project.home.ensure()
    connection = connect()
    prepare_raw(connection, {SOURCE: load_mapping(folder / "world.yml")}, project.home)
    ingest_source(project, SOURCE, connection, Secret(b"a key for a made-up world"))
    connection.execute(f"""
        create schema intermediate;
        create table intermediate.int_events as
        select event_id, source_event_id, occurred_at, identifiers, not is_internal as is_counted,
            list_transform(identifiers, lambda i: (md5_number_lower(i.type || '|' || i.value) >> 1)::bigint) as node_ids
        from raw.{SOURCE}_events
    """)
    return connection


def comparables_relation(connection: Connection) -> str:
    connection.execute(f"create temp table carried as {comparables_sql(connection)}")
    return "temp.carried"


def persons(connection: Connection, truth: Path) -> dict[int, str]:
    """Who filled in the forms of each identifier with a record: the person of most of them."""
    connection.register("truth_forms", pq.read_table(next(truth.glob("truth_forms*"))))
    found = rows(connection, f"""
        select node_id, mode(person_id) from identity.comparable_facts join intermediate.int_events using (event_id)
        join truth_forms t on t.event_id = source_event_id where node_id in (select node_id from {RECORDS}) group by node_id order by node_id
    """)  # fmt: skip
    return {int(str(node)): str(person) for node, person in found}


def fitted_knots(log_odds: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]) -> Knots:
    """The monotone line through KNOTS under which what came true is most likely; log_odds: before calibration, of links (0 and more).

    Below the first knot, where there is no link, it goes on with slope 1.
    """
    base = np.array([np.maximum(0.0, np.minimum(log_odds, b) - a) / (b - a) for a, b in pairwise(KNOTS)])

    def heights(free: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.concatenate([[free[0]], free[0] + np.cumsum(np.logaddexp(0, free[1:]))])

    def loss(free: npt.NDArray[np.float64]) -> float:
        told = free[0] + np.logaddexp(0, free[1:]) @ base
        prior = 2 * float(((np.logaddexp(0, free[1:]) - RISES) ** 2).sum())  # a standard deviation of a half
        return float(np.logaddexp(0, np.where(is_right, -told, told)).sum()) + prior

    found = minimize(loss, np.array([0.0, *RISES]), method="L-BFGS-B").x
    told = [min(round(float(height), 3), 0.0 if place == 0 else 1e9) for place, height in enumerate(heights(found))]
    return ((-30.0, told[0] - 30.0), *zip(KNOTS, told, strict=True))


def calibrate(customers: int, seeds: list[int]) -> Knots:
    """Knots for `waymark.identity.linkage.calibration`, from worlds of these seeds; prints each as it goes."""
    odds, right = [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="waymark-linkage-") as scratch:
            world = linked_world(Path(scratch), customers, seed, calibration=IDENTITY)
        say(world)
        odds.append(np.log(world.probability) - np.log1p(-np.minimum(world.probability, 1 - 1e-13)))
        right.append(world.is_right)
    return fitted_knots(np.concatenate(odds), np.concatenate(right))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.linkage_world", description="Link a made-up world's people, and say how well.")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calibrate", type=int, metavar="N", help="print the knots of the calibration from N worlds, of this seed and those after it")
    given = parser.parse_args()
    if given.calibrate:
        print(calibrate(given.customers, list(range(given.seed, given.seed + given.calibrate))))
        return 0
    with tempfile.TemporaryDirectory(prefix="waymark-linkage-") as scratch:
        world = linked_world(Path(scratch), given.customers, given.seed)
    say(world)
    return 0


def say(world: LinkedWorld) -> None:
    found = world.report
    alike = ", ".join(f"{count:,.0f} {name}" for count, name in zip(found.alike, CLASSES, strict=False)) or "none told apart"
    print(f"{found.records:,} identifiers, {found.candidates:,} pairs, {found.matches:,.0f} one person's; alike: {alike}; {world.seconds:.0f} s")
    for threshold in (0.5, 0.95, 0.99):
        links, right, true = world.pairwise(threshold)
        precision, recall, f1 = world.b_cubed(threshold)
        print(f"at {threshold}: {links:,} links, precision {right / max(1, links):.4f}, recall {right / true:.4f} of {true:,};"
              f" B-cubed precision {precision:.4f}, recall {recall:.4f}, F1 {f1:.4f}")  # fmt: skip
    for low, high in ((0.5, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 0.99), (0.99, 0.999), (0.999, 1.01)):
        of = (world.probability >= low) & (world.probability < high)
        if of.any():
            print(f"  said {low} to {high}: {of.sum():>6} links, mean {world.probability[of].mean():.4f}, right {world.is_right[of].mean():.4f}")


if __name__ == "__main__":
    sys.exit(main())
