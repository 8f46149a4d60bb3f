"""Everything that Dagster shows: loads defs/, and lays the policies over it. Adding an asset never edits this file."""

from pathlib import Path

import dagster as dg

from dagster_project.lib.policies import with_policies


@dg.definitions
def defs() -> dg.Definitions:
    return with_policies(dg.load_from_defs_folder(path_within_project=Path(__file__).parent))
