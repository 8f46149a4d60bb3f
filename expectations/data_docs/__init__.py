"""Data Docs that need no network: Great Expectations' pages in templates and a style sheet of our own.

Its own templates take their style sheets and scripts from a CDN, and without these its index shows no table at all. Templates in `templates/` stand before
those of the same name in the library; pages run no script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader

_TEMPLATES = Path(__file__).parent / "templates"


class Page(DefaultJinjaPageView):
    """A suite, or what a run found of it."""

    def __init__(self, custom_styles_directory: str | None = None, custom_views_directory: str | None = None) -> None:
        super().__init__(custom_styles_directory, custom_views_directory)
        assert self.env.loader
        self.env.loader = ChoiceLoader([FileSystemLoader(_TEMPLATES), self.env.loader])


class Index(Page, DefaultJinjaIndexPageView):
    """What the last run found, a row a suite."""

    _template = "index_page.j2"


def site(folder: str = "uncommitted/data_docs/local_site/") -> dict[str, Any]:
    """The configuration of the site, for Great Expectations. folder: where it is written, relative to the context's."""
    page = {"module_name": __name__, "class_name": "Page"}
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "view": {"module_name": __name__, "class_name": "Index"}},
        "site_section_builders": {
            "expectations": {
                "class_name": "DefaultSiteSectionBuilder", "source_store_name": "expectations_store", "view": page,
                "renderer": {"class_name": "ExpectationSuitePageRenderer"},
            },
            "validations": {
                "class_name": "DefaultSiteSectionBuilder", "source_store_name": "validation_results_store", "view": page,
                "renderer": {"class_name": "ValidationResultsPageRenderer"},
            },
        },
    }  # fmt: skip
