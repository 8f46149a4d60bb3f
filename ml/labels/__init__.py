"""What is predicted. The SQL stands in dbt/models/intermediate/activity/int_customer_labels.sql."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """A yes or no about a customer at a point, known once the horizon has passed.

    table: all of them; training_table: those that may be learnt from (the persons consent, dbt/models/features/train_conversion.yml); horizon_setting: where
    waymark.yml says how many days the horizon is.
    """

    name: str
    table: str
    training_table: str
    horizon_setting: str
    meaning: str


LABEL = Label(
    name="is_converted",
    table="features.label_conversion",
    training_table="features.train_conversion",
    horizon_setting="learning.horizon_days",
    meaning="the person converts (first goal) at or after the point and before the horizon ends, as known when it ends",
)

__all__ = ["LABEL", "Label"]
