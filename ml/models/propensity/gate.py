"""Who may become champion: rules over what was measured. A refusal is a list of reasons, each with a code and a sentence that holds the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

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
    # Weeks whose AUC has no interval (nobody converts, or one customer) say nothing; no more than so many may be.
    unanswered_share: float = 0.5
    # Converting test rows needed that the champion has not learnt from.
    least_champion_positives: int = 30


@dataclass(frozen=True)
class Reason:
    """code: a stable name; sentence: with the numbers."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """promote: whether the model becomes champion. reasons: why not; empty where it does. notes: what could not be judged, though nothing was broken."""

    promote: bool
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        said = "promoted to champion" if self.promote else "refused: " + "; ".join(reason.sentence for reason in self.reasons)
        return said + (f" (note: {'; '.join(self.notes)})" if self.notes else "")


def judge(result: TrainingResult, leaks: tuple[Leak, ...] = (), rules: GateRules | None = None) -> Verdict:
    """Every rule that the chosen model breaks.

    Its log-loss must be under the base rate's beyond noise, and not above the logistic regression's beyond noise; calibration and weeks as GateRules say;
    no leak; and where there is a champion, the log-loss must be under its own beyond noise, on the same test rows: those that the champion has not learnt
    from (result.champion). Where too few of these convert, the two cannot be compared, and the champion stays.
    """
    rules = rules or GateRules()
    unstable, notes = _stability(result, rules)
    found = [*_against_baselines(result), *_calibration(result, rules), *unstable]
    found += [Reason("leak", leak.sentence) for leak in leaks]
    found += _against_champion(result, rules)
    return Verdict(not found, tuple(found), notes)


def _against_champion(result: TrainingResult, rules: GateRules) -> list[Reason]:
    met, difference = result.champion, result.differences.get(CHAMPION)
    if met is None:
        return []
    if difference is None or met.positives < rules.least_champion_positives:
        until = f", which learnt from labels up to {met.learnt_until:%Y-%m-%d %H:%M}" if met.learnt_until else ""
        few = f"{met.positives} of {met.all_positives} converting test rows are unknown to the champion{until}; {rules.least_champion_positives} are needed"
        return [Reason("champion_not_comparable", f"{few} to compare the two")]
    if difference["log_loss"].high < 0:
        return []
    where = f"on the {met.positives:,} converting of {met.rows:,} test rows that it has not learnt from"
    if met.learnt_until is None:
        where = f"on all {met.rows:,} test rows, of which it may have learnt from some, because it does not say until when it learnt"
    return [Reason("within_noise_of_champion", f"the log-loss is {_signed(difference['log_loss'])} against the champion's, not below it beyond noise, {where}")]


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


def _stability(result: TrainingResult, rules: GateRules) -> tuple[list[Reason], tuple[str, ...]]:
    """Reasons, and notes. A week without an interval of its AUC is no answer: it counts neither as stable nor as unstable, and is told."""
    weeks = result.stability.get("week", {})
    answered = {week: metrics["auc"] for week, metrics in weeks.items() if isfinite(metrics["auc"].high)}
    silent = [week for week in weeks if week not in answered]
    told = f"{len(silent)} of {len(weeks)} test weeks have too few conversions to say anything of their AUC: {', '.join(silent)}" if silent else ""
    if len(silent) > rules.unanswered_share * len(weeks):
        return [Reason("unanswered_weeks", told)], ()
    unstable = [week for week, auc in answered.items() if auc.high < rules.least_weekly_auc]
    found = []
    if len(unstable) > rules.unstable_share * len(answered):
        said = f"in {len(unstable)} of {len(answered)} test weeks the AUC lies below {rules.least_weekly_auc:g}: {', '.join(unstable)}"
        found.append(Reason("unstable_weeks", said))
    return found, (told,) if told else ()


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.5f} [{estimate.low:+.5f}, {estimate.high:+.5f}]"
