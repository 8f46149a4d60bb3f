"""A project of the demo's settings and mapping that runs in this process, for worlds of the simulator."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY
from tests.integration.stepwise import Stepwise, own_mapping

SOURCE = "waymark_world"
DEMO = REPOSITORY / "examples" / "demo"
_OF_THE_PROJECT = ("name", "demo", "sources", "engine")


def world_project(directory: Path, *, min_positives: int, **sections: Any) -> Stepwise:
    """An empty project; its files go to in/waymark_world. sections: of waymark.yml, in the place of the demo's."""
    settings = {name: section for name, section in yaml.safe_load((DEMO / "waymark.yml").read_text()).items() if name not in _OF_THE_PROJECT and section}
    settings["learning"]["min_positives"] = min_positives
    project = Stepwise(directory, {SOURCE: own_mapping(REPOSITORY / "examples" / "sources" / f"{SOURCE}.yml")}, {**settings, **sections})
    shutil.copy(DEMO / settings["money"]["rates"], directory)
    return project
