"""Whether each prediction held, in one plain sentence."""

from collections.abc import Callable, Mapping, Sequence

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.findings import Change, Measured, Outcome, Prediction

SCORES_OF_P5 = ("format_acc", "label_acc", "plug_play", "no_token", "selectivity")
"""Of the built-in task, the scores that P5 is about: on unseen wordings, on other kinds of task, and without the token."""
_METRIC_OF_P5 = "format_acc"
_SIGNIFICANT = 0.05


def predictions(measured: Measured, scored: Mapping[str, Sequence[Change]], metric: str) -> dict[str, Prediction]:
    """P1 to P5.

    Args:
        scored: metric -> what each step to more diverse rows changed; empty where no two arms were scored.
        metric: ``task.metric``.
    """
    return {
        "P1": _p1(measured),
        "P2": _p2(measured),
        "P3": _falls(measured, "The update's norm along the top eigenvectors", measured.along, lambda arm: measured.updates[arm].along),
        "P4": _p4(measured),
        "P5": _p5(measured, scored, _METRIC_OF_P5 if metric == "format" else metric),
    }


def _p1(measured: Measured) -> Prediction:
    own, foreign, difference = measured.norms["own"].corrected, measured.norms["foreign"].corrected, measured.foreign_minus_own
    outcome = _sided(difference.low, difference.high)
    answers = "answers of others" if measured.facts.foreign == "file" else "answers to other queries"
    claim = {
        "holds": f"Own answers pull on the start model less than {answers} do",
        "does not hold": f"Own answers pull on the start model more than {answers} do",
        "cannot be told": f"Own answers and {answers} cannot be told apart",
    }[outcome]
    values = f"the mean gradient's norm, without sampling noise, is {_shown(own)} against {_shown(foreign)}"
    return Prediction(outcome=outcome, sentence=f"{claim}: {values}.")


def _p2(measured: Measured) -> Prediction:
    first, last, change = measured.steps[0], measured.steps[-1], measured.cosine_change
    moved = _sided(change.low, change.high, better="lower")
    below = _sided(last.cosine.low, last.cosine.high, better="lower")
    outcome: Outcome = "cannot be told"
    if below == moved == "holds":
        outcome = "holds"
    elif "does not hold" in (below, moved):
        outcome = "does not hold"
    claim = {
        "holds": "The diverse rows' gradient turns against the step, more so the longer it is",
        "does not hold": "The diverse rows' gradient does not turn further against a longer step",
        "cannot be told": "That the diverse rows' gradient turns further against a longer step cannot be told",
    }[outcome]
    values = (
        f"the cosine goes from {_shown(first.cosine)} at the shortest step to {_shown(last.cosine)} at the longest, "
        f"the force back from {_shown(first.pull)} to {_shown(last.pull)}"
    )
    return Prediction(outcome=outcome, sentence=f"{claim}: {values}.")


def _p4(measured: Measured) -> Prediction:
    if not measured.divergences:
        return Prediction(outcome="not measured", sentence="Not measured: every diverse row was trained on, or probe.held_out is 0.")
    return _falls(measured, "The divergence on held-out diverse rows", measured.diverged, lambda arm: measured.divergences[arm])


def _p5(measured: Measured, scored: Mapping[str, Sequence[Change]], metric: str) -> Prediction:
    changes = scored.get(metric)
    if not changes:
        return Prediction(outcome="not measured", sentence="Not scored yet: `delia score` asks the finished models, then probe again.")
    words = [_sided(each.low, each.high, each.p) for each in changes]
    moves = {"holds": "rises", "does not hold": "falls", "cannot be told": "cannot be told apart"}
    told = "; ".join(f"{moves[word]} {_between(measured, each)}{_why(each)}" for word, each in zip(words, changes, strict=True))
    rose = "holds" in words
    fell_first = "does not hold" in words and (not rose or words.index("does not hold") < words.index("holds"))
    outcome: Outcome = "does not hold" if fell_first else "holds" if rose else "cannot be told"
    return Prediction(outcome=outcome, sentence=f"{metric} {told}.{_caveat(measured)}")


def _falls(measured: Measured, subject: str, changes: Sequence[Change], value: Callable[[str], Interval]) -> Prediction:
    """Held where every step to more diverse rows that can be told lowers ``value``, and one can."""
    if not changes:
        return Prediction(outcome="not measured", sentence="Not measured: it needs arms with different ratios that training has moved.")
    words = [_sided(each.low, each.high, each.p, better="lower") for each in changes]
    outcome: Outcome = "does not hold" if "does not hold" in words else "holds" if "holds" in words else "cannot be told"
    moves = {"holds": "falls", "does not hold": "rises", "cannot be told": "cannot be told apart"}
    told = "; ".join(
        f"{moves[word]} {_between(measured, each)}, from {_shown(value(each.fewer))} to {_shown(value(each.more))} "
        f"(difference {_number(each.difference, '+')}{_ends(each)})"
        for word, each in zip(words, changes, strict=True)
    )
    return Prediction(outcome=outcome, sentence=f"{subject} {told}.{_caveat(measured)}")


def _sided(low: float | None, high: float | None, p: float | None = None, better: str = "higher") -> Outcome:
    """Of a difference: told where its interval is clear of 0 and its test, if there is one, agrees."""
    if low is None or high is None or low <= 0 <= high or (p is not None and p > _SIGNIFICANT):
        return "cannot be told"
    return "holds" if (low > 0) == (better == "higher") else "does not hold"


def _ends(change: Change) -> str:
    if change.low is None or change.high is None:
        return f"; no interval: {change.note}"
    return f", {_number(change.low, '+')} to {_number(change.high, '+')}"


def _why(change: Change) -> str:
    return f" (no interval: {change.note})" if change.low is None else ""


def _between(measured: Measured, change: Change) -> str:
    few, many = (f"\N{GREEK SMALL LETTER RHO} = {measured.arms[arm].ratio:g}" for arm in (change.fewer, change.more))
    return f"between {few} ({change.fewer}) and {many} ({change.more})"


def _caveat(measured: Measured) -> str:
    """More than the ratio may differ."""
    rates = {facts.learning_rate for facts in measured.arms.values()}
    return " The arms differ in their learning rates, too." if len(rates) > 1 else ""


def _shown(interval: Interval) -> str:
    if interval.value is None:
        return "not known"
    if interval.low is None or interval.high is None:
        return f"{_number(interval.value)} (no interval: {interval.note})"
    return f"{_number(interval.value)} ({_number(interval.low)} to {_number(interval.high)})"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3g}".replace("-", "\N{MINUS SIGN}")
