"""The scores: probabilities in their intervals, one a customer, in deciles by score."""

from __future__ import annotations

from expectations.rules import Rule, Suite


def _where(name: str, meaning: str, condition: str) -> Rule:
    return Rule(name, meaning, f"select t.customer_id from {{batch}} t where {{scope}} and ({condition})")


def suites() -> list[Suite]:
    """One suite, over marts.fct_propensity_scores."""
    rules = (
        _where("scores_are_probabilities", "A score lies between 0 and 1.", "t.score is null or isnan(t.score) or not t.score between 0 and 1"),
        _where("scores_lie_in_their_intervals", "A score lies in its interval, and that in 0 to 1.",
               "not (t.score_low <= t.score and t.score <= t.score_high and t.score_low >= 0 and t.score_high <= 1)"),
        Rule("customers_are_scored_once", "One score a customer.", "select t.customer_id from {batch} t where {scope} group by t.customer_id having count(*) > 1"),
        Rule("deciles_follow_the_scores", "A decile is the tenth that holds the middle of the ranks of its score, so equal scores share one.",
             "select d.customer_id from (select t.customer_id, t.decile, 10 * (rank() over (order by t.score desc) - 1 + (count(*) over (partition by t.score) - 1) / 2.0)"
             " / count(*) over () as place from {batch} t where {scope}) d where d.decile is null or not (d.decile - 1 <= d.place and d.place < d.decile)"),
        Rule("scored_customers_exist", "A scored customer is one of dim_customers.",
             "select t.customer_id from {batch} t left join marts.dim_customers c on c.customer_id = t.customer_id where {scope} and c.customer_id is null"),
        _where("scores_name_their_model", "A score names the version of its model and its point.", "t.model_version is null or t.as_of_at is null"),
    )  # fmt: skip
    return [Suite("marts_fct_propensity_scores", "scores", "marts.fct_propensity_scores", rules)]
