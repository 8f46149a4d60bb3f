"""Persons as they are named on the command line, for what is done to all that is held about one: an export, an erasure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from waymark.core.errors import StorageError, WaymarkError
from waymark.core.settings import OPERATOR_SOURCE, Project
from waymark.core.warehouse import Connection, rows
from waymark.identity.words import read_words
from waymark.pipeline.identifiers import Identifier, find_identifier, keep_named, keyed_identifier, require_ended_run
from waymark.pipeline.operator_words import waiting_words
from waymark.pipeline.steps import Run


@dataclass(frozen=True)
class Subject:
    """Who is meant. named: as asked; identifiers: (type, value) of the person's, all that are theirs today; customers: ids of now and before; nodes: of
    identity.nodes; events: by source; shared: identifiers that they were seen with and that too many share: these are not theirs, and stay; left_out: how
    many of the customer's are joined to what was named by a guess alone that is not sure enough (see `subjects_of`)."""

    named: str
    identifiers: tuple[tuple[str, str], ...]
    customers: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    events: dict[str, int] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    left_out: int = 0

    def line(self) -> str:
        """For people; no value of an identifier."""
        kinds = {kind: sum(of == kind for of, _ in self.identifiers) for kind, _ in self.identifiers}
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        told = ", ".join(f"{count:,} events of {source}" for source, count in sorted(self.events.items())) or "no event that counts"
        stays = f"; seen with {', '.join(self.shared)}, which too many share: it stays" if self.shared else ""
        guessed = f"; {self.left_out} that only names or addresses join to them, less surely than a letter needs: not taken for theirs" if self.left_out else ""
        return f"{held}; {told}{stays}{guessed}"


def subjects_of(
    project: Project, named: Sequence[str], *, shared: bool = False, probable: bool = False, listed: Mapping[str, str] | None = None
) -> list[Subject]:
    """The persons that these identifiers or customer ids name, each once. Hold the writer lock.

    What only estimated links under `identity.thresholds.sending` join to the identifier that was named is left out: what is handed out or erased of a
    stranger cannot be taken back, so it asks as much as a letter does. probable: it is taken for theirs, too. A customer id names the identifier that it is
    made from.

    An identifier that no event names is a person of its own: it may stand in files and refused rows. shared: so is one that too many share, with all the
    events that name it; else it is refused, because they may be anybody's. listed: where a text stands that a file gave, for what is said of it. Raises
    StorageError before the first run, after one that did not end, and while an operator's words wait for the next one; WaymarkError where nobody or several
    are meant.
    """
    run = require_ended_run(project)
    with run.open_warehouse() as connection:
        if waiting := waiting_words(project, connection):
            raise StorageError(
                f"{len(waiting)} words of an operator about who is whom wait for the next run, and may change whose an identifier is",
                where=str(project.home.landing / OPERATOR_SOURCE), remedy="waymark run",
            )  # fmt: skip
        nodes = keep_named(connection, run.secret, named)
        told = []
        for text in named:
            with _told_where(listed, text):
                told.append((text, _named(connection, run, text, nodes)))
        sure = 0.0 if probable else project.settings.identity.thresholds.sending
        return _persons(connection, told, shared=shared, sure=sure, listed=listed)


@contextmanager
def _told_where(listed: Mapping[str, str] | None, text: str) -> Iterator[None]:
    """What is wrong with an identifier is said with the file and line that named it: of a thousand, one could not be found by the message alone."""
    try:
        yield
    except WaymarkError as error:
        if not listed or text not in listed:
            raise
        where = f"{listed[text]}: {error.where}" if error.where else listed[text]
        raise WaymarkError(error.what, where=where, remedy=error.remedy) from error


def _named(connection: Connection, run: Run, text: str, nodes: str) -> Identifier | tuple[str, str]:
    """The identifier that a text names; as (type, value) where no event names it."""
    try:
        return find_identifier(connection, run.secret, text, nodes=nodes)
    except WaymarkError:
        alone = keyed_identifier(connection, run.secret, text)
        if alone is None:
            raise
        return alone


