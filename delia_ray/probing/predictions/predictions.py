"""Evaluation of the predictions P1 to P5: the outcome of each, in a word and in one plain sentence."""

from collections.abc import Callable, Mapping, Sequence

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.predictions.schema import ArmDifference, Measurements, Outcome, Prediction

P5_METRICS = ("format_acc", "label_acc", "plug_play", "no_token", "selectivity")
"""Metrics of the built-in task that P5 is about: on unseen wordings, on other kinds of task, and without the token."""
_MAIN_P5_METRIC = "format_acc"
_SIGNIFICANCE = 0.05


def evaluate_predictions(measured: Measurements, scored: Mapping[str, Sequence[ArmDifference]], metric: str) -> dict[str, Prediction]:
    """Evaluate P1 to P5.

    Args:
        measured: the measurements behind P1 to P4.
        scored: metric -> differences of arms with neighboring ratios; empty where no two arms were scored.
        metric: ``task.metric``.
    """
    return {
        "P1": _evaluate_p1(measured),
        "P2": _evaluate_p2(measured),
        "P3": _evaluate_fall(
            measured, "The update's norm along the top eigenvectors", measured.along, lambda arm: measured.updates[arm].along
        ),
        "P4": _evaluate_p4(measured),
        "P5": _evaluate_p5(measured, scored, _MAIN_P5_METRIC if metric == "format" else metric),
    }


def _evaluate_p1(measured: Measurements) -> Prediction:
    own, foreign, difference = measured.norms["own"].corrected, measured.norms["foreign"].corrected, measured.foreign_minus_own
    outcome = _classify(difference.low, difference.high)
    answers = "answers of others" if measured.facts.foreign == "file" else "answers to other queries"
    claim = {
        "holds": f"Own answers pull on the base model less than {answers} do",
        "does not hold": f"Own answers pull on the base model more than {answers} do",
        "cannot be told": f"Own answers and {answers} cannot be told apart",
    }[outcome]
    values = f"the mean gradient's norm, without sampling noise, is {_format_interval(own)} against {_format_interval(foreign)}"
    return Prediction(outcome=outcome, sentence=f"{claim}: {values}.")


def _evaluate_p2(measured: Measurements) -> Prediction:
    first, last, change = measured.steps[0], measured.steps[-1], measured.cosine_change
    change_outcome = _classify(change.low, change.high, better="lower")
    last_outcome = _classify(last.cosine.low, last.cosine.high, better="lower")
    outcome: Outcome = "cannot be told"
    if last_outcome == change_outcome == "holds":
        outcome = "holds"
    elif "does not hold" in (last_outcome, change_outcome):
        outcome = "does not hold"
    claim = {
        "holds": "The diverse rows' gradient turns against the step, more so the longer it is",
        "does not hold": "The diverse rows' gradient does not turn further against a longer step",
        "cannot be told": "That the diverse rows' gradient turns further against a longer step cannot be told",
    }[outcome]
    values = (
        f"the cosine goes from {_format_interval(first.cosine)} at the shortest step to {_format_interval(last.cosine)} at the longest, "
        f"the force back from {_format_interval(first.pull)} to {_format_interval(last.pull)}"
    )
    return Prediction(outcome=outcome, sentence=f"{claim}: {values}.")


def _evaluate_p4(measured: Measurements) -> Prediction:
    if not measured.divergences:
        return Prediction(outcome="not measured", sentence="Not measured: every diverse row was trained on, or probe.held_out is 0.")
    return _evaluate_fall(measured, "The divergence on held-out diverse rows", measured.diverged, lambda arm: measured.divergences[arm])


def _evaluate_p5(measured: Measurements, scored: Mapping[str, Sequence[ArmDifference]], metric: str) -> Prediction:
    differences = scored.get(metric)
    if not differences:
        return Prediction(outcome="not measured", sentence="Not scored yet: `delia score` asks the finished models, then probe again.")
    outcomes = [_classify(each.low, each.high, each.p) for each in differences]
    verbs = {"holds": "rises", "does not hold": "falls", "cannot be told": "cannot be told apart"}
    changes = "; ".join(
        f"{verbs[outcome]} {_describe_pair(measured, each)}{_describe_missing_interval(each)}"
        for outcome, each in zip(outcomes, differences, strict=True)
    )
    rises = "holds" in outcomes
    falls_first = "does not hold" in outcomes and (not rises or outcomes.index("does not hold") < outcomes.index("holds"))
    overall: Outcome = "does not hold" if falls_first else "holds" if rises else "cannot be told"
    return Prediction(outcome=overall, sentence=f"{metric} {changes}.{_describe_caveat(measured)}")


def _evaluate_fall(
    measured: Measurements, subject: str, differences: Sequence[ArmDifference], value: Callable[[str], Interval]
) -> Prediction:
    """Evaluate a prediction that a value falls with more diverse rows: it holds where some difference is below 0 and none is above.

    Args:
        measured: the arms.
        subject: name of the value in the sentence.
        differences: of arms with neighboring ratios.
        value: arm -> the value.
    """
    if not differences:
        return Prediction(outcome="not measured", sentence="Not measured: it needs arms with different ratios that training has moved.")
    outcomes = [_classify(each.low, each.high, each.p, better="lower") for each in differences]
    overall: Outcome = "does not hold" if "does not hold" in outcomes else "holds" if "holds" in outcomes else "cannot be told"
    verbs = {"holds": "falls", "does not hold": "rises", "cannot be told": "cannot be told apart"}
    changes = "; ".join(
        f"{verbs[outcome]} {_describe_pair(measured, each)}, from {_format_interval(value(each.fewer))} "
        f"to {_format_interval(value(each.more))} (difference {_format_number(each.difference, '+')}{_format_ends(each)})"
        for outcome, each in zip(outcomes, differences, strict=True)
    )
    return Prediction(outcome=overall, sentence=f"{subject} {changes}.{_describe_caveat(measured)}")


def _classify(low: float | None, high: float | None, p: float | None = None, better: str = "higher") -> Outcome:
    """Classify a difference: it has a sign where its interval excludes 0 and its test, if there is one, is significant."""
    if low is None or high is None or low <= 0 <= high or (p is not None and p > _SIGNIFICANCE):
        return "cannot be told"
    return "holds" if (low > 0) == (better == "higher") else "does not hold"


def _format_ends(difference: ArmDifference) -> str:
    if difference.low is None or difference.high is None:
        return f"; no interval: {difference.note}"
    return f", {_format_number(difference.low, '+')} to {_format_number(difference.high, '+')}"


def _describe_missing_interval(difference: ArmDifference) -> str:
    return f" (no interval: {difference.note})" if difference.low is None else ""


def _describe_pair(measured: Measurements, difference: ArmDifference) -> str:
    fewer, more = (f"\N{GREEK SMALL LETTER RHO} = {measured.arms[arm].ratio:g}" for arm in (difference.fewer, difference.more))
    return f"between {fewer} ({difference.fewer}) and {more} ({difference.more})"


def _describe_caveat(measured: Measurements) -> str:
    """Describe what else than the ratio differs between the arms."""
    rates = {facts.learning_rate for facts in measured.arms.values()}
    return " The arms differ in their learning rates, too." if len(rates) > 1 else ""


def _format_interval(interval: Interval) -> str:
    if interval.value is None:
        return "not known"
    if interval.low is None or interval.high is None:
        return f"{_format_number(interval.value)} (no interval: {interval.note})"
    return f"{_format_number(interval.value)} ({_format_number(interval.low)} to {_format_number(interval.high)})"


def _format_number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3g}".replace("-", "\N{MINUS SIGN}")
