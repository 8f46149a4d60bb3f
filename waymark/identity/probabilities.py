"""How sure each kind of evidence is: the probability that two identifiers it joins are one person's. The one place that says so; no setting.

The figures are judgements, not estimates: nobody has the truth about real people, and the simulated world cannot say how often a real household shares a
log-in. They rank kinds against each other and make a chain of links weaker than each of its links. Their order is what decides which link yields where
negative evidence forbids that both hold; estimated links (`estimation_version` > 0) bring probabilities of their own.
"""

from __future__ import annotations

from waymark.core.quoting import literal

OPERATOR_MERGE = "operator_merge"
OPERATOR_SPLIT = "operator_split"
TWO_LOGINS = "two_logins_in_one_session"
ORDER_CONFLICT = "order_conflict"
# A link that was estimated from what people typed of themselves (linkage/).
PROBABLE = "probable"

# `<type>-<type>` in alphabetical order: both identifiers stood in one event.
LINK_PROBABILITIES = {
    # A log-in: the device is the account holder's but where it is lent, sold or shared.
    "anonymous_id-user_id": 0.99,
    # An account's own verified address and number. Families share a mailbox, and telephones more often.
    "email-user_id": 0.999,
    "phone-user_id": 0.995,
    # Typed into a form on a device, verified by nobody: misspelt, somebody else's, or made up.
    "anonymous_id-email": 0.98,
    "anonymous_id-phone": 0.97,
    "email-phone": 0.99,
    # A customer number given by the shop's own system beside the account.
    "crm_id-user_id": 0.999,
    "crm_id-email": 0.995,
    "crm_id-phone": 0.99,
    "anonymous_id-crm_id": 0.98,
}
# Any other pair of declared types.
OTHER_PROBABILITY = 0.98
# A click id that a mapping declares as an identifier: links are forwarded, and pages are cached with them. In a real shop's ten days hundreds stood on several
# cookies, one on 77, so none is an identifier unless a mapping says so.
CLICK_ID_PROBABILITY = 0.9
CLICK_ID_TYPES = ("click_id", "gclid", "gbraid", "wbraid", "dclid", "msclkid", "fbclid", "ttclid", "li_fat_id", "twclid", "irclickid")
# An operator looked at both.
OPERATOR_PROBABILITY = 1.0


def link_probability(kind: str) -> float:
    """The probability of a link of this kind."""
    if kind == OPERATOR_MERGE:
        return OPERATOR_PROBABILITY
    if set(kind.split("-")) & set(CLICK_ID_TYPES):
        return CLICK_ID_PROBABILITY
    return LINK_PROBABILITIES.get(kind, OTHER_PROBABILITY)


def link_probability_sql(kind: str) -> str:
    """SQL: the same for an SQL expression of the kind, DOUBLE."""
    known = " ".join(f"when {literal(name)} then {probability}" for name, probability in sorted(LINK_PROBABILITIES.items()))
    clicks = ", ".join(literal(name) for name in CLICK_ID_TYPES)
    other = f"when list_has_any(string_split({kind}, '-'), [{clicks}]) then {CLICK_ID_PROBABILITY} else {OTHER_PROBABILITY}"
    return f"cast(case {kind} {known} else case {other} end end as double)"
