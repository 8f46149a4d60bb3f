"""What counts for a use: identifiers that their customer's earliest account, or earliest identifier, reaches without an estimated link that is too weak."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from reference import Event, Identifier, Supposed, minutes
from warehouse_double import WarehouseDouble

MACRO = Path(__file__).resolve().parents[3] / "dbt" / "macros" / "definitions" / "sure_enough.sql"
FORM, ACCOUNT, ADDRESS = ("email", "form"), ("user_id", "shop:1"), ("email", "confirmed")
COOKIES: list[Identifier] = [("anonymous_id", f"web:{number}") for number in range(3)]


def event(number: int, at: float, *identifiers: Identifier) -> Event:
    return Event(f"{number:032x}", minutes(at), None, identifiers)


def counting(double: WarehouseDouble, threshold: float) -> set[Identifier]:
    """The identifiers that are sure enough now, by the models' own macro."""
    template = jinja2.Environment(autoescape=False).from_string(MACRO.read_text() + "{{ sure_enough('history', 'scoring') }}")
    condition = template.render(var=lambda _: {"scoring": threshold})
    found = double.connection.execute(f"""
        select identifier_type, identifier_value from identity.membership_history as history join identity.nodes using (node_id)
        where valid_to is null and {condition}
    """)
    return set(found.fetchall())


def with_an_early_form(*links: Supposed) -> WarehouseDouble:
    """An account with three cookies and an address, and long before it a form."""
    double = WarehouseDouble(limit=20)
    double.supposed = list(links)
    double.run(
        [event(1, 0, FORM), event(2, 100, ACCOUNT, ADDRESS), *(event(3 + number, 110 + number, ACCOUNT, cookie) for number, cookie in enumerate(COOKIES))]
    )
    return double


@pytest.mark.parametrize("end", [ADDRESS, ACCOUNT])
def test_a_link_that_is_sure_enough_to_join_two_drops_the_history_of_neither(end: Identifier) -> None:
    double = with_an_early_form(Supposed((FORM, end), 0.955, minutes(200), None))
    assert len({customer for _, customer in double.table("memberships")}) == 1
    assert counting(double, 0.95) == {FORM, ACCOUNT, ADDRESS, *COOKIES}


def test_where_a_link_is_too_weak_for_a_use_the_accounts_own_identifiers_count_and_not_what_an_early_form_left() -> None:
    double = with_an_early_form(Supposed((FORM, ADDRESS), 0.955, minutes(200), None))
    assert counting(double, 0.97) == {ACCOUNT, ADDRESS, *COOKIES}


def test_without_an_account_what_hangs_on_the_earliest_identifier_counts() -> None:
    other, device = ("email", "other"), ("anonymous_id", "web:x")
    double = WarehouseDouble(limit=20)
    double.supposed = [Supposed((FORM, other), 0.955, minutes(200), None)]
    double.run([event(1, 0, FORM), event(2, 10, FORM, device), *(event(3 + number, 20, other, cookie) for number, cookie in enumerate(COOKIES))])
    assert counting(double, 0.95) == {FORM, device, other, *COOKIES} and counting(double, 0.97) == {FORM, device}


def test_of_two_ways_the_one_whose_weakest_estimate_is_stronger_is_asked() -> None:
    device = COOKIES[0]
    links = [Supposed((FORM, device), 0.955, minutes(0), None), Supposed((FORM, ADDRESS), 0.98, minutes(0), None)]
    for standing in (links, links[::-1]):
        assert FORM in counting(with_an_early_form(*standing), 0.97)
    assert FORM not in counting(with_an_early_form(links[0]), 0.97)
