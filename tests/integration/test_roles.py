"""Files for roles: what a role must not see is nowhere in its file, the settings say who may read it, and a column without a class stops the publication."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Ran, waymark
from waymark.core.errors import AuditError, SettingsError, StorageError
from waymark.core.home import Home
from waymark.core.people_settings import AccessSettings
from waymark.core.settings import EngineSettings
from waymark.core.warehouse import Connection, connect, rows
from waymark.pipeline.classification import column_classes
from waymark.pipeline.published import open_published
from waymark.pipeline.role_files import build_role_files, close_to_others
from waymark.privacy import Secret
from waymark.privacy.audit import AuditLog
from waymark.privacy.classes import CLASSES
from waymark.privacy.roles import MASK_MEANINGS, ROLES

JSON = r"^\s*[\[{]"
SECRET = Secret(b"a secret for tests, long enough")
COLUMNS = "select schema_name || '.' || table_name, column_name, data_type from duckdb_columns() where database_name = '{}' and not internal"


def put_out(snapshot: Path, home: Home, access: AccessSettings) -> list[str]:
    files = build_role_files(snapshot, home, access, SECRET, EngineSettings())
    files.swap_in()
    return files.roles


def values_of(table: object, column: object, kind: object) -> str:
    """SELECT of every value of a column as text; of lists and structs the members."""
    text = f'cast("{column}" as varchar)'
    value = f"unnest(regexp_split_to_array({text}, '[\\[\\]{{}},]\\s*'))" if "[" in str(kind) or "(" in str(kind) else text
    return f'select distinct {value} as value from {table} where "{column}" is not null'


def inside(table: object, column: object, kind: object) -> str:
    """SELECT of the texts of a column in which other texts stand: lists, structs and JSON."""
    text = f'cast("{column}" as varchar)'
    where = "true" if "[" in str(kind) or "(" in str(kind) else f"regexp_matches({text}, '{JSON}')" if kind == "VARCHAR" else "false"
    return f'select distinct {text} as text from {table} where "{column}" is not null and {where}'


def found_inside(connection: Connection, texts: str) -> list[tuple[object, ...]]:
    """Hidden values (ten characters and more) that are a part of one of the texts: looked for by their first ten."""
    return rows(connection, f"""
        select distinct hidden.value
        from (select text, unnest(range(1, length(text) - 8)) as place from ({texts})) as looked
        join hidden on left(hidden.value, 10) = substr(looked.text, looked.place, 10)
        where contains(looked.text, hidden.value) limit 3
    """)  # fmt: skip


@pytest.fixture
def kept_mask() -> Iterator[None]:
    old = os.umask(0o022)
    yield
    os.umask(old)


@pytest.fixture(scope="module")
def homes(demo: Ran, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home that holds the demo's snapshot and the file of every role."""
    home = Home(tmp_path_factory.mktemp("roles") / "home")
    home.published_dir.mkdir(parents=True)
    home.scratch.mkdir()
    old = os.umask(0o022)
    snapshot = home.published_dir / ".building-abc.duckdb"
    shutil.copyfile(demo.home.published, snapshot)
    assert put_out(snapshot, home, AccessSettings(roles=list(ROLES))) == sorted(ROLES)  # type: ignore[arg-type]
    os.umask(old)
    snapshot.rename(home.published)
    yield home


