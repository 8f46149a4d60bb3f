"""A headless Chromium on the pages of a running `waymark dev`: it looks, clicks and keeps pictures; what it asks of another machine is refused and told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

NAMES = ("chromium", "chromium-browser", "google-chrome")
# A page of a machine that has other work, too.
PATIENCE_MS = 90_000
_SETTLE_MS = 1_000


def chromium() -> str:
    """The path of Debian's Chromium, or of another one. A test without a browser fails: a skipped proof proves nothing."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"no Chromium is installed ({', '.join(NAMES)}): run `make browser`", pytrace=False)
    return found


@dataclass
class Looking:
    """A browser and where its pictures go. foreign: hosts that a page would have asked."""

    browser: Browser
    folder: Path
    foreign: set[str] = field(default_factory=set)

    @contextmanager
    def at(self, url: str, *, width: int = 1600, height: int = 1000) -> Iterator[Page]:
        """A page of its own, as somebody sees it who has never been here."""
        context = self.browser.new_context(viewport={"width": width, "height": height}, timezone_id="UTC", locale="en-GB")
        context.set_default_timeout(PATIENCE_MS)
        context.route("**/*", self._route)
        page = context.new_page()
        try:
            page.goto(url)
            yield page
        except BaseException:
            page.screenshot(path=self.folder / f"where_it_failed_{len(list(self.folder.iterdir()))}.png")
            raise
        finally:
            context.close()

    def keep(self, page: Page, name: str) -> None:
        """A picture of what is in sight, once icons and animations are through."""
        page.wait_for_timeout(_SETTLE_MS)
        page.screenshot(path=self.folder / f"{name}.png")

    def _route(self, route: Route) -> None:
        parts = urlsplit(route.request.url)
        if parts.scheme in ("data", "blob") or parts.hostname == "127.0.0.1":
            route.continue_()
        else:
            self.foreign.add(str(parts.hostname))
            route.abort()


@contextmanager
def looking(folder: Path) -> Iterator[Looking]:
    """A headless browser; the folder takes its pictures."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*options, "--disable-dev-shm-usage"])
        try:
            yield Looking(browser, folder)
        finally:
            browser.close()
