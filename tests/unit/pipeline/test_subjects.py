"""Who is meant by the identifiers that an export or an erasure names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from waymark.cli.main import app
from waymark.core.errors import StorageError, WaymarkError
from waymark.core.node_letters import node_letters
from waymark.core.settings import OPERATOR_SOURCE, Project, load_project
from waymark.core.warehouse import Connection, connect
from waymark.pipeline import operator_words, subject_export, subjects
from waymark.pipeline.subjects import Subject, named_by_others, subjects_of
from waymark.privacy import Secret, identifier_message

SECRET = Secret(b"a secret for tests, long enough")
MAIL = SECRET.hmac(identifier_message("email", "ann@example.org"))
# (node, type, value, customer of now or None for one that too many share)
NODES = [
    (1, "anonymous_id", "web:one", "c_ann"), (2, "email", MAIL, "c_ann"), (3, "user_id", "shop:42", "c_ann"), (4, "anonymous_id", "web:kiosk", None),
    (5, "user_id", "shop:77", "c_bob"), (6, "user_id", "erp:77", "c_carl"), (7, "anonymous_id", "web:two", "c_bob"),
]  # fmt: skip


@pytest.fixture
def warehouse() -> Iterator[Connection]:
    with connect() as connection:
        for schema in ("identity", "marts", "raw", "intermediate"):
            connection.execute(f"create schema {schema}")
        connection.execute("""
            create table identity.nodes (node_id bigint, identifier_type varchar, identifier_value varchar, node_customer_id varchar);
            create table identity.memberships (node_id bigint, customer_id varchar);
            create table identity.edges (node_a bigint, node_b bigint, probability double, estimation_version integer);
            insert into identity.edges select *, 1, 0 from (values (1, 2), (2, 3), (3, 4), (4, 5), (5, 7));
            create table marts.fct_events as
            from (values ('web', 'c_ann'), ('web', 'c_ann'), ('shop', 'c_ann'), ('shop', 'c_bob'), ('shop', null)) t(source, customer_id);
            create table intermediate.int_events_sessionized as
            select *, 'web' as source, true as is_counted
            from (values ('e1', 'c_ann', [1, 2]), ('e2', 'c_bob', [5, 1]), ('e3', 'c_carl', [6, 3, 1]), ('e4', 'c_carl', [6]), ('e5', null, [1]))
                t(event_id, customer_id, node_ids);
            create table raw.waymark_operator_events (event_id varchar, event_type varchar, occurred_at timestamp, properties varchar)
        """)
        for node, kind, value, customer in NODES:
            connection.execute("insert into identity.nodes values (?, ?, ?, ?)", [node, kind, value, f"c_{node:024x}"])
            if customer:
                connection.execute("insert into identity.memberships values (?, ?)", [node, customer])
        yield connection


@pytest.fixture
def project(warehouse: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "waymark.yml").write_text("name: test\nsources: {shop: {mapping: shop.yml, files: ['*.csv']}}\n")
    run = SimpleNamespace(secret=SECRET, open_warehouse=lambda: nullcontext(warehouse))
    monkeypatch.setattr(subjects, "require_ended_run", lambda _: run)
    return load_project(tmp_path)


ANN = Subject(
    "email:ann@example.org", (("anonymous_id", "web:one"), ("email", MAIL), ("user_id", "shop:42")),
    tuple(sorted(["c_ann", *(f"c_{node:024x}" for node in (1, 2, 3))])), (1, 2, 3), {"shop": 1, "web": 2}, ("anonymous_id:web:kiosk",),
)  # fmt: skip


def test_all_that_is_joined_with_an_identifier_is_the_persons(project: Project) -> None:
    assert subjects_of(project, ["email:ann@example.org"]) == [ANN]


def test_what_a_guess_alone_joins_is_not_taken_for_theirs_unless_one_says_so(project: Project, warehouse: Connection) -> None:
    warehouse.execute("update identity.edges set probability = 0.97, estimation_version = 1 where node_a = 2 and node_b = 3")
    (by_mail,) = subjects_of(project, ["email:ann@example.org"])
    assert by_mail.identifiers == (("anonymous_id", "web:one"), ("email", MAIL)) and by_mail.left_out == 1 and "1 that only names" in by_mail.line()
    assert by_mail.customers == (f"c_{1:024x}", f"c_{2:024x}") and by_mail.events == {"web": 4}, "those that name these"
    (by_login,) = subjects_of(project, ["user_id:shop:42"])
    assert by_login.nodes == (3,) and by_login.left_out == 2 and by_login.customers == (f"c_{3:024x}",)
    assert subjects_of(project, ["email:ann@example.org"], probable=True) == [ANN]
    assert [who.nodes for who in subjects_of(project, ["email:ann@example.org", "user_id:shop:42"])] == [(1, 2, 3)], "both are named"
    warehouse.execute("insert into identity.edges values (1, 3, 0.995, 1)")
    assert subjects_of(project, ["email:ann@example.org"]) == [ANN], "another guess is sure enough"


BOB = Subject(
    "user_id:shop:77", (("anonymous_id", "web:two"), ("user_id", "shop:77")), tuple(sorted(["c_bob", f"c_{5:024x}", f"c_{7:024x}"])), (7, 5), {"shop": 1},
    ("anonymous_id:web:kiosk",),
)  # fmt: skip


class Watched:
    """A connection, and the statements that it was given."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.said = connection, list[str]()

    def execute(self, sql: str, *parameters: object) -> Connection:
        self.said.append(sql)
        return self.connection.execute(sql, *parameters)


