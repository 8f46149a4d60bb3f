"""Who may become champion: rules over what was measured. A refusal is a list of reasons, each with a code and a sentence that holds the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ml.evaluation import Estimate
from ml.models.propensity.result import CHAMPION, Leak, TrainingResult


@dataclass(frozen=True)
class GateRules:
    """What a model must keep. slope, intercept: the calibration estimate must lie within, unless its interval holds 1, or 0."""

    slope: tuple[float, float] = (0.85, 1.15)
    intercept: tuple[float, float] = (-0.25, 0.25)
    # A week is unstable if it was ranked clearly worse than this; one in so many may be.
    least_weekly_auc: float = 0.55
    unstable_share: float = 0.25


@dataclass(frozen=True)
class Reason:
    """code: a stable name; sentence: with the numbers."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """promote: whether the model becomes champion. reasons: why not; empty where it does."""

    promote: bool
    reasons: tuple[Reason, ...]

    @property
    def summary(self) -> str:
        return "promoted to champion" if self.promote else "refused: " + "; ".join(reason.sentence for reason in self.reasons)


def judge(result: TrainingResult, leaks: tuple[Leak, ...] = (), rules: GateRules | None = None) -> Verdict:
    """Every rule that the chosen model breaks.

    Its log-loss must be under the base rate's beyond noise, and not above the logistic regression's beyond noise; calibration and weeks as GateRules say;
    no leak; and where there is a champion (result.differences[CHAMPION], on the same test rows), the log-loss must be under its own beyond noise. The
    champion may have learnt from some of these rows, which favours it: a challenger that wins all the same has won.
    """
    rules = rules or GateRules()
    found = [*_against_baselines(result), *_calibration(result, rules), *_stability(result, rules)]
    found += [Reason("leak", leak.sentence) for leak in leaks]
    champion = result.differences.get(CHAMPION)
    if champion is not None and not champion["log_loss"].high < 0:
        found.append(Reason("within_noise_of_champion", f"the log-loss is {_signed(champion['log_loss'])} against the champion's, not below it beyond noise"))
    return Verdict(not found, tuple(found))


def _against_baselines(result: TrainingResult) -> list[Reason]:
    found = []
    base = result.differences["base_rate"]["log_loss"]
    if not base.high < 0:
        found.append(Reason("not_better_than_base_rate", f"the log-loss is {_signed(base)} against the base rate's, not below it beyond noise"))
    logistic = result.differences["logistic"]["log_loss"]
    if logistic.low > 0:
        found.append(Reason("worse_than_logistic", f"the log-loss is {_signed(logistic)} against logistic regression's: above it beyond noise"))
    return found


def _calibration(result: TrainingResult, rules: GateRules) -> list[Reason]:
    metrics = result.candidate(result.chosen).metrics
    found = []
    for code, name, perfect, bounds in (
        ("calibration_slope", "calibration_slope", 1.0, rules.slope),
        ("calibration_intercept", "calibration_in_the_large", 0.0, rules.intercept),
    ):
        estimate = metrics[name]
        if not (estimate.low <= perfect <= estimate.high or bounds[0] <= estimate.value <= bounds[1]):
            found.append(Reason(code, f"{name.replace('_', ' ')} is {estimate}, without {perfect:g} and outside {bounds[0]:g} to {bounds[1]:g}"))
    return found


def _stability(result: TrainingResult, rules: GateRules) -> list[Reason]:
    weeks = result.stability.get("week", {})
    unstable = [week for week, metrics in weeks.items() if metrics["auc"].high < rules.least_weekly_auc]
    if weeks and len(unstable) > rules.unstable_share * len(weeks):
        return [Reason("unstable_weeks", f"in {len(unstable)} of {len(weeks)} test weeks the AUC lies below {rules.least_weekly_auc:g}: {', '.join(unstable)}")]
    return []


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.5f} [{estimate.low:+.5f}, {estimate.high:+.5f}]"
