"""FEBRL's persons through the door: keyed hashes alone, unsupervised, linked at a match probability of .95; beside them clear text, and whole-field hashes.

`python -m benchmarks.febrl [--data FOLDER] [--keys N]`. dataset4 is 5,000 persons and one corrupted copy of each; dataset3 is 2,000 persons and 3,000 copies
(Christen 2005). All records are compared with all others, and the truth (rec_id) is asked when everything is linked. "clear text" is the same model with
edit distances between the texts in the place of bigram sets; "whole fields" the same with nothing but equality of a part's hash.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import monotonic

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from waymark.core.settings import load_project
from waymark.core.warehouse import Connection, connect, rows
from waymark.identity.linkage import Estimation, Part, estimate, facts_sql, link_records, records_sql
from waymark.identity.linkage.comparisons import EXACT, LEVELS, OTHER, comparisons_of, keys_sql, overlap_sql
from waymark.identity.linkage.estimator import FIRST_MATCHES, SEED, EstimateReport
from waymark.identity.linkage.links import KEYS, LINKS
from waymark.identity.linkage.mixture import Floats, Pairs, fit, responsibilities
from waymark.identity.linkage.records import RECORDS
from waymark.ingestion import ingest_source, load_mapping, prepare_raw
from waymark.ingestion.tables import comparables_sql
from waymark.privacy import Secret

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "febrl"
FILES = {"dataset4": ("dataset4a.csv", "dataset4b.csv"), "dataset3": ("dataset3.csv",)}
KINDS = {
    "given_name": "name", "surname": "name", "street_number": "number", "address_1": "street", "address_2": "street", "suburb": "place", "postcode": "number",
    "state": "place", "date_of_birth": "date", "soc_sec_id": "number",
}  # fmt: skip
IN_COMMON = ("surname", "street_number", "postcode")  # of a household, beside streets and places
SSN, SSN_AND_BIRTH = ("soc_sec_id",), ("soc_sec_id", "date_of_birth")
THRESHOLD = 0.95


@dataclass(frozen=True)
class Grade:
    """Of pairs: precision, recall, f1; blocking: the share of true pairs that were compared at all; n: true pairs; seconds: of the whole way."""

    precision: float
    recall: float
    f1: float
    blocking: float
    n: int
    seconds: float


class Door:
    """A dataset as a source that was taken in, under a key of its own, and linked. withheld: columns that the mapping does not name."""

    def __init__(self, data: Path, dataset: str, withheld: Collection[str] = (), key: bytes | None = None) -> None:
        self.started = monotonic()
        self.parts = [Part(name, kind, kind in ("street", "place") or name in IN_COMMON) for name, kind in sorted(KINDS.items()) if name not in withheld]
        self.secret = Secret(key or secrets.token_bytes(32))
        self.connection = _taken_in(data, dataset, self.parts, self.secret)
        self.facts = facts_sql("select * from temp.carried")
        self.connection.execute(f"create temp table known as {records_sql(f'({self.facts})')}")
        self.report: EstimateReport = estimate(self.connection, "temp.known", self.parts, fingerprint=self.secret.fingerprint)
        link_records(self.connection, self.report.estimation, self.facts)
        self.seconds = monotonic() - self.started

    @property
    def estimation(self) -> Estimation:
        return self.report.estimation

    def grade(self, threshold: float = THRESHOLD) -> Grade:
        links = rows(self.connection, f"select node_a, node_b from {LINKS} where probability >= {threshold} order by all nulls last")
        return self._graded([(int(str(a)), int(str(b))) for a, b in links], self.blocking(), self.seconds)

    def clustered(self, threshold: float = THRESHOLD) -> Grade:
        """The same for the pairs of connected components, as identity resolution makes customers of links."""
        links = rows(self.connection, f"select node_a, node_b from {LINKS} where probability >= {threshold} order by all nulls last")
        place = {node: number for number, node in enumerate(self.persons)}
        ends = np.array([(place[int(str(a))], place[int(str(b))]) for a, b in links]).reshape(-1, 2)
        _, component = connected_components(coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(place),) * 2), directed=False)
        members: dict[int, list[int]] = {}
        for node, number in zip(self.persons, component.tolist(), strict=True):
            members.setdefault(number, []).append(node)
        pairs = [(one, other) for nodes in members.values() for at, one in enumerate(nodes) for other in nodes[at + 1 :]]
        return self._graded(pairs, self.blocking(), self.seconds)

    @property
    def persons(self) -> dict[int, str]:
        """Who each node is, by the truth."""
        found = rows(self.connection, "select node_ids[1], user_id from intermediate.int_events order by 1 nulls last")
        return {int(str(node)): re.sub(r"-(org|dup).*", "", str(record)) for node, record in found}

    def true_pairs(self) -> int:
        _, counts = np.unique(list(self.persons.values()), return_counts=True)
        return int((counts * (counts - 1) // 2).sum())

    def blocking(self) -> float:
        from waymark.identity.linkage.candidates import pairs_sql

        self.connection.execute(f"create or replace temp table wide as select row_number() over (order by node_id) as record, * from {RECORDS}")
        pairs = rows(self.connection, f"select node_a, node_b from ({pairs_sql(KEYS, 'temp.wide', self.estimation.block_limit)}) order by all nulls last")
        persons = self.persons
        return sum(persons[int(str(a))] == persons[int(str(b))] for a, b in pairs) / self.true_pairs()

    def _graded(self, pairs: list[tuple[int, int]], blocking: float, seconds: float) -> Grade:
        persons, n = self.persons, self.true_pairs()
        right = sum(persons[a] == persons[b] for a, b in pairs)
        precision, recall = right / max(1, len(pairs)), right / n
        return Grade(precision, recall, 2 * right / (len(pairs) + n), blocking, n, seconds)

    def whole_fields(self) -> Grade:
        """Whole-field hashes alone: equal or not, and candidates by equal hashes."""
        exact = f"(select * replace ({', '.join(f'{part.name}_exact as {part.name}_phonetic' for part in self.parts)}) from wide_records)"
        return self._by_levels(exact, lambda levels: np.where(levels == EXACT, EXACT, np.where(levels < 0, levels, OTHER)).astype(np.int8))

    def clear_text(self, data: Path, dataset: str) -> Grade:
        """Texts that nobody may keep: the edit distance (Damerau-Levenshtein, of the longer's length) in the place of the bigrams' overlap."""
        _read_clear(self.connection, data, dataset, self.parts)
        return self._by_levels("wide_records", lambda levels: levels, clear=True)

    def _by_levels(self, keyed: str, seen: Callable[[npt.NDArray[np.int8]], npt.NDArray[np.int8]], *, clear: bool = False) -> Grade:
        """Grades the same mixture over levels that are seen in another way, of the same records."""
        from waymark.identity.linkage.candidates import pairs_sql
        from waymark.identity.linkage.comparisons import wide_sql

        started, connection = monotonic(), self.connection
        connection.execute(
            f"create or replace temp table wide_records as select row_number() over (order by node_id) as record, * from ({wide_sql(RECORDS, self.parts)})"
        )
        connection.execute(f"create or replace temp table other_keys as {keys_sql(keyed, self.parts)}")
        connection.execute(f"create or replace temp table pairs as {pairs_sql('temp.other_keys', 'temp.wide_records', self.estimation.block_limit)}")
        connection.execute(
            "create or replace temp table strangers as select a.record as record_l, b.record as record_r, a.node_id as node_a, b.node_id as node_b"
            f" from (select * from temp.wide_records order by md5('{SEED}' || node_id) limit 1000) a"
            f" join (select * from temp.wide_records order by md5('{SEED}' || node_id) limit 1000) b on a.node_id < b.node_id"
        )
        levels, agreed = _levels(connection, "pairs", self.parts, clear=clear)
        stranger, _ = _levels(connection, "strangers", self.parts, clear=clear)
        counts = np.stack([np.bincount(column[column >= 0], minlength=len(LEVELS)) for column in seen(stranger).T])
        u = np.maximum(counts / counts.sum(axis=1, keepdims=True), 0.5 / len(stranger))
        levels = seen(levels)
        count = int(str(rows(connection, "select count(*) from temp.wide_records")[0][0]))
        rarity = np.where(levels == EXACT, np.log(u[:, EXACT]) - np.log(np.where(agreed > 0, agreed, 1.0)), 0.0)
        given = Pairs(levels, rarity, count * (count - 1) / 2, u, np.array([part.is_shared for part in self.parts]))
        found = fit(given, FIRST_MATCHES * count)
        (chance, *_), _ = responsibilities(given, found)
        ends = connection.execute("select node_a, node_b from pairs order by record_l, record_r").fetchnumpy()
        nodes = list(zip(ends["node_a"].tolist(), ends["node_b"].tolist(), strict=True))
        persons = self.persons
        blocking = sum(persons[a] == persons[b] for a, b in nodes) / self.true_pairs()
        linked = [pair for pair, likely in zip(nodes, (chance >= THRESHOLD).tolist(), strict=True) if likely]
        return self._graded(linked, blocking, monotonic() - started)


def _taken_in(data: Path, dataset: str, parts: list[Part], secret: Secret) -> Connection:
    with tempfile.TemporaryDirectory(prefix="waymark-febrl-") as scratch:
        folder = Path(scratch)
        compared = "".join(f'  {part.name}: {{column: {part.name}, kind: {part.kind}, household: {str(part.is_shared).lower()}}}\n' for part in parts)
        (folder / "febrl.yml").write_text(
            "source: febrl\nformat: csv\ncolumns:\n  event_id: rec_id\n  user_id: rec_id\n  occurred_at: {const: '2026-01-01'}\n"
            f"  event_type: {{const: person_registered}}\ncompare:\n{compared}"
        )
        files = ", ".join(f"'{data / name}'" for name in FILES[dataset])
        (folder / "waymark.yml").write_text(f"name: febrl\nsources:\n  febrl: {{mapping: febrl.yml, files: [{files}]}}\n")
        project = load_project(folder)
        project = type(project)(folder, project.settings, type(project.home)(folder / "home"))
        project.home.ensure()
        connection = connect()
        prepare_raw(connection, {"febrl": load_mapping(folder / "febrl.yml")}, project.home)
        ingest_source(project, "febrl", connection, secret)
        connection.execute(f"create temp table carried as {comparables_sql(connection)}")
        connection.execute("""
            create schema intermediate;
            create table intermediate.int_events as
            select event_id, occurred_at, user_id, identifiers, true as is_counted,
                list_transform(identifiers, lambda i: (md5_number_lower(i.type || '|' || i.value) >> 1)::bigint) as node_ids
            from raw.febrl_events
        """)
    return connection


def _read_clear(connection: Connection, data: Path, dataset: str, parts: list[Part]) -> None:
    read = ", ".join(f"'{data / name}'" for name in FILES[dataset])
    texts = ", ".join(f"nullif(regexp_replace(lower({part.name}), '[^a-z0-9]', '', 'g'), '') as {part.name}_text" for part in parts)
    connection.execute(f"""
        create or replace temp table texts as
        select node_ids[1] as node_id, t.* exclude (rec_id)
        from (select rec_id, {texts} from read_csv([{read}], all_varchar = true, normalize_names = true)) t join intermediate.int_events on user_id = rec_id
    """)


def _levels(connection: Connection, pairs: str, parts: list[Part], *, clear: bool) -> tuple[npt.NDArray[np.int8], Floats]:
    """(pairs, parts): the levels, and how frequent a value is in which both agree (0: they do not)."""
    from waymark.identity.linkage.scoring import vectors_sql

    if not clear:
        told = vectors_sql(pairs, "temp.wide_records", parts)
    else:
        columns = [f"{part.name}_{form}" for part in parts for form in ("exact", "phonetic", "prefix", "text")]
        both = ", ".join(f"{side}.{column} as {column}_{side}" for side in "lr" for column in columns)
        wide = "(select * from temp.wide_records join temp.texts using (node_id))"

        def by_texts(level: str) -> str:
            for one, other in product([part.name for part in parts], repeat=2):  # of parts in each other's place, too
                left, right = f"{one}_text_l", f"{other}_text_r"
                likeness = f"(1 - damerau_levenshtein({left}, {right}) / greatest(length({left}), length({right})))"
                level = level.replace(overlap_sql(one, other), likeness)
            return level

        told_levels = ", ".join(
            f"{by_texts(comparison.level_sql())} as level_{name},"
            f" case when {name}_exact_l = {name}_exact_r then {name}_exact_l end as {name}_held_l"
            for comparison in comparisons_of(parts)
            for name in [comparison.part.name]
        )
        joined = f"select p.*, {both} from {pairs} p join {wide} l on l.record = p.record_l join {wide} r on r.record = p.record_r"
        told = f"select record_l, record_r, {told_levels} from ({joined})"
    frequencies = " ".join(
        f"left join (select {part.name}_exact as value, count(*) / (select count({part.name}_exact) from temp.wide_records) as share"
        f" from temp.wide_records where {part.name}_exact is not null group by 1) f_{part.name} on f_{part.name}.value = {part.name}_held_l"
        for part in parts
    )  # fmt: skip
    picked = ", ".join(f"cast(level_{part.name} as tinyint) as l_{part.name}, coalesce(f_{part.name}.share, 0.0)::double as f_{part.name}" for part in parts)
    found = connection.execute(f"select {picked} from ({told}) {frequencies} order by record_l, record_r").fetchnumpy()
    return (
        np.stack([np.asarray(found[f"l_{part.name}"], dtype=np.int8) for part in parts], axis=1),
        np.stack([np.asarray(found[f"f_{part.name}"], dtype=np.float64) for part in parts], axis=1),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.febrl", description="Link FEBRL's persons by keyed hashes alone.")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--keys", type=int, default=1, help="random keys to try; default: %(default)s")
    parser.add_argument("--only", choices=tuple(FILES), help="nothing but this dataset")
    given = parser.parse_args()
    print("| dataset | withheld | by | precision | recall | F1 | compared at all | seconds |\n|---|---|---|---|---|---|---|---|")
    for dataset in FILES if given.only is None else (given.only,):
        for withheld in ((), SSN, SSN_AND_BIRTH):
            for number in range(given.keys):
                door = Door(given.data, dataset, withheld)
                _say(dataset, withheld, f"keyed hashes, key {number + 1}", door.grade())
            _say(dataset, withheld, "keyed hashes, clustered", door.clustered())
            _say(dataset, withheld, "clear text", door.clear_text(given.data, dataset))
            _say(dataset, withheld, "whole fields", door.whole_fields())
    return 0


def _say(dataset: str, withheld: Collection[str], by: str, grade: Grade) -> None:
    figures = " | ".join(f"{value:.4f}" for value in (grade.precision, grade.recall, grade.f1, grade.blocking))
    print(f"| {dataset} | {', '.join(withheld) or 'nothing'} | {by} | {figures} | {grade.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