@pytest.fixture(scope="module")
def telling(homes: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of all values by class that say something by themselves. What is shorter any column may say: a city is a word, a path may be '/'."""
    classes, path = column_classes(), tmp_path_factory.mktemp("values") / "values.duckdb"
    with connect(path) as connection:
        connection.execute(f"attach '{homes.published}' as whole (read_only); create table found (kind varchar, value varchar)")
        for table, column, type_ in rows(connection, COLUMNS.format("whole")):
            if not str(table).startswith("intermediate.") and (kind := classes[str(table)][str(column)]) in ("pseudonymous", "personal", "sensitive"):
                connection.execute(f"insert into found select '{kind}', value from ({values_of(f'whole.{table}', column, type_)})")
        connection.execute("create table telling as select distinct * from found where length(value) >= 10 and regexp_matches(value, '[0-9]')")
        counts = dict(rows(connection, "select kind, count(*) from telling group by kind"))
    assert len(counts) == 3 and min(int(str(count)) for count in counts.values()) > 1_000
    return path


# These two have a mask of each kind between them.
@pytest.mark.parametrize("role", [role if role in ("analyst", "engineer") else pytest.param(role, marks=pytest.mark.prove) for role in ROLES])
def test_no_column_of_any_table_holds_a_value_that_the_role_must_not_see(role: str, homes: Home, telling: Path) -> None:
    hidden = [kind for kind in CLASSES if ROLES[role].mask(kind) != "clear"]
    with connect() as connection:
        connection.execute(f"attach '{telling}' as known (read_only); attach '{homes.role_file(role)}' as role_file (read_only)")
        connection.execute("create table hidden as select distinct value from known.telling where list_contains(?, kind)", [hidden])
        found, composite = rows(connection, COLUMNS.format("role_file")), 0
        for table, column, type_ in found:
            values = values_of(f"role_file.{table}", column, type_)
            assert rows(connection, f"select value from ({values}) semi join hidden using (value) limit 3") == [], (table, column)
            texts = inside(f"role_file.{table}", column, type_)
            composite += len(rows(connection, f"{texts} limit 1"))
            assert found_inside(connection, texts) == [], (table, column)
        ((one,),) = rows(connection, "select value from hidden order by value limit 1")
        connection.execute("create table planted as select '{\"said\": [\"before ' || ? || ', after\"]}' as reasons", [one])
        assert (one,) in found_inside(connection, inside("planted", "reasons", "VARCHAR")), "what is put there is found"
    assert len(found) > 200 and composite > 5


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_the_columns_and_the_rows_that_its_masks_leave(role: str, homes: Home) -> None:
    classes = column_classes()
    with connect() as connection:
        connection.execute(f"attach '{homes.published}' as whole (read_only); attach '{homes.role_file(role)}' as role_file (read_only)")
        there = {(table, column): str(kind) for table, column, kind in rows(connection, COLUMNS.format("role_file"))}
        whole = {(table, column): str(kind) for table, column, kind in rows(connection, COLUMNS.format("whole")) if not str(table).startswith("intermediate.")}
        for (table, column), kind in whole.items():
            mask = ROLES[role].mask(classes[str(table)][str(column)])
            can_cut = kind in ("VARCHAR", "TIMESTAMP", "DATE")
            assert ((table, column) in there) == (mask in ("clear", "digest") or (mask == "truncated" and can_cut)), (table, column)
            if mask == "clear":
                assert there[table, column] == kind
        assert set(there) <= set(whole)
        for table in ("marts.fct_events", "features.feat_customer_value", "raw.ingestion_log", "main.snapshot_info"):
            counts = [rows(connection, f"select count(*) from {catalog}.{table}") for catalog in ("whole", "role_file")]
            assert counts[0] == counts[1]


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"service"}))
def test_no_digest_without_a_key_tells_a_role_whose_cookie_or_login_it_is(role: str, homes: Home) -> None:
    """Whoever guesses a login can make its md5, too: a column that holds it tells who is behind a row."""
    with connect() as connection:
        connection.execute(f"attach '{homes.published}' as whole (read_only); attach '{homes.role_file(role)}' as role_file (read_only)")
        connection.execute("""
            create table guessed as select distinct md5_number_lower(text) >> 1 as digest from (
                select identifier_type || '|' || identifier as text from whole.marts.dim_identity_clusters
                union all select session_key from whole.marts.fct_events where session_key is not null
            )
        """)
        known = "select count(*) from whole.marts.{} semi join guessed on digest = {}"
        assert all(
            int(str(rows(connection, known.format(*where))[0][0])) > 100 for where in (("dim_identity_clusters", "node_id"), ("fct_sessions", "session_key_id"))
        )
        for table, column, kind in rows(connection, COLUMNS.format("role_file")):
            if kind in ("BIGINT", "UBIGINT", "HUGEINT", "VARCHAR"):
                whole = f"""cast(regexp_extract(cast("{column}" as varchar), '^[0-9]{{10,20}}') as varchar)"""
                found = f"select 1 from role_file.{table} where {whole} in (select cast(digest as varchar) from guessed) limit 1"
                assert rows(connection, found) == [], (table, column)


def test_digests_join_within_a_role_and_not_between_roles(homes: Home) -> None:
    joined = "select count(*) from marts.fct_sessions s join marts.fct_events e using (session_id) where s.customer_id is not null"
    with open_published(homes) as whole, open_published(homes, "analyst") as analyst, open_published(homes, "auditor") as auditor:
        assert rows(analyst, joined) == rows(whole, joined) == rows(auditor, joined)
        ids = [_customers(connection) for connection in (whole, analyst, auditor)]
        assert len(ids[0]) == len(ids[1]) == len(ids[2]) > 100
        assert not ids[0] & ids[1] and not ids[1] & ids[2]
        said = rows(analyst, "select comment from duckdb_columns() where table_name = 'check_results' and column_name = 'rule'")
        assert said == rows(whole, "select comment from duckdb_columns() where table_name = 'check_results' and column_name = 'rule'") != [(None,)]


def _customers(connection: Connection) -> set[object]:
    return {customer for (customer,) in rows(connection, "select customer_id from marts.dim_customers")}


def test_a_truncated_text_is_never_whole(homes: Home) -> None:
    with connect() as connection:
        connection.execute(f"attach '{homes.published}' as whole (read_only); attach '{homes.role_file('engineer')}' as role_file (read_only)")
        for column in ("anonymous_id", "user_agent", "city", "order_id"):
            longest = rows(connection, f"select max(length({column})) from role_file.marts.fct_events")[0][0]
            assert longest is None or int(str(longest)) <= 4
            whole = f"(select {column} from whole.marts.fct_events)"
            assert rows(connection, f"select count(*) from role_file.marts.fct_events semi join {whole} using ({column})") == [(0,)]


def test_a_new_column_without_a_class_stops_the_publication_and_leaves_what_is_there(homes: Home, tmp_path: Path, kept_mask: None) -> None:
    home = Home(tmp_path / "home")
    home.published_dir.mkdir(parents=True)
    snapshot = home.published_dir / ".building-new.duckdb"
    with connect(snapshot) as connection:
        connection.execute("create schema marts; create table marts.dim_customer_aliases as select 'a' as alias_customer_id, 'b' as customer_id")
    access = AccessSettings(roles=["analyst", "service"])
    put_out(snapshot, home, access)
    before = home.role_file("analyst").read_bytes()
    with connect(snapshot) as connection:
        connection.execute("alter table marts.dim_customer_aliases add column mother_s_maiden_name varchar")
    with pytest.raises(AuditError, match="mother_s_maiden_name has no class"):
        put_out(snapshot, home, access)
    assert home.role_file("analyst").read_bytes() == before
    # A role that is named no more loses its file, and what a killed publication left goes.
    with connect(snapshot) as connection:
        connection.execute("alter table marts.dim_customer_aliases drop column mother_s_maiden_name")
    put_out(snapshot, home, AccessSettings(roles=["service"]))
    left = {role: sorted(path.name for path in home.role_file(role).parent.iterdir()) for role in ("analyst", "service")}
    assert left == {"analyst": ["reads.jsonl"], "service": ["reads.jsonl", "waymark.duckdb"]}
    assert home.role_file("analyst").parent.stat().st_mode & 0o777 == 0o700
    put_out(snapshot, home, AccessSettings())
    assert not home.role_file("service").exists()


@pytest.mark.parametrize(("file_mode", "folder", "log"), [("0400", 0o700, 0o600), ("0440", 0o750, 0o660), ("0444", 0o755, 0o666)])
def test_permissions_are_what_the_settings_say(file_mode: str, folder: int, log: int, tmp_path: Path, kept_mask: None) -> None:
    home = Home(tmp_path / "home")
    home.published_dir.mkdir(parents=True)
    (home.root / "lake").mkdir()
    (home.root / "outputs.duckdb").write_text("")
    home.manifest.write_text("{}")
    snapshot = home.published_dir / ".building-new.duckdb"
    connect(snapshot).close()
    put_out(snapshot, home, AccessSettings(roles=["analyst"], file_mode=file_mode))  # type: ignore[arg-type]
    path = home.role_file("analyst")
    read, closed = (path, path.parent, AuditLog(home, "analyst").path), (home.root / "lake", home.root / "outputs.duckdb", home.manifest)
    modes = [place.stat().st_mode & 0o777 for place in (*read, home.published_dir, home.root, *closed)]
    assert modes == [int(file_mode, 8), folder, log, 0o711, 0o711, 0o700, 0o600, 0o600]
    (home.root / "later").write_text("")
    assert (home.root / "later").stat().st_mode & 0o077 == 0, "what this process makes later is the owner's too"
    with pytest.raises(SettingsError, match="knows no group"):
        put_out(snapshot, home, AccessSettings(roles=["analyst"], groups={"analyst": "no such group"}))
    if os.geteuid() == 0:
        put_out(snapshot, home, AccessSettings(roles=["analyst"], groups={"analyst": "daemon"}))
        assert path.stat().st_gid == path.parent.stat().st_gid == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_the_file_of_its_group_and_nothing_else(homes: Home, tmp_path: Path) -> None:
    """In a process that has given up being root: the system refuses, not Waymark."""
    home = Home(Path("/tmp") / f"waymark-roles-{os.getpid()}")
    shutil.copytree(homes.root, home.root)
    try:
        (home.root / "outputs.duckdb").write_text("all there is")
        home.manifest.write_text("{}")
        close_to_others(home)
        os.chown(home.role_file("analyst").parent, 0, 1)
        os.chown(home.role_file("analyst"), 0, 1)
        os.chown(AuditLog(home, "analyst").path, 0, 1)
        reader = os.fork()
        if reader == 0:
            os.setgroups([1])
            os.setgid(65534)
            os.setuid(65534)
            wanted = [home.role_file("analyst"), home.role_file("marketer"), home.published, home.root / "outputs.duckdb", home.manifest]
            read = sum((1 << position) for position, path in enumerate(wanted) if _is_readable(path))
            AuditLog(home, "analyst").append("sql", role="analyst")
            os._exit(read)
        assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 1
        assert [entry.actor for _, entry in AuditLog(home, "analyst").lines() if entry] == ["nobody"], "the reader's own name, by the system"
    finally:
        shutil.rmtree(home.root)


def _is_readable(path: Path) -> bool:
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def test_a_query_goes_to_the_file_of_the_role_and_is_logged_so(demo: Ran, homes: Home) -> None:
    with pytest.raises(StorageError, match="nothing is published for the role"), open_published(demo.home, "analyst"):
        pass
    refused = waymark("sql", "--project", demo.directory, "--role", "analyst", "select 1")
    assert refused.returncode == 1 and "access.roles" in refused.stderr
    query = "select customer_id from marts.dim_customers limit 1"
    asked = waymark("sql", "--project", demo.directory, "--role", "marketer", query, WAYMARK_HOME=str(homes.root))
    assert asked.returncode == 0 and "c_" in asked.stdout, asked.stderr
    listed = waymark("audit", "list", "--project", demo.directory, WAYMARK_HOME=str(homes.root))
    assert "marketer" in listed.stdout and "select customer_id from marts.dim_customers limit ?" in listed.stdout
    assert AuditLog(homes, "marketer").head().entries == 1 and AuditLog(homes).head().entries == 0
    verified = waymark("audit", "verify", "--project", demo.directory, WAYMARK_HOME=str(homes.root))
    assert verified.returncode == 0 and "log of role marketer holds: 1 entries" in verified.stdout, verified.stdout


def test_settings_and_page_agree_with_the_roles() -> None:
    with pytest.raises(ValueError, match="which roles does not"):
        AccessSettings(groups={"analyst": "staff"})
    page = (Path(__file__).resolve().parents[2] / "docs" / "access.md").read_text(encoding="utf-8")
    for role in ROLES.values():
        assert f"| `{role.name}` | {role.purpose} | {' | '.join(role.masks)} |" in page
    assert all(f"`{mask}`" in page for mask in MASK_MEANINGS)
