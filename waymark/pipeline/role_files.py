"""A published file for each role: the snapshot with its columns left out or masked by their class. The permissions of the files are the protection.

Decision: files, not views. Context: DuckDB has no users, so whoever can read a file reads all of it. Consequence: each role costs the writing of a copy. What a
role must not see is nowhere in its file; the whole snapshot, like everything else in the home, is for the owner alone as long as there are roles.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from waymark.core.errors import SettingsError
from waymark.core.home import Home, rename_durably, sync_file
from waymark.core.people_settings import AccessSettings
from waymark.core.quoting import literal, name
from waymark.core.settings import EngineSettings
from waymark.core.warehouse import OUTPUT_SCHEMAS, Connection, connect, rows
from waymark.pipeline.classification import class_of, column_classes
from waymark.pipeline.progress import tell
from waymark.privacy import Secret
from waymark.privacy.audit import AuditLog
from waymark.privacy.classes import ColumnClass
from waymark.privacy.roles import ROLES, Role, masked_sql, role_secret

# What the feature views are made of stands in the snapshot too, and is left to it: the views themselves become tables.
SCHEMAS = (*OUTPUT_SCHEMAS, "raw", "main")
_BUILDING = ".building-"
_COLUMNS = """
    select schema_name || '.' || table_name, column_name, data_type, comment from duckdb_columns()
    where database_name = 'whole' and list_contains(?, schema_name) and not internal order by schema_name, table_name, column_index
"""


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    kind: ColumnClass
    comment: str | None


Table = list[_Column]


@dataclass(frozen=True)
class RoleFiles:
    """Files of roles that are written, and not yet read by anybody. built: by role, the file under its temporary name."""

    home: Home
    file_mode: str
    built: Mapping[str, Path]
    groups: Mapping[str, int]

    @property
    def roles(self) -> list[str]:
        return sorted(self.built)

    def swap_in(self) -> None:
        """Puts each into the place of the one before; removes those of roles that the settings no longer name."""
        for role, path in self.built.items():
            os.chown(path, -1, self.groups[role])
            path.chmod(int(self.file_mode, 8))
            rename_durably(path, self.home.role_file(role))
        for unnamed in sorted(set(ROLES) - set(self.built)):
            self.home.role_file(unnamed).unlink(missing_ok=True)
            if AuditLog(self.home, unnamed).path.exists():  # who read the file is kept, for the owner
                self.home.role_file(unnamed).parent.chmod(0o700)


def build_role_files(snapshot: Path, home: Home, access: AccessSettings, secret: Secret, engine: EngineSettings) -> RoleFiles:
    """Writes the file of each role that the settings name, from a snapshot that has passed its audit. What is read stays as it is until `swap_in`.

    Raises AuditError where a column has no class, SettingsError for a group that the system does not know.
    """
    folders = {role: home.role_file(role).parent for role in ROLES}
    for folder in folders.values():
        for left in folder.glob(f"{_BUILDING}*"):
            left.unlink()
    groups: dict[str, int] = {role: _group_id(access, role) for role in access.roles}
    built: dict[str, Path] = {}
    if access.roles:
        close_to_others(home)
        with connect(engine=engine, scratch=home.scratch) as connection:
            connection.execute(f"attach {literal(snapshot)} as whole (read_only)")
            tables = _tables(connection)
            for role in access.roles:
                tell(f"publish: the file of role {role}")
                _make_folder(folders[role], access.file_mode, groups[role])
                built[role] = folders[role] / f"{_BUILDING}{snapshot.name.removeprefix(_BUILDING)}"
                _build(connection, built[role], ROLES[role], tables, secret)
    for role_name, path in built.items():
        sync_file(path)
        _make_log(AuditLog(home, role_name).path, access.file_mode, groups[role_name])
    return RoleFiles(home, access.file_mode, built, groups)


def whole_mode(access: AccessSettings) -> int:
    """The mode of the whole snapshot: for its owner alone where roles have files of their own."""
    return 0o400 if access.roles else 0o444


def manifest_mode(access: AccessSettings) -> int:
    """The mode of the manifest, which tells of all tables and logs: likewise. A role's file says of itself which snapshot it is (main.snapshot_info)."""
    return 0o600 if access.roles else 0o644


def close_to_others(home: Home) -> None:
    """Leaves nothing of the home to other users but the way to the published files; new files of this process are the owner's, too."""
    os.umask(0o077)
    for place in (home.root, home.published_dir):
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o711)
    for path in home.root.iterdir():
        if path != home.published_dir and not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    for path, mode in ((home.published, 0o400), (home.manifest, 0o600)):
        if path.exists():
            path.chmod(mode)


def _group_id(access: AccessSettings, role: str) -> int:
    group = access.groups.get(role)
    if group is None:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise SettingsError(
            f"the system knows no group '{group}'", where=f"access.groups.{role}", remedy=f"Make it, or name another: groupadd {group}"
        ) from error


def _make_folder(folder: Path, file_mode: str, group: int) -> None:
    """Who may read the file may enter its folder."""
    folder.mkdir(exist_ok=True)
    os.chown(folder, -1, group)
    folder.chmod({"0400": 0o700, "0440": 0o750, "0444": 0o755}[file_mode])


def _make_log(path: Path, file_mode: str, group: int) -> None:
    """Who may read the role's file may write that it was read; what the log was at each publication stands in the manifest."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.chown(path, -1, group)
    path.chmod({"0400": 0o600, "0440": 0o660, "0444": 0o666}[file_mode])


def _tables(connection: Connection) -> dict[str, Table]:
    """The snapshot's tables and views with their columns. Raises AuditError for a column without a class, before anything is written."""
    classes = column_classes()
    found: dict[str, Table] = {}
    for table, column, kind, comment in rows(connection, _COLUMNS, [list(SCHEMAS)]):
        known = _Column(str(column), str(kind), class_of(classes, str(table), str(column)), None if comment is None else str(comment))
        found.setdefault(str(table), []).append(known)
    return found


def _build(connection: Connection, path: Path, role: Role, tables: Mapping[str, Table], secret: Secret) -> None:
    connection.execute(f"attach {literal(path)} as role_file")
    try:
        pads = role_secret(secret, role.name).parameters()
        for table, columns in tables.items():
            kept = [(sql, column.name, column.comment) for column in columns if (sql := masked_sql(column.name, column.type, role.mask(column.kind)))]
            if kept:
                _write(connection, table, [sql for sql, _, _ in kept], pads)
                for _, column, comment in kept:
                    if comment is not None:
                        connection.execute(f"comment on column {_in('role_file', table)}.{name(column)} is {literal(comment)}")
    finally:
        connection.execute("detach role_file")


def _write(connection: Connection, table: str, columns: Sequence[str], pads: Mapping[str, bytes]) -> None:
    schema = table.split(".", maxsplit=1)[0]
    connection.execute(f"create schema if not exists role_file.{name(schema)}")
    query = f"create table {_in('role_file', table)} as select {', '.join(columns)} from {_in('whole', table)}"
    connection.execute(query, dict(pads) if any("$ipad" in column for column in columns) else None).fetchall()


def _in(database: str, table: str) -> str:
    return ".".join([database, *map(name, table.split("."))])