def _persons(
    connection: Connection, named: Sequence[tuple[str, Identifier | tuple[str, str]]], *, shared: bool, sure: float, listed: Mapping[str, str] | None
) -> list[Subject]:
    """Whose they are; each table is read once for all of them. sure: how probable an estimated link must be."""
    known = [(place, one.node_id) for place, (_, one) in enumerate(named) if isinstance(one, Identifier)]
    connection.execute(
        """
        create or replace temp table asked_persons as
        select min(place) as place, customer_id from (select unnest($places::bigint[]) as place, unnest($nodes::bigint[]) as node_id)
        join identity.memberships using (node_id) group by customer_id
        """,
        {"places": [place for place, _ in known], "nodes": [node for _, node in known]},
    )
    connection.execute("""
        create or replace temp table asked_members as
        select place, customer_id, node_id, identifier_type, identifier_value, node_customer_id
        from asked_persons join identity.memberships using (customer_id) join identity.nodes using (node_id)
    """)
    guessed = _guessed(connection, {node for _, node in known}, sure)
    connection.execute("delete from asked_members where list_contains(?::bigint[], node_id)", [sorted(guessed)])
    left_out = Counter(guessed.values())
    members = _by_place(connection, "select place, identifier_type, identifier_value, node_customer_id, node_id, customer_id from asked_members order by all")
    beside = _by_place(connection, """
        select distinct m.place, n.identifier_type || ':' || n.identifier_value as other
        from asked_members m join (
            select node_a as node_id, node_b as other from identity.edges where node_a in (select node_id from asked_members)
            union all select node_b, node_a from identity.edges where node_b in (select node_id from asked_members)
        ) e using (node_id) join identity.nodes n on n.node_id = e.other
        where not exists (select 1 from identity.memberships o where o.node_id = e.other) order by all
    """)  # fmt: skip
    partly = """
        union all
        select place, source, count(distinct event_id) from (
            select event_id, source, unnest(node_ids) as node_id from intermediate.int_events_sessionized where is_counted
        ) join asked_members using (node_id) where place in (select unnest($partly::bigint[])) group by all
    """
    counted = _by_place(connection, f"""
        select place, source, count(*) from marts.fct_events join asked_persons using (customer_id)
        where place not in (select unnest($partly::bigint[])) group by all {partly if left_out else ""} order by all
    """, {"partly": sorted(left_out)})  # fmt: skip
    mine = {node for (node,) in rows(connection, "select node_id from asked_members")}
    for table in ("asked_persons", "asked_members"):
        connection.execute(f"drop table temp.{table}")
    found: dict[tuple[tuple[str, str], ...], Subject] = {}
    for place, (text, one) in enumerate(named):
        if not isinstance(one, Identifier):
            subject = Subject(text, (one,))
        elif place in members:
            held = members[place]
            # A customer is called after one of the identifiers: where that one is left out, the id is not theirs.
            customers = {str(own) for _, _, own, *_ in held} | {str(now) for *_, now in held if not left_out[place]}
            subject = Subject(
                text, tuple((str(kind), str(value)) for kind, value, *_ in held), tuple(sorted(customers)), tuple(int(str(node)) for *_, node, _ in held),
                {str(source): int(str(count)) for source, count in counted.get(place, [])}, tuple(str(other) for (other,) in beside.get(place, [])),
                left_out[place],
            )  # fmt: skip
        elif one.node_id in mine:  # named before by another identifier
            continue
        elif shared:
            subject = Subject(text, ((one.kind, one.value),), nodes=(one.node_id,))
        else:
            with _told_where(listed, text):
                raise WaymarkError(
                    f"{one} is shared by too many to be one person's",
                    remedy="Name an identifier that is the person's own, such as the e-mail address; or, if all of its events are theirs, add --shared.",
                )
        found.setdefault(subject.identifiers, subject)
    return list(found.values())


def _guessed(connection: Connection, named: Collection[int], sure: float) -> dict[int, int]:
    """The members (`asked_members`) that no way leads to from one that was named but over an estimated link of less than `sure`, each with its place."""
    links = rows(connection, """
        select node_a, node_b, estimation_version = 0 or probability >= ? from identity.edges
        where node_a in (select node_id from asked_members) and node_b in (select node_id from asked_members)
    """, [sure])  # fmt: skip
    unsure = {int(str(node)) for *ends, is_sure in links if not is_sure for node in ends}
    if not unsure:
        return {}
    beside: dict[int, list[int]] = {}
    for one, other, is_sure in links:
        if is_sure:
            beside.setdefault(int(str(one)), []).append(int(str(other)))
            beside.setdefault(int(str(other)), []).append(int(str(one)))
    reached, ahead = set(named), list(named)
    while ahead:
        new = [node for node in beside.get(ahead.pop(), ()) if node not in reached]
        reached.update(new)
        ahead += new
    place_of = {int(str(node)): int(str(place)) for node, place in rows(connection, "select node_id, place from asked_members")}
    doubtful = {place_of[node] for node in unsure}
    return {node: place for node, place in place_of.items() if place in doubtful and node not in reached}


def _by_place(connection: Connection, sql: str, parameters: dict[str, object] | None = None) -> dict[int, list[tuple[object, ...]]]:
    """Rows by their first column, without it."""
    found: dict[int, list[tuple[object, ...]]] = {}
    for place, *values in rows(connection, sql, parameters):
        found.setdefault(int(str(place)), []).append(tuple(values))
    return found


def words_about(connection: Connection, nodes: Collection[int]) -> list[tuple[str, int]]:
    """(event id, number) of each of the operators' words about one of these identifiers (node ids), in the order in which they were said."""
    read_words(connection)
    found = rows(connection, """
        with theirs as (select unnest($nodes::bigint[]) as node_id)
        select event_id, ordinal from temp.operator_words
        where node_a in (select node_id from theirs) or node_b in (select node_id from theirs) order by ordinal
    """, {"nodes": list(nodes)})  # fmt: skip
    return [(str(event), int(str(ordinal))) for event, ordinal in found]


def named_by_others(project: Project, subjects: Sequence[Subject]) -> tuple[int, int]:
    """How many events of how many other customers name an identifier of these persons: on her tablet, say. They go, too. Hold the writer lock."""
    run = require_ended_run(project)
    given = {"nodes": [node for subject in subjects for node in subject.nodes], "customers": [who for subject in subjects for who in subject.customers]}
    with run.open_warehouse() as connection:
        found = rows(connection, """
            select count(distinct event_id), count(distinct customer_id)
            from (select event_id, customer_id, unnest(node_ids) as node_id from intermediate.int_events_sessionized) e
            join (select unnest($nodes::bigint[]) as node_id) theirs using (node_id)
            where customer_id is not null and customer_id not in (select unnest($customers::varchar[]))
                and customer_id not in (select customer_id from identity.memberships where node_id in (select unnest($nodes::bigint[])))
        """, given)  # fmt: skip
    return int(str(found[0][0])), int(str(found[0][1]))
