"""Whether each prediction held, in one plain sentence."""

from collections.abc import Callable, Mapping, Sequence

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.findings import Change, Measured, Outcome, Prediction

SCORES_OF_P5 = ("format_acc", "label_acc", "plug_play", "no_token", "selectivity")
"""Of the built-in task, the scores that P5 is about: on unseen wordings, on other kinds of task, and without the token."""
_METRIC_OF_P5 = "format_acc"


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
    outcome = _sided(difference)
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
    assert last.cosine.low is not None and last.cosine.high is not None
    outcome: Outcome = "cannot be told"
    if last.cosine.high < 0 and _sided(change, better="lower") == "holds":
        outcome = "holds"
    elif last.cosine.low > 0 or _sided(change, better="lower") == "does not hold":
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
    words = [_sided(Interval(each.difference, each.low, each.high, 0)) for each in changes]
    moves = {"holds": "rises", "does not hold": "falls", "cannot be told": "cannot be told apart"}
    told = "; ".join(f"{moves[word]} {_between(measured, each)}" for word, each in zip(words, changes, strict=True))
    rose = "holds" in words
    fell_first = "does not hold" in words and (not rose or words.index("does not hold") < words.index("holds"))
    outcome: Outcome = "does not hold" if fell_first else "holds" if rose else "cannot be told"
    return Prediction(outcome=outcome, sentence=f"{metric} {told}.{_caveat(measured)}")


def _falls(measured: Measured, subject: str, changes: Sequence[Change], value: Callable[[str], Interval]) -> Prediction:
    """Held where every step to more diverse rows that can be told lowers ``value``, and one can."""
    if not changes:
        return Prediction(outcome="not measured", sentence="Not measured: it needs arms with different ratios.")
    words = [_sided(Interval(each.difference, each.low, each.high, 0), better="lower") for each in changes]
    outcome: Outcome = "does not hold" if "does not hold" in words else "holds" if "holds" in words else "cannot be told"
    moves = {"holds": "falls", "does not hold": "rises", "cannot be told": "cannot be told apart"}
    told = "; ".join(
        f"{moves[word]} {_between(measured, each)}, from {_shown(value(each.fewer))} to {_shown(value(each.more))} "
        f"(difference {_number(each.difference, '+')}, {_number(each.low, '+')} to {_number(each.high, '+')})"
        for word, each in zip(words, changes, strict=True)
    )
    return Prediction(outcome=outcome, sentence=f"{subject} {told}.{_caveat(measured)}")


def _sided(difference: Interval, better: str = "higher") -> Outcome:
    assert difference.low is not None and difference.high is not None
    if difference.low <= 0 <= difference.high:
        return "cannot be told"
    return "holds" if (difference.low > 0) == (better == "higher") else "does not hold"


def _between(measured: Measured, change: Change) -> str:
    few, many = (f"\N{GREEK SMALL LETTER RHO} = {measured.arms[arm].ratio:g}" for arm in (change.fewer, change.more))
    return f"between {few} ({change.fewer}) and {many} ({change.more})"


def _caveat(measured: Measured) -> str:
    """More than the ratio may differ."""
    rates = {facts.learning_rate for facts in measured.arms.values()}
    return " The arms differ in their learning rates, too." if len(rates) > 1 else ""


def _shown(interval: Interval) -> str:
    assert interval.value is not None and interval.low is not None and interval.high is not None
    return f"{_number(interval.value)} ({_number(interval.low)} to {_number(interval.high)})"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3g}".replace("-", "\N{MINUS SIGN}")
