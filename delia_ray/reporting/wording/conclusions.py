"""Verdicts of paired differences, and the sentences that state them on the run page, wins and losses alike.

A difference counts as better or worse only where its 95 % interval excludes 0 and its p value is at most 0.05.
"""

from collections.abc import Mapping
from dataclasses import replace

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.reporting.schema import BUILTIN_METRICS, ArmPair, MetricDifference, RunReport, Verdict
from delia_ray.reporting.wording.formatting import NBSP, format_gain, format_number, format_percent, format_signed
from delia_ray.reporting.wording.glossary import describe_constant, get_arm_name, get_metric, get_metric_name

KEY_METRICS = ("selectivity", "spill", "retention_kl", "format_acc", "label_acc")
"""Main metrics of the method, stated before the task's secondary metrics."""
_RATES_RAISED_BY_ALWAYS_WRITING = ("format_acc", "plug_play")
_SIGNIFICANT = 0.05


def decide_verdict(
    metric: str, difference: MetricDifference | None, leader: Interval | None = None, constant: float | None = None
) -> Verdict:
    """Decide the verdict of a paired difference for its left arm; ``higher`` or ``lower`` where the better direction is not known.

    Args:
        metric: its name.
        difference: left minus right.
        leader: the arm with the higher value, where ``constant`` is given.
        constant: score of the best constant answer. An arm that is not significantly above it is not better.
    """
    if difference is None or difference.difference is None:
        return "not measured"
    if difference.low is None or difference.high is None or difference.p is None:
        return "cannot be told"
    if is_significant(difference):
        direction = "higher" if difference.low > 0 else "lower"
        better = get_metric(metric).better
        if better is None:
            return direction
        if constant is None or (leader is not None and leader.low is not None and leader.low > constant):
            return "better" if direction == better else "worse"
        return "cannot be told"
    if (
        difference.margin is not None
        and difference.mde is not None
        and -difference.margin < difference.low
        and difference.high < difference.margin
    ):
        return "equivalent"
    return "cannot be told"


def is_significant(difference: MetricDifference) -> bool:
    """Return whether the interval excludes 0 and the p value is at most 0.05."""
    if difference.low is None or difference.high is None or difference.p is None:
        return False
    return not difference.low <= 0 <= difference.high and difference.p <= _SIGNIFICANT


def add_conclusions(report: RunReport) -> RunReport:
    """Return ``report`` with the verdict of every paired difference and the sentences of ``write_conclusions``."""
    paired = {
        f"{pair.left}-{pair.right}": {
            metric: replace(difference, verdict=_decide_pair_verdict(report, pair, metric))
            for metric, difference in pair.differences.items()
        }
        for pair in report.list_pairs()
    }
    report = report.model_copy(update={"paired": paired})
    return report.model_copy(update={"verdict": write_conclusions(report)})


def _decide_pair_verdict(report: RunReport, pair: ArmPair, metric: str) -> Verdict:
    difference = pair.differences[metric]
    leader = pair.left if (difference.difference or 0.0) > 0 else pair.right
    return decide_verdict(metric, difference, report.arms[leader].get(metric), report.constants.get(metric))


def write_conclusions(report: RunReport) -> list[str]:
    """Write the conclusions: a tally, the user's own and the key metrics, every other loss, the rest, and the constant answers.

    They are about the pair ``delia-sft``, or the first pair there is.
    """
    pairs = report.list_pairs()
    if not pairs:
        sentence = "No two arms were compared on the same prompts, so this run does not say whether DELIA helps."
        return [sentence, *_compare_with_constants(report)]
    pair = pairs[0]
    verdicts: dict[str, Verdict] = {
        metric: _decide_pair_verdict(report, pair, metric) if metric in pair.differences else "not measured"
        for metric in report.list_metrics()
    }
    key = [metric for metric in KEY_METRICS if metric in verdicts]
    own = [metric for metric in verdicts if metric not in BUILTIN_METRICS]
    lost = [metric for metric, verdict in verdicts.items() if verdict == "worse" and metric not in (*own, *key)]
    stated = [*own, *key, *lost]
    sentences = [_write_tally(pair, verdicts)]
    if pair.right == "base":
        sentences.append(
            "There is no plain-tuning arm to compare with: these numbers show what tuning changed, not what the diverse rows added."
        )
    sentences += [_write_comparison(report, pair, metric, verdicts[metric]) for metric in stated]
    sentences += _write_remaining({metric: verdict for metric, verdict in verdicts.items() if metric not in stated})
    return [*sentences, *_compare_with_constants(report)]


def _write_tally(pair: ArmPair, verdicts: Mapping[str, Verdict]) -> str:
    counts = list(verdicts.values())
    measured = len(counts) - counts.count("not measured")
    left, right = get_arm_name(pair.left), get_arm_name(pair.right)
    parts = [f"better on {counts.count('better')}", f"worse on {counts.count('worse')}"]
    if undirected := counts.count("higher") + counts.count("lower"):
        parts.append(f"different, with no known better direction, on {undirected}")
    parts.append(f"equivalent within the margin on {counts.count('equivalent')}")
    text = f"Of {measured} metrics compared with {right}, {left} is {', '.join(parts[:-1])} and {parts[-1]}; "
    text += f"on {counts.count('cannot be told')} it cannot be told."
    return text.replace("Of 1 metrics", "Of 1 metric")


