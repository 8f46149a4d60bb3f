"""Persons as they are named on the command line, for what is done to all that is held about one: an export, an erasure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from waymark.core.errors import StorageError, WaymarkError
from waymark.core.settings import OPERATOR_SOURCE, Project
from waymark.core.warehouse import Connection, rows
from waymark.pipeline.identifiers import find_identifier, keyed_identifier, require_ended_run
from waymark.pipeline.operator_words import waiting_words
from waymark.pipeline.steps import Run


@dataclass(frozen=True)
class Subject:
    """Who is meant. named: as asked; identifiers: (type, value) of the person's, all that are theirs today; customers: ids of now and before; nodes: of
    identity.nodes; events: by source; shared: identifiers that they were seen with and that too many share: these are not theirs, and stay."""

    named: str
    identifiers: tuple[tuple[str, str], ...]
    customers: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    events: dict[str, int] = field(default_factory=dict)
    shared: tuple[str, ...] = ()

    def line(self) -> str:
        """For people; no value of an identifier."""
        kinds = {kind: sum(of == kind for of, _ in self.identifiers) for kind, _ in self.identifiers}
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        told = ", ".join(f"{count:,} events of {source}" for source, count in sorted(self.events.items())) or "no event that counts"
        stays = f"; seen with {', '.join(self.shared)}, which too many share: it stays" if self.shared else ""
        return f"{held}; {told}{stays}"


def subjects_of(project: Project, named: Sequence[str], *, shared: bool = False) -> list[Subject]:
    """The persons that these identifiers or customer ids name, each once. Hold the writer lock.

    An identifier that no event names is a person of its own: it may stand in files and refused rows. shared: so is one that too many share, with all the
    events that name it; else it is refused, because they may be anybody's. Raises StorageError before the first run, after one that did not end, and while
    an operator's words wait for the next one; WaymarkError where several are meant.
    """
    run = require_ended_run(project)
    found: dict[tuple[tuple[str, str], ...], Subject] = {}
    with run.open_warehouse() as connection:
        if waiting := waiting_words(project, connection):
            raise StorageError(
                f"{len(waiting)} words of an operator about who is whom wait for the next run, and may change whose an identifier is",
                where=str(project.home.landing / OPERATOR_SOURCE), remedy="waymark run",
            )  # fmt: skip
        for text in named:
            subject = _subject(connection, run, text, shared=shared)
            found.setdefault(subject.identifiers, subject)
    return list(found.values())


def _subject(connection: Connection, run: Run, text: str, *, shared: bool) -> Subject:
    try:
        one = find_identifier(connection, run.secret, text)
    except WaymarkError:
        alone = keyed_identifier(connection, run.secret, text)
        if alone is None:
            raise
        return Subject(text, (alone,))
    mine = "customer_id = (select customer_id from identity.memberships where node_id = ?)"
    held = rows(connection, f"""
        select n.identifier_type, n.identifier_value, n.node_customer_id, n.node_id, m.customer_id
        from identity.nodes n join identity.memberships m using (node_id) where m.{mine} order by 1, 2
    """, [one.node_id])  # fmt: skip
    if not held and shared:
        return Subject(text, ((one.kind, one.value),), nodes=(one.node_id,))
    if not held:
        raise WaymarkError(
            f"{one} is shared by too many to be one person's",
            remedy="Name an identifier that is the person's own, such as the e-mail address; or, if all of its events are theirs, add --shared.",
        )
    beside = rows(connection, f"""
        select distinct n.identifier_type || ':' || n.identifier_value
        from identity.memberships m join (
            select node_a as node_id, node_b as other from identity.edges union all select node_b, node_a from identity.edges
        ) e using (node_id) join identity.nodes n on n.node_id = e.other
        where m.{mine} and e.other not in (select node_id from identity.memberships) order by 1
    """, [one.node_id])  # fmt: skip
    counted = rows(connection, f"select source, count(*) from marts.fct_events where {mine} group by source order by source", [one.node_id])
    customers = sorted({str(customer) for _, _, own, _, now in held for customer in (own, now)})
    return Subject(
        text, tuple((str(kind), str(value)) for kind, value, *_ in held), tuple(customers), tuple(int(str(node)) for *_, node, _ in held),
        {str(source): int(str(count)) for source, count in counted}, tuple(str(other) for (other,) in beside),
    )  # fmt: skip


def named_by_others(project: Project, subjects: Sequence[Subject]) -> tuple[int, int]:
    """How many events of how many other customers name an identifier of these persons: on her tablet, say. They go, too. Hold the writer lock."""
    run = require_ended_run(project)
    given = {"nodes": [node for subject in subjects for node in subject.nodes], "customers": [who for subject in subjects for who in subject.customers]}
    with run.open_warehouse() as connection:
        found = rows(connection, """
            select count(distinct event_id), count(distinct customer_id)
            from (select event_id, customer_id, unnest(node_ids) as node_id from intermediate.int_events_sessionized) e
            join (select unnest($nodes::bigint[]) as node_id) theirs using (node_id)
            where customer_id is not null and not list_contains($customers::varchar[], customer_id)
        """, given)  # fmt: skip
    return int(str(found[0][0])), int(str(found[0][1]))
