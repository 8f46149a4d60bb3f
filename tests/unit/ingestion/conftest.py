"""A small source in a folder of its own: files go in, rows of `raw` come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from waymark.core.settings import load_project
from waymark.core.warehouse import Connection, connect, rows
from waymark.ingestion import IngestReport, ingest_source, load_mapping, prepare_raw
from waymark.privacy import Secret

CSV_MAPPING = """
source: shop
format: csv
currency: USD
columns:
  event_id: {column: id, optional: true}
  occurred_at: at
  event_type: what
  anonymous_id: {column: visitor, optional: true}
  user_id: {column: login, optional: true}
  page_url: {column: url, optional: true}
  referrer: {column: referrer, optional: true}
  order_id: {column: order, optional: true}
  value: {column: amount, optional: true}
  properties: {column: details, optional: true}
  text: {column: note, optional: true}
identifiers:
  email: {column: mail, optional: true}
  phone: {column: tel, optional: true}
"""
SECRET = Secret(b"a secret for tests, long enough")


class Source:
    """One project with one source; its warehouse is in memory, its lake on the disk."""

    def __init__(self, folder: Path, mapping: str, files: str, extra: str) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir(parents=True)
        self.name = "shop"
        self.remap(mapping)
        (folder / "waymark.yml").write_text(f"name: tiny\nsources:\n  shop: {{mapping: shop.yml, files: ['{files}']}}\n{extra}")
        self.project = load_project(folder)
        self.home = self.project.home
        self.home.ensure()
        self.connection: Connection = connect()
        self.prepare()

    def remap(self, mapping: str) -> None:
        (self.folder / "shop.yml").write_text(mapping)

    def prepare(self) -> list[str]:
        return prepare_raw(self.connection, {"shop": load_mapping(self.folder / "shop.yml")}, self.home)

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.data / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def ingest(self) -> IngestReport:
        return ingest_source(self.project, "shop", self.connection, SECRET)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return rows(self.connection, sql)

    def value(self, sql: str) -> object:
        return self.rows(sql)[0][0]

    def events(self, columns: str, order: str = "ingest_file_id, row_number") -> list[tuple[object, ...]]:
        return self.rows(f"select {columns} from raw.shop_events order by {order}")

    def log(self, columns: str) -> list[tuple[object, ...]]:
        return self.rows(f"select {columns} from raw.ingestion_log order by file_id")

    def assert_conserved(self) -> None:
        """Rows read = accepted + duplicate + quarantined, a file; what lies in the lake and the quarantine agrees with the log."""
        assert self.rows("select file from raw.ingestion_log where rows_read <> rows_accepted + rows_duplicate + rows_quarantined") == []
        removed = int(str(self.value("select coalesce(sum(rows_removed), 0) from raw.removals")))
        accepted = int(str(self.value("select coalesce(sum(rows_accepted), 0) from raw.ingestion_log")))
        assert self.value("select count(*) from raw.shop_events") == accepted - removed
        assert self.value("select count(*) from raw.quarantine") == self.value("select coalesce(sum(rows_quarantined), 0) from raw.ingestion_log")
        assert self.rows("select event_id from raw.shop_events group by 1 having count(*) > 1") == []


MakeSource = Callable[..., Source]


@pytest.fixture
def make_source(tmp_path: Path) -> Iterator[MakeSource]:
    made: list[Source] = []

    def make(mapping: str = CSV_MAPPING, *, files: str = "data/*", extra: str = "") -> Source:
        source = Source(tmp_path / f"project_{len(made)}", mapping, files, extra)
        made.append(source)
        return source

    yield make
    for source in made:
        source.connection.close()


@pytest.fixture
def source(make_source: MakeSource) -> Source:
    """The plain CSV source."""
    return make_source()
