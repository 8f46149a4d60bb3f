"""Retention as a step of a run: what is too old leaves the lake once all sources are taken in, and every table is then rebuilt without it.

Decision: a rebuild, not a re-statement. Context: a link, a first touch or a customer's id may rest on what leaves, so nearly everything may change; and whole
days leave, so at most one run a day removes anything. Consequence: that run costs what a full refresh costs, and equals one by construction.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from waymark.core.home import Home, read_json
from waymark.core.warehouse import Connection, rows
from waymark.ingestion import remove_expired
from waymark.pipeline.progress import Stage

if TYPE_CHECKING:
    from waymark.pipeline.steps import Run


def apply_retention(run: Run) -> int:
    """Removes the events that the settings keep no longer, as of data_now; how many. A scratch warehouse only reads the lake: nothing is removed for it."""
    home, settings = run.project.home, run.project.settings
    if not (settings.retention or settings.retention_without_consent) or run.warehouse != home.warehouse:
        return 0
    with Stage("retention") as stage, run.open_warehouse() as connection:

        def rebuild_all() -> None:
            run.mark_unpublished()
            connection.execute("update raw.build_state set full_refresh_needed = true")

        is_modelled = not rows(connection, "select full_refresh_needed from raw.build_state")[0][0]
        removals = remove_expired(
            connection, home, run.mappings, settings.retention_days, without=settings.retention_days_without_consent,
            places=settings.consent.telling_places(), is_modelled=is_modelled,
            session_gap=timedelta(minutes=settings.time.session_gap_minutes), and_then=rebuild_all,
        )  # fmt: skip
        stage.rows, files = sum(removal.rows for removal in removals), sum(removal.files for removal in removals)
        stage.detail = f"{stage.rows:,} events removed, {files:,} files of the lake written anew" if removals else "nothing is too old"
    return stage.rows


def newest_removal(connection: Connection) -> int:
    """Number of the last removal; 0 where there was none."""
    return int(str(rows(connection, "select coalesce(max(removal_id), 0) from raw.removals")[0][0]))


def is_removed_since_published(connection: Connection, home: Home) -> bool:
    """Whether events were removed since the last publication: their bytes may still stand in freed blocks of the file that would be published."""
    return newest_removal(connection) != (read_json(home.manifest) or {}).get("newest_removal", 0)