def test_many_persons_are_found_in_one_pass_over_each_table(project: Project, warehouse: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(warehouse)
    monkeypatch.setattr(subjects, "require_ended_run", lambda _: SimpleNamespace(secret=SECRET, open_warehouse=lambda: nullcontext(watched)))
    named = ["email:ann@example.org", "user_id:shop:77", "anonymous_id:one", f"c_{3:024x}", "user_id:erp:77", "email:no@example.org", "anonymous_id:web:two"]
    found = subjects_of(project, named)
    for table in ("identity.nodes", "identity.edges", "marts.fct_events"):
        assert sum(f" {table}" in sql for sql in watched.said) <= 3, table
    assert found[:2] == [ANN, BOB] and [(who.named, who.customers) for who in found[2:]] == [
        ("user_id:erp:77", (f"c_{6:024x}", "c_carl")), ("email:no@example.org", ()),
    ]  # fmt: skip
    assert [who for text in named for who in subjects_of(project, [text]) if text == who.named and text in {one.named for one in found}] == found
    assert named_by_others(project, [ANN, BOB]) == (1, 1), "Carl's event that names her account"


def test_what_is_not_one_persons_is_refused_among_many_as_alone(project: Project) -> None:
    with pytest.raises(WaymarkError, match="several sources have this user_id"):
        subjects_of(project, ["email:ann@example.org", "user_id:77"])
    with pytest.raises(WaymarkError, match="shared by too many"):
        subjects_of(project, ["email:ann@example.org", "anonymous_id:kiosk"])
    assert subjects_of(project, ["email:ann@example.org", "anonymous_id:kiosk"], shared=True) == [
        ANN, Subject("anonymous_id:kiosk", (("anonymous_id", "web:kiosk"),), nodes=(4,))
    ]  # fmt: skip
    for text in ("user_id:nobody", "nothing", f"c_{9:024x}"):
        with pytest.raises(WaymarkError):
            subjects_of(project, [text])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("user_id:ann", "no event that counts names this user_id"), ("ann", "an identifier is named TYPE:VALUE"), ("user_id:77", "several sources"),
        ("c_" + "f" * 24, "no customer ever had this id"), ("anonymous_id:kiosk", "shared by too many"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_list_is_told_with_its_file_and_line(project: Project, tmp_path: Path, wrong: str, said: str) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"email:ann@example.org\n\n  {wrong}\nuser_id:shop:77\n{wrong}\n")
    done = CliRunner().invoke(app, ["privacy", "erase", "--from", str(listed), "--dry-run", "--project", str(project.directory)])
    assert isinstance(done.exception, WaymarkError) and str(done.exception).startswith(f"{listed}:3: ") and said in str(done.exception), done.output
    done = CliRunner().invoke(app, ["privacy", "erase", wrong, "--from", str(tmp_path / "none.txt"), "--dry-run", "--project", str(project.directory)])
    assert isinstance(done.exception, WaymarkError) and str(tmp_path / "none.txt") in str(done.exception)


def test_links_of_a_person_name_nobody_else(warehouse: Connection) -> None:
    warehouse.execute("""
        alter table identity.edges drop probability;
        alter table identity.edges drop estimation_version;
        create table identity.probable_links (node_a bigint, node_b bigint, probability double);
        insert into identity.probable_links values (3, 5, 0.7), (5, 6, 0.9);
        create table identity.negative_edges (node_a bigint, node_b bigint, kind varchar, source_event_id varchar);
        insert into identity.negative_edges values (3, 6, 'two_accounts', 'e9')
    """)
    assert subject_export._links(warehouse, ANN.nodes) == {
        "seen_together": [
            {"one": "anonymous_id:web:one", "other": f"email:{MAIL}"}, {"one": f"email:{MAIL}", "other": "user_id:shop:42"},
            {"one": "user_id:shop:42", "other": "anonymous_id"},
        ],
        "kept_apart": [{"one": "user_id:shop:42", "other": "user_id", "kind": "two_accounts"}],
        "probable": [{"one": "user_id:shop:42", "other": "user_id", "probability": 0.7}],
    }  # fmt: skip


def test_nobody_is_told_apart_while_an_operators_word_waits(project: Project, warehouse: Connection) -> None:
    folder = project.home.landing / OPERATOR_SOURCE
    folder.mkdir(parents=True)
    details = {"node_a": node_letters(1), "node_b": node_letters(2), "ordinal": 1}
    word = {"word_id": "word-000001", "said": "identity_split_declared", "at": "2026-03-01T10:00:00Z", "details": details}
    (folder / "000001.ndjson").write_text(json.dumps(word) + "\n")
    with pytest.raises(StorageError, match=r"1 words of an operator .* wait for the next run"):
        subjects_of(project, ["email:ann@example.org"])
    event = [operator_words._event_id("word-000001"), "identity_split_declared", "2026-03-01 10:00:00", json.dumps(details)]
    warehouse.execute("insert into raw.waymark_operator_events values (?, ?, ?, ?)", event)
    assert subjects_of(project, ["email:ann@example.org"]) == [ANN], "a run has taken it in"
