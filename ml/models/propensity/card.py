"""The model card: what the model is for, and what was measured on it. No number stands here that was not measured in this training."""

from __future__ import annotations

from collections.abc import Mapping

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
    lines += ["| | " + " | ".join(name.replace("_", " ") for name in _SHOWN) + " |", "|---|" + "---:|" * len(_SHOWN)]
    for candidate in result.candidates:
        said = f"**{candidate.name}**" if candidate.name == result.chosen else candidate.name
        lines.append(f"| {said} | " + " | ".join(str(candidate.metrics[name]) for name in _SHOWN) + " |")
    lines += ["", "Log-loss of the chosen model minus that of the others, paired:", ""]
    lines += [f"- {name}: {difference['log_loss']}" for name, difference in result.differences.items()]
    lines += ["", "## Stability", "| part | value | n | AUC | converted | mean score |", "|---|---|---:|---:|---:|---:|"]
    for part, values in result.stability.items():
        for value, metrics in values.items():
            told = " | ".join(str(metrics[name]) for name in ("auc", "conversion_rate", "mean_score"))
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
