"""The step of the build that puts the dbt project and the examples into the wheel, as `waymark/_shipped/`. Only setuptools runs it (pyproject.toml).

The folder `dbt` may be no package of its own: its name is that of dbt-core's. Dagster looks for its settings in a file above the package, where an
installation has none; so the wheel has them inside the package, as pyproject.toml states them. This module imports nothing of ours, for the build
does not have it.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

from setuptools.command.build_py import build_py

SHIPPED = {"dbt": {".sql", ".yml", ".csv", ".md"}, "examples": {".yml", ".csv", ".md"}}
MADE_BY_RUNS = {"target", "logs", "dbt_packages", ".waymark", "truth", "__pycache__"}


def files_to_ship(checkout: Path) -> list[Path]:
    """Relative paths of what travels beside the code, sorted; hidden files, and what a run made in a checkout, stay."""
    found = [path.relative_to(checkout) for part in SHIPPED for path in (checkout / part).rglob("*") if path.is_file()]
    return sorted(
        path
        for path in found
        if path.suffix in SHIPPED[path.parts[0]] and not MADE_BY_RUNS & set(path.parts) and not any(part.startswith(".") for part in path.parts)
    )


def dagster_settings(pyproject: Path) -> str:
    """The text of a dg.toml: tables `tool.dg` and `tool.dg.project`, whose values are texts."""
    tables = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["dg"]
    project = [f'{name} = "{value}"' for name, value in tables.pop("project").items()]
    return "\n".join([*(f'{name} = "{value}"' for name, value in tables.items()), "", "[project]", *project, ""])


class BuildWithShippedFiles(build_py):  # type: ignore[misc]
    """setuptools' own step, and then the shipped files."""

    def run(self) -> None:
        if not self.editable_mode:
            # What an older build left there would go into the wheel, too.
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for source, target in self._shipped().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)
        for target in self._made():
            Path(target).write_text(dagster_settings(Path("pyproject.toml")), encoding="utf-8")

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *map(str, files_to_ship(Path()))]

    def get_outputs(self, *arguments: Any, **options: Any) -> list[str]:
        return [*super().get_outputs(*arguments, **options), *self._shipped().values(), *self._made()]

    def get_output_mapping(self) -> dict[str, str]:
        return {**super().get_output_mapping(), **{target: source for source, target in self._shipped().items()}}

    def _made(self) -> list[str]:
        return [] if self.editable_mode else [str(Path(self.build_lib, "dagster_project", "dg.toml"))]

    def _shipped(self) -> dict[str, str]:
        """Target by source; none where the checkout itself is installed."""
        if self.editable_mode:
            return {}
        return {str(path): str(Path(self.build_lib, "waymark", "_shipped", path)) for path in files_to_ship(Path())}
