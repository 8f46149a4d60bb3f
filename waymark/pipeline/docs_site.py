"""The documentation of every table and column as one page: written by dbt, kept in the home, served on loopback.

`python -m waymark.pipeline.docs_site PROJECT PORT` serves it, and writes it first where it is absent or older than the models. Meanwhile the older page
is shown, if there is one.
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

from waymark.core.errors import WaymarkError
from waymark.core.home import Home, read_json, rename_durably, write_atomically
from waymark.core.settings import Project, load_project
from waymark.pipeline.code import models_digest
from waymark.pipeline.dbt_project import DbtProject, dbt_vars

_PAGE = "index.html"
_INPUTS = "inputs.json"
# A header in which the page says what a person should know about it.
NOTE = "X-Waymark-Note"


def docs_page(home: Home) -> Path:
    """Where the page lies, written or not."""
    return home.docs / _PAGE


def docs_are_current(project: Project) -> bool:
    """Whether the page is of the models and settings as they are; the first publication adds the columns' types to it."""
    return docs_page(project.home).exists() and read_json(project.home.docs / _INPUTS) == _inputs(project)


def _inputs(project: Project) -> dict[str, object]:
    digest = models_digest(dbt_vars(project))
    return {"digest": digest, "has_tables": project.home.published.exists()}


def write_docs(project: Project) -> Path:
    """Writes the page; the caller holds the writer lock. Returns its path.

    dbt's own manifest is left alone, because the code location may be reading it. Raises WaymarkError where dbt cannot.
    """
    home, inputs = project.home, _inputs(project)
    dbt = DbtProject(project, home.warehouse, home.dbt)
    dbt.assemble()
    parsed, dbt.target = dbt.target / "partial_parse.msgpack", home.dbt / "docs_target"
    dbt.target.mkdir(exist_ok=True)
    if parsed.exists():
        shutil.copyfile(parsed, dbt.target / parsed.name)  # what is parsed already need not be parsed again
    written = dbt.generate_docs(has_tables=home.published.exists())
    home.docs.mkdir(exist_ok=True)
    page = docs_page(home)
    (home.docs / _INPUTS).unlink(missing_ok=True)
    rename_durably(written, page)
    write_atomically(home.docs / _INPUTS, json.dumps(inputs) + "\n")
    return page


class _Site(BaseHTTPRequestHandler):
    """The page at /, and nothing else. Until there is one: 503, and in `X-Waymark-Note` what it waits for."""

    def __init__(self, *arguments: object, page: Path, notes: list[str]) -> None:
        self._page, self._notes = page, notes
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path.split("?")[0] not in ("/", f"/{_PAGE}"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            content, status = self._page.read_bytes(), HTTPStatus.OK
        except OSError:
            content, status = b"<meta http-equiv=refresh content=2><p>The documentation is being written.</p>", HTTPStatus.SERVICE_UNAVAILABLE
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-cache")
        if self._notes:
            self.send_header(NOTE, self._notes[-1].encode("ascii", "replace").decode())
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not worth a log that grows."""


def serve(project: Project, port: int) -> None:
    """Serves the page on 127.0.0.1, for ever. Raises WaymarkError where there is no page and it cannot be written."""
    page, notes = docs_page(project.home), list[str]()
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Site, page=page, notes=notes))
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()

    def waiting(holder: str) -> None:
        notes.append(f"to be written when this is done: {holder}")
        print(notes[-1], flush=True)

    if not docs_are_current(project):
        try:
            project.home.ensure()
            with project.home.writer_lock(timeout_seconds=project.settings.ingestion.lock_timeout_seconds, on_wait=waiting):
                notes.append("dbt is writing it")
                print(f"writing {page}", flush=True)
                write_docs(project)
            notes.clear()
        except WaymarkError as error:
            if not page.exists():
                raise
            notes.append(f"an older page: {error.what}")
            print(error, flush=True)
    Event().wait()


def main() -> None:
    try:
        serve(load_project(sys.argv[1]), int(sys.argv[2]))
    except WaymarkError as error:
        print(f"waymark: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
