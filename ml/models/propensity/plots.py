"""The pictures of a training, as PNG bytes. They show aggregates alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ml.explain import Importance
from ml.models.propensity.result import TrainingResult

_BLUE, _GREY, _ORANGE, _INK = "#2b6cb0", "#8a8f98", "#c05621", "#1f2933"


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


def _figure(width: float = 7.0, height: float = 4.6, rows: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, or an array of them, one a row."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08), dpi=110)
    found = figure.subplots(rows, sharex=True)
    for axes in np.atleast_1d(found):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(alpha=0.25)
    return figure, found


def _percent(decimals: int | None = None) -> Any:
    """Ticks in per cent; on a scale of powers of ten as few digits as each needs."""
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    return PercentFormatter(1.0, decimals=decimals, symbol=" %") if decimals is not None else FuncFormatter(lambda share, _: f"{share * 100:g} %")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _reliability(result: TrainingResult) -> bytes:
    table = result.curves["reliability"].to_pydict()
    figure, axes = _figure()
    p, observed, low, high = (np.asarray(table[name]) for name in ("probability", "observed", "low", "high"))
    top = min(float(max(p.max(), high.max())) * 1.3, 1.0)
    some = observed > 0
    # A logarithmic axis has no zero: bins in which nobody converted stand at its foot, with the interval above them.
    least = max(min(float(p.min()), float(observed[some].min(initial=1.0))) / 2, 1e-5)
    axes.plot([least, top], [least, top], color=_GREY, linewidth=1, label="perfect")
    errors = np.maximum(np.vstack([observed - low, high - observed]), 0)
    axes.errorbar(p[some], observed[some], yerr=errors[:, some], fmt="o", color=_BLUE, markersize=4, linewidth=1, label="20 bins of equal size, 95 % interval")
    if not some.all():
        axes.vlines(p[~some], least, high[~some], color=_BLUE, linewidth=1, linestyle="dotted")
        foot = np.full((~some).sum(), least)
        axes.plot(p[~some], foot, "v", color=_BLUE, markerfacecolor="white", markersize=7, clip_on=False, label="bins in which nobody converted")
    axes.set(xscale="log", yscale="log", xlim=(least, top), ylim=(least, top), xlabel="score", ylabel="share that converted")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent())
    axes.set_title(f"Reliability on the test split (n = {len(result.test.labels):,}, {int(result.test.labels.sum()):,} converting)")
    axes.legend(frameon=False, loc="upper left")
    return _png(figure)


def _gain(result: TrainingResult) -> bytes:
    table = result.curves["gain"].to_pydict()
    figure, axes = _figure()
    deciles, lift = np.asarray(table["decile"]), np.asarray(table["lift"])
    errors = np.maximum(np.vstack([lift - np.asarray(table["lift_low"]), np.asarray(table["lift_high"]) - lift]), 0)
    axes.bar(deciles, lift, yerr=errors, color=_BLUE, error_kw={"linewidth": 1.2, "ecolor": _INK})
    axes.axhline(1.0, color=_GREY, linewidth=1, linestyle="dashed")
    axes.set(xlabel="decile of the score (1 = highest)", ylabel="lift over the mean conversion rate", xticks=deciles)
    gain = axes.twinx()
    gain.spines[["top"]].set_visible(False)
    gain.plot(deciles, np.asarray(table["gain"]), color=_ORANGE, marker="o", markersize=3)
    gain.set_ylim(0, 1.05)
    gain.yaxis.set_major_formatter(_percent(0))
    gain.tick_params(axis="y", colors=_ORANGE)
    gain.set_ylabel("conversions reached, down to this decile", color=_ORANGE)
    axes.set_title(f"Lift and gain on the test split (n = {len(result.test.labels):,}, 95 % intervals)")
    return _png(figure)


def _shap(importance: tuple[Importance, ...]) -> bytes:
    figure, axes = _figure(8.0, 5.6)
    shown = importance[:15][::-1]
    places = np.arange(len(shown))
    axes.barh(places, [item.mean_absolute for item in shown], color=_BLUE)
    axes.set_yticks(places, [item.feature for item in shown], fontsize=8)
    for place, item in zip(places, shown, strict=True):
        arrow = "higher raises it" if item.direction > 0.1 else "higher lowers it" if item.direction < -0.1 else "no one direction"
        axes.annotate(f" {arrow}", (item.mean_absolute, place), va="center", fontsize=7, color=_GREY)
    axes.set(xlabel="mean absolute SHAP value (log-odds)")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.18)
    axes.set_title(f"What moves the score (exact SHAP, n = {importance[0].n:,} rows)" if importance else "What moves the score")
    return _png(figure)


def _stability(result: TrainingResult) -> bytes:
    weeks = result.stability.get("week", {})
    figure, (rates, ranks) = _figure(7.0, 5.6, rows=2)
    places = np.arange(len(weeks))
    for axes, name, color, shift, label in (
        (rates, "conversion_rate", _BLUE, -0.08, "share that converted"),
        (rates, "mean_score", _ORANGE, 0.08, "mean score"),
        (ranks, "auc", _BLUE, 0.0, "AUC"),
    ):
        estimates = [metrics[name] for metrics in weeks.values()]
        values = np.asarray([estimate.value for estimate in estimates])
        spread = np.asarray([(estimate.value - estimate.low, estimate.high - estimate.value) for estimate in estimates]).T
        axes.errorbar(places + shift, values, yerr=np.nan_to_num(np.maximum(spread, 0)), fmt="o", color=color, markersize=4, linewidth=1, label=label)
    rates.set_ylim(bottom=0)
    rates.set_ylabel("rate")
    rates.yaxis.set_major_formatter(_percent(1))
    rates.legend(frameon=False, ncols=2, loc="lower left")
    ranks.axhline(0.5, color=_GREY, linewidth=1, linestyle="dashed")
    ranks.set_ylim(min([0.45, *(metrics["auc"].low - 0.05 for metrics in weeks.values() if metrics["auc"].low > 0)]), 1.0)
    ranks.set_ylabel("AUC (dashed: chance)")
    # One label in so many, where there are many weeks.
    step = max(len(weeks) // 8, 1)
    ranks.set_xticks(places[::step], list(weeks)[::step], fontsize=8)
    ranks.set_xlabel("week that begins")
    rates.set_title("Stability over the test weeks (95 % intervals)")
    return _png(figure)