def _write_comparison(report: RunReport, pair: ArmPair, metric: str, verdict: Verdict) -> str:
    left, right, info = get_arm_name(pair.left), get_arm_name(pair.right), get_metric(metric)
    name = get_metric_name(metric) + (", where lower is better" if info.better == "lower" else "")
    if verdict == "not measured":
        return f"There is no comparison on {get_metric_name(metric)}, which was not measured for both {left} and {right}."
    difference = pair.differences[metric]
    match verdict:
        case "better":
            claim = f"{left} is better than {right} on {name}"
        case "worse":
            claim = f"{left} is worse than {right} on {name}"
        case "higher" | "lower":
            claim = f"{left} is {verdict} than {right} on {name}"
        case "equivalent":
            claim = f"{left} and {right} are equivalent on {name}, within a margin of {format_number(difference.margin)}"
        case "cannot be told":
            claim = f"whether {left} or {right} is better on {name}{',' if info.better == 'lower' else ''} cannot be told"
    values = f"{format_number(report.get_value(pair.left, metric))} against {format_number(report.get_value(pair.right, metric))}"
    return f"{_capitalize(claim)}: {values} ({_format_numbers(metric, difference, verdict)}).{_write_caveat(report, pair, metric, verdict)}"


def _format_numbers(metric: str, difference: MetricDifference, verdict: Verdict) -> str:
    parts = [f"difference {format_signed(difference.difference)}"]
    if difference.low is None:
        return f"{parts[0]}; no interval: {difference.note}" if difference.note else parts[0]
    parts.append(f"95{NBSP}% interval {format_signed(difference.low)} to {format_signed(difference.high)}")
    if metric not in BUILTIN_METRICS and difference.gain_percent is not None:
        parts.append(f"gain {format_gain(difference.gain_percent)}")
    text = ", ".join(parts)
    if verdict == "cannot be told" and not is_significant(difference) and difference.mde is not None:
        text += f"; a true difference of {format_number(difference.mde)} would be detected with 80{NBSP}% power"
    return text


def _write_caveat(report: RunReport, pair: ArmPair, metric: str, verdict: Verdict) -> str:
    """Write a caveat where the leader also writes the format unasked, or is not significantly above the best constant answer."""
    difference = pair.differences[metric]
    leader = pair.left if (difference.difference or 0.0) > 0 else pair.right
    if verdict == "cannot be told" and is_significant(difference) and metric in report.constants:
        return (
            f" {_capitalize(get_arm_name(leader))} is ahead, but not significantly above {describe_constant(metric)} "
            f"({format_number(report.constants[metric])}), so this does not count as better."
        )
    if verdict not in ("better", "worse") or metric not in _RATES_RAISED_BY_ALWAYS_WRITING:
        return ""
    spill = report.get_value(leader, "spill")
    if spill is None or spill < 0.5:
        return ""
    return (
        f" But {get_arm_name(leader)} also writes the format on {format_percent(spill)} of everyday prompts, "
        "so its rate says little about the token."
    )


def _write_remaining(verdicts: Mapping[str, Verdict]) -> list[str]:
    """List the metrics that have no sentence of their own, grouped by verdict."""
    labels: dict[Verdict, str] = {
        "better": "Also better",
        "equivalent": "Also equivalent",
        "cannot be told": "Cannot be told either",
        "not measured": "Not measured",
    }
    groups = {label: [metric for metric, verdict in verdicts.items() if verdict == key] for key, label in labels.items()}
    parts = [f"{label}: {', '.join(map(get_metric_name, metrics))}." for label, metrics in groups.items() if metrics]
    return [" ".join(parts)] if parts else []


def _compare_with_constants(report: RunReport) -> list[str]:
    """Compare each tuned arm with the best constant answer of each metric."""
    sentences: list[str] = []
    for metric, constant in report.constants.items():
        groups: dict[str, list[str]] = {}
        for arm in report.list_arms():
            estimate = report.arms[arm].get(metric)
            if arm != "base" and estimate is not None and (relation := _compare_with_constant(estimate, constant)):
                groups.setdefault(relation, []).append(f"{get_arm_name(arm)} ({format_number(estimate.value)})")
        sentences += [
            f"On {get_metric_name(metric)}, {_join(arms)} {'is' if len(arms) == 1 else 'are'} {relation} "
            f"{describe_constant(metric)} ({format_number(constant)})."
            for relation, arms in groups.items()
        ]
    return sentences


def _compare_with_constant(estimate: Interval, constant: float) -> str | None:
    if estimate.low is None or estimate.high is None:
        return None
    if estimate.low > constant:
        return "above"
    return "below" if estimate.high < constant else "not distinguishable from"


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
