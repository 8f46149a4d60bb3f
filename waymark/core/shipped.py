"""Where the files lie that travel with the code and are no Python: the dbt project, the example mappings, the demo project."""

from __future__ import annotations

from pathlib import Path

from waymark.core.errors import StorageError

PACKAGED = Path(__file__).resolve().parents[1] / "_shipped"  # a wheel has it: waymark/core/wheel.py makes it
CHECKOUT = Path(__file__).resolve().parents[2]


def shipped(part: str) -> Path:
    """The folder `dbt` or `examples`: inside the installed package, or, where the package is installed from a checkout in place, the checkout's own.

    Raises StorageError where the installation lacks it.
    """
    folder = (PACKAGED if PACKAGED.is_dir() else CHECKOUT) / part
    if not folder.is_dir():
        raise StorageError(f"this installation lacks its folder {part}", where=str(folder), remedy="Install Waymark again, from a wheel or a whole checkout.")
    return folder
