"""The manifest's digests are brought up to date with what an increment changes, and are those of the whole tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.consent_logs import consent_shop, consents, give_consents
from tests.integration.stepwise import Stepwise
from waymark.core.digest import Sums, table_digest, table_sums
from waymark.core.home import read_json
from waymark.core.warehouse import Connection, connect, rows
from waymark.pipeline import kept_digests, verify
from waymark.pipeline.kept_digests import STORED_AS, kept_sums
from waymark.pipeline.publish import LOG_TABLES, publish

BATCHES = 2
MARTS = 10


def manifest_digests(project: Stepwise) -> dict[str, str]:
    found = (read_json(project.home.manifest) or {})["digests"]
    assert isinstance(found, dict) and len(found) == MARTS and not set(found) & set(LOG_TABLES)
    return found


def whole_digests(project: Stepwise) -> dict[str, str]:
    """The same, read from the published tables row by row."""
    with connect(project.home.published, read_only=True) as connection:
        return {name: table_digest(connection, STORED_AS.get(name, name))[1] for name in manifest_digests(project)}


@pytest.mark.prove
def test_digests_kept_over_increments_are_those_of_the_whole_tables_and_read_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries, read = consents(7, cells=8, batches=BATCHES), list[str]()

    def told_sums(connection: Connection, relation: str) -> Sums:
        read.append(relation)
        return table_sums(connection, relation)

    monkeypatch.setattr(kept_digests, "table_sums", told_sums)
    project, seen = consent_shop(tmp_path / "project"), []
    for batch in range(BATCHES):
        give_consents(project, [delivery for delivery in deliveries if delivery.batch == batch], f"b{batch}")
        project.run(checks=False)
        seen.append(manifest_digests(project))
        assert seen[-1] == whole_digests(project)
        assert len(read) == MARTS, "after the first publication no table is read whole"
    changed = [name for name in seen[0] if len({digests[name] for digests in seen}) == BATCHES]
    assert {*("marts.fct_events", "marts.fct_journeys", "marts.dim_customers"), *("marts.fct_consent_intervals", "marts.dim_identity_clusters")} <= set(changed)
    with connect(project.home.published, read_only=True) as connection:
        assert rows(connection, "select 1 from information_schema.tables where table_name = 'table_digests'") == []

    # Who takes rows away past the models is found by their number, who alters them by `waymark verify`; a rebuild digests anew.
    with connect(project.home.warehouse) as connection:
        connection.execute("delete from marts.fct_sessions where event_count > 1")
    publish(project.started())
    assert manifest_digests(project) == whole_digests(project) and read[MARTS:] == ["marts.fct_sessions"]
    with connect(project.home.warehouse) as connection:
        connection.execute("update marts.fct_journeys set step_count = step_count + 1")
        kept, name = kept_sums(connection), "marts.fct_journeys"
        wrong = verify._compare(connection, name, name, kept[name])
        assert (wrong.equal, wrong.kept_wrongly) == (False, True) and "digest" in wrong.verdict
        assert verify._compare(connection, "marts.dim_customers", "marts.dim_customers", kept["marts.dim_customers"]).equal
    project.run(checks=False, full_refresh=True)
    assert manifest_digests(project) == whole_digests(project)
