"""The pictures of a training, as PNG bytes. They show aggregates alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ml.explain import Importance
from ml.models.propensity.result import TrainingResult

_BLUE, _GREY, _ORANGE = "#2b6cb0", "#8a8f98", "#c05621"


def plots(result: TrainingResult, importance: tuple[Importance, ...]) -> Mapping[str, bytes]:
    """reliability, gain, shap and stability, by file name."""
    import matplotlib

    matplotlib.use("Agg")
    return {
        "reliability.png": _reliability(result),
        "gain.png": _gain(result),
        "shap.png": _shap(importance),
        "stability.png": _stability(result),
    }


def _figure(width: float = 7.0, height: float = 4.6) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _reliability(result: TrainingResult) -> bytes:
    table = result.curves["reliability"].to_pydict()
    figure, axes = _figure()
    p, observed = np.asarray(table["probability"]), np.asarray(table["observed"])
    errors = np.maximum(np.vstack([observed - np.asarray(table["low"]), np.asarray(table["high"]) - observed]), 0)
    top = float(max(p.max(), np.max(table["high"]))) * 1.05
    least = max(float(p.min()) / 2, 1e-5)
    axes.plot([least, top], [least, top], color=_GREY, linewidth=1, label="perfect")
    axes.errorbar(p, np.maximum(observed, least), yerr=errors, fmt="o", color=_BLUE, markersize=4, linewidth=1, label="20 bins of equal size, 95 % interval")
    axes.set(xscale="log", yscale="log", xlim=(least, top), ylim=(least, top), xlabel="score", ylabel="share that converted")
    axes.set_title(f"Reliability on the test split (n = {len(result.test.labels):,}, {int(result.test.labels.sum()):,} convert)")
    axes.legend(frameon=False)
    return _png(figure)


def _gain(result: TrainingResult) -> bytes:
    table = result.curves["gain"].to_pydict()
    figure, axes = _figure()
    deciles, lift = np.asarray(table["decile"]), np.asarray(table["lift"])
    errors = np.maximum(np.vstack([lift - np.asarray(table["lift_low"]), np.asarray(table["lift_high"]) - lift]), 0)
    axes.bar(deciles, lift, yerr=errors, color=_BLUE, error_kw={"linewidth": 1, "ecolor": _GREY})
    axes.axhline(1.0, color=_GREY, linewidth=1)
    axes.set(xlabel="decile of the score (1 = highest)", ylabel="lift over the mean conversion rate", xticks=deciles)
    gain = axes.twinx()
    gain.plot(deciles, np.asarray(table["gain"]), color=_ORANGE, marker="o", markersize=3)
    gain.set_ylim(0, 1.05)
    gain.set_ylabel("share of all conversions reached", color=_ORANGE)
    axes.set_title(f"Lift and gain on the test split (n = {len(result.test.labels):,}, 95 % intervals)")
    return _png(figure)


def _shap(importance: tuple[Importance, ...]) -> bytes:
    figure, axes = _figure(8.0, 5.6)
    shown = importance[:15][::-1]
    places = np.arange(len(shown))
    axes.barh(places, [item.mean_absolute for item in shown], color=_BLUE)
    axes.set_yticks(places, [item.feature for item in shown], fontsize=8)
    for place, item in zip(places, shown, strict=True):
        arrow = "more raises" if item.direction > 0.1 else "more lowers" if item.direction < -0.1 else "mixed"
        axes.annotate(f" {arrow}", (item.mean_absolute, place), va="center", fontsize=7, color=_GREY)
    axes.set(xlabel="mean absolute SHAP value (log-odds)")
    axes.margins(x=0.15)
    axes.set_title(f"What moves the score (exact SHAP, n = {importance[0].n:,} rows)" if importance else "What moves the score")
    return _png(figure)


def _stability(result: TrainingResult) -> bytes:
    weeks = result.stability.get("week", {})
    figure, axes = _figure()
    places = np.arange(len(weeks))
    for name, color, shift in (("conversion_rate", _BLUE, -0.1), ("mean_score", _ORANGE, 0.1)):
        estimates = [metrics[name] for metrics in weeks.values()]
        values = np.asarray([estimate.value for estimate in estimates])
        spread = np.asarray([(estimate.value - estimate.low, estimate.high - estimate.value) for estimate in estimates]).T
        label = {"conversion_rate": "share that converted", "mean_score": "mean score"}[name]
        axes.errorbar(places + shift, values, yerr=np.nan_to_num(np.maximum(spread, 0)), fmt="o", color=color, markersize=4, linewidth=1, label=label)
    axes.set_xticks(places, list(weeks), fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="test week", ylabel="rate")
    axes.legend(frameon=False)
    axes.set_title("Stability over the test weeks (95 % intervals)")
    return _png(figure)
