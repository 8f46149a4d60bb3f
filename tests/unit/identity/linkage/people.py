"""Made-up people with misspelt copies, as the relations that linkage reads. Their numbers are keyed hashes, made as at the door."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from waymark.core.warehouse import Connection
from waymark.identity.linkage import Part
from waymark.privacy import Secret
from waymark.privacy.comparables import compared_sql

SECRET = Secret(b"a secret for tests, long enough")
PARTS = [Part("birth", "date", False), Part("family", "name", True), Part("given", "name", False), Part("street", "street", True), Part("town", "place", True)]
GIVEN = "anna berta carl dora emil frieda gustav hanna ida julius karla ludwig martha nora otto paula quirin rosa siegfried theo".split()  # noqa: SIM905
FAMILY = "ackermann bauer conrad drescher ebert fuchs gruber huber imhof jost keller lehmann moser neumann ott pfister ritter sauter thoma vogt".split()  # noqa: SIM905
STREETS = [f"{stem} {kind}" for stem in ("linden", "mill", "park", "hill", "station", "orchard") for kind in ("street", "road", "lane")]
TOWNS = ("basel", "leeds", "nantes", "austin", "graz")


@dataclass(frozen=True)
class Form:
    """What somebody typed once: node, second, texts by part (a part may be missing)."""

    node: int
    at: int
    texts: dict[str, str] = field(default_factory=dict)


def typo(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text))
    return text[:place] + rng.choice("aeimnrst") + text[place + 1 :]


def forms_of(count: int, seed: int) -> tuple[list[Form], dict[int, int]]:
    """Forms of `count` people, two in five with a second identifier; and whose each identifier is."""
    rng = random.Random(seed)
    forms, person = [], {}
    for number in range(count):
        clean = {
            "given": rng.choice(GIVEN), "family": rng.choice(FAMILY), "street": f"{rng.choice(STREETS)} {rng.randrange(60)}", "town": rng.choice(TOWNS),
            "birth": f"{rng.randrange(1940, 2005)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
        }  # fmt: skip
        for copy in range(2 if rng.random() < 0.4 else 1):
            node = number * 4 + copy
            texts = {part: text for part, text in clean.items() if rng.random() > 0.06}
            if copy and rng.random() < 0.06 and {"given", "family"} <= texts.keys():
                texts["given"], texts["family"] = texts["family"], texts["given"]
            if copy:
                texts = {part: typo(text, rng) if part != "birth" and rng.random() < 0.25 else text for part, text in texts.items()}
            forms.append(Form(node, rng.randrange(1000), texts))
            person[node] = number
    return forms, person


def load_facts(connection: Connection, forms: Iterable[Form], name: str = "told", *, secret: Secret = SECRET) -> None:
    """A temp table like identity.comparable_facts; event_id is the form's place."""
    told = list(forms)
    columns: dict[str, list[object]] = {"event_id": [f"e{place:06d}" for place in range(len(told))], "node_id": [form.node for form in told]}
    columns |= {"second": [form.at for form in told]} | {part.name: [form.texts.get(part.name) for form in told] for part in PARTS}
    types = {"event_id": pa.string(), "node_id": pa.int64(), "second": pa.int64()}
    table = pa.table({key: pa.array(values, types.get(key, pa.string())) for key, values in columns.items()})
    connection.register("forms_given", table)
    connection.execute("create or replace temp table typed as from forms_given")
    connection.unregister("forms_given")
    joins, picked = "", []
    for part in PARTS:
        distinct = f"(select distinct {part.name} as raw_{part.name} from typed where {part.name} is not null)"
        hashed = compared_sql(distinct, f"raw_{part.name}", part.name, part.kind)
        joins += f" left join (select raw_{part.name}, told as told_{part.name} from ({hashed})) on raw_{part.name} = {part.name}"
        picked.append(f"told_{part.name}")
    connection.execute(
        f"create or replace temp table {name} as select event_id, node_id, timestamp '2026-01-01' + to_seconds(second) as occurred_at,"
        f" list_filter([{', '.join(picked)}], lambda x: x is not null) as comparables from typed {joins}",
        secret.parameters(),
    )
    connection.execute(f"delete from {name} where len(comparables) = 0")
