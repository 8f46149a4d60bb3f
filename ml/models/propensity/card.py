"""The model card: what the model is for, and what was measured on it. No number stands here that was not measured in this training."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from ml.evaluation import Estimate
from ml.explain import Importance
from ml.models.propensity.gate import Verdict
from ml.models.propensity.result import TrainingResult

_SHOWN = ("auc", "average_precision", "log_loss", "brier", "calibration_slope", "calibration_in_the_large", "ece", "lift_top_decile")


def model_card(result: TrainingResult, verdict: Verdict, importance: tuple[Importance, ...], meanings: Mapping[str, str], facts: Mapping[str, str]) -> str:
    """Markdown. meanings: feature -> phrase. facts: digests, versions and run ids, by name."""
    data = result.dataset
    lines = [
        "# Propensity to convert",
        "",
        f"The probability that a customer reaches the first goal within {data.horizon_days} days of a point in time, from what was known at that point.",
        "It ranks and sizes audiences. It does not say what an action would change, and is not fit for decisions about persons' rights.",
        "",
        f"**Gate:** {verdict.summary}.",
        "",
        "## Data",
        "| split | rows | converting | customers | first point | last point |",
        "|---|---:|---:|---:|---|---|",
    ]
    for name, split in data.splits.items():
        days = f"{split.first_as_of_at:%Y-%m-%d} | {split.last_as_of_at:%Y-%m-%d}"
        lines.append(f"| {name} | {split.rows:,} | {split.positives:,} | {split.customers:,} | {days} |")
    lines += ["", f"{len(data.fields)} features, {data.sampled:.0%} of the customers, fingerprint `{data.fingerprint}`.", ""]
    lines += ["## Measured on the test split", "Estimates with 95 % intervals that allow for customers who stand in several rows.", ""]
    names = [f"**{candidate.name}**" if candidate.name == result.chosen else candidate.name for candidate in result.candidates]
    lines += ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for name in _SHOWN:
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(_told(candidate.metrics[name]) for candidate in result.candidates) + " |")
    lines += ["", f"Log-loss of {result.chosen} minus that of the others, on the same rows; below zero it is the better one:", ""]
    lines += [f"- {name}: {_told(difference['log_loss'], '+.5f')}" for name, difference in result.differences.items()]
    if result.champion is not None:
        met = result.champion
        known = "that it has not learnt from" if met.learnt_until else "of which it may have learnt from some"
        lines.append(f"- The champion is met on {met.rows:,} rows, {met.positives:,} of them converting, {known}.")
    lines += ["", "## Stability", "| part | value | n | AUC | converted | mean score |", "|---|---|---:|---:|---:|---:|"]
    for part, values in result.stability.items():
        for value, metrics in values.items():
            told = " | ".join((_told(metrics["auc"]), _share(metrics["conversion_rate"]), _share(metrics["mean_score"])))
            lines.append(f"| {part} | {value} | {metrics['auc'].n:,} | {told} |")
    lines += ["", "## What moves it", "Mean absolute SHAP value in log-odds, over a sample of the test split.", ""]
    for place, item in enumerate(importance[:10], 1):
        lines.append(f"{place}. {meanings.get(item.feature, item.feature)} (`{item.feature}`): {item.mean_absolute:.3f}")
    lines += ["", "## Limits"]
    rough = "if the truth is no rougher than what trees and logistic regression learn of it"
    lines += [f"- The interval beside a score is at 90 % and of the customer's own probability, {rough}."]
    lines += ["- Customers seen for the last time more than 90 days before a point have no score."]
    lines += ["- Who is not linked to a known person is scored by what one device shows."]
    lines += ["", "## Where it came from", *(f"- {name}: `{value}`" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def _told(estimate: Estimate, form: str = ".4g") -> str:
    """value [low, high]; a dash where there is no value, no brackets where there is no interval."""
    if not isfinite(estimate.value):
        return "–"
    return f"{estimate.value:{form}}" + (f" [{estimate.low:{form}}, {estimate.high:{form}}]" if isfinite(estimate.low) else "")


def _share(estimate: Estimate) -> str:
    """In per cent, the interval kept within 0 to 100, which the normal approximation of a rare event leaves."""
    if not isfinite(estimate.value):
        return "–"
    between = f" [{max(estimate.low, 0.0):.2%}, {min(estimate.high, 1.0):.2%}]".replace("%", "") if isfinite(estimate.low) else ""
    return f"{estimate.value:.2%}".replace("%", " %") + between
