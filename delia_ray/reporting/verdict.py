"""The outcome in plain sentences, in whichever direction it went.

A difference counts only when the 95 % interval of the paired difference is clear of 0.
"""

from typing import Literal

from delia_ray.reporting.glossary import arm_name, metric_name, metric_words
from delia_ray.reporting.numerals import gain, number, percent, signed
from delia_ray.reporting.schema import BUILTIN_METRICS, Difference, Estimate, Pair, Report

KEY_METRICS = ("selectivity", "spill", "retention_kl", "format_acc", "label_acc")
"""What the method is judged by, before the task's secondary metrics."""
_RATES_THAT_ALWAYS_WRITING_RAISES = ("format_acc", "plug_play")

Outcome = Literal["better", "worse", "higher", "lower", "not told apart", "not measured"]


def outcome(metric: str, difference: Difference | None) -> Outcome:
    """What a paired difference says of its left arm; ``higher`` or ``lower`` where nobody knows which is good."""
    if difference is None or difference.low is None or difference.high is None:
        return "not measured"
    if difference.low <= 0 <= difference.high:
        return "not told apart"
    moved = "higher" if difference.low > 0 else "lower"
    wanted = metric_words(metric).better
    if wanted is None:
        return moved
    return "better" if moved == wanted else "worse"


def verdict(report: Report) -> list[str]:
    """The outcome of ``report``: a tally first, then the key metrics, every other loss, and what stands at chance.

    Speaks of the pair ``delia-it``, or of the first pair there is.
    """
    pairs = report.pairs()
    if not pairs:
        return ["No two arms were compared on the same prompts, so this run does not say whether DELIA helps.", *_baselines(report)]
    pair = pairs[0]
    outcomes: dict[str, Outcome] = {metric: outcome(metric, pair.differences.get(metric)) for metric in report.metric_names()}
    key = [metric for metric in KEY_METRICS if metric in outcomes]
    own = [metric for metric in outcomes if metric not in BUILTIN_METRICS]
    lost = [metric for metric, found in outcomes.items() if found == "worse" and metric not in (*own, *key)]
    told = [*own, *key, *lost]
    sentences = [_tally(pair, outcomes)]
    if pair.right == "base":
        sentences.append("There is no plainly tuned arm to compare with: this says what tuning changed, not what the diverse rows added.")
    sentences += [_sentence(report, pair, metric, outcomes[metric]) for metric in told]
    sentences += _rest({metric: found for metric, found in outcomes.items() if metric not in told})
    return [*sentences, *_baselines(report)]


def _tally(pair: Pair, outcomes: dict[str, Outcome]) -> str:
    found = list(outcomes.values())
    measured = len(found) - found.count("not measured")
    left, right = arm_name(pair.left), arm_name(pair.right)
    parts = [f"better on {found.count('better')}", f"worse on {found.count('worse')}"]
    if unclear := found.count("higher") + found.count("lower"):
        parts.append(f"different, for good or bad, on {unclear}")
    parts.append(f"not to be told apart on {found.count('not told apart')}")
    text = f"Of {measured} metrics compared with {right}, {left} is {', '.join(parts[:-1])} and {parts[-1]}."
    return text.replace("Of 1 metrics", "Of 1 metric")


def _sentence(report: Report, pair: Pair, metric: str, found: Outcome) -> str:
    left, right, words = arm_name(pair.left), arm_name(pair.right), metric_words(metric)
    named = metric_name(metric) + (", where lower is better" if words.better == "lower" else "")
    match found:
        case "not measured":
            return f"{_capital(metric_name(metric))} was not measured for both {left} and {right}."
        case "better":
            claim = f"{left} beats {right} on {named}"
        case "worse":
            claim = f"{left} loses to {right} on {named}"
        case "higher" | "lower":
            claim = f"{left} is {found} than {right} on {named}"
        case "not told apart":
            claim = f"{left} and {right} cannot be told apart on {named}"
    difference = pair.differences[metric]
    values = f"{number(report.value(pair.left, metric))} against {number(report.value(pair.right, metric))}"
    interval = f"difference {signed(difference.difference)}, 95 % interval {signed(difference.low)} to {signed(difference.high)}"
    if metric not in BUILTIN_METRICS and difference.gain_percent is not None:
        interval += f", gain {gain(difference.gain_percent)}"
    return f"{_capital(claim)}: {values} ({interval}).{_caveat(report, pair, metric, found)}"


def _caveat(report: Report, pair: Pair, metric: str, found: Outcome) -> str:
    """A high rate means little in an arm that writes the format unasked."""
    ahead = {"better": pair.left, "worse": pair.right}.get(found)
    if ahead is None or metric not in _RATES_THAT_ALWAYS_WRITING_RAISES:
        return ""
    stray = report.value(ahead, "spill")
    if stray is None or stray < 0.5:
        return ""
    return f" But {arm_name(ahead)} also writes the format on {percent(stray)} of everyday prompts, so its rate says little of the token."


def _rest(outcomes: dict[str, Outcome]) -> list[str]:
    """The metrics that got no sentence of their own, gathered by outcome."""
    words = {"better": "Also better", "not told apart": "Also not to be told apart", "not measured": "Not measured"}
    groups = {found: [metric for metric, its in outcomes.items() if its == found] for found in words}
    parts = [f"{words[found]}: {', '.join(map(metric_name, metrics))}." for found, metrics in groups.items() if metrics]
    return [" ".join(parts)] if parts else []


def _baselines(report: Report) -> list[str]:
    """How each tuned arm stands to always giving the commoner label."""
    sentences: list[str] = []
    for metric, floor in report.majority.items():
        if metric in BUILTIN_METRICS and metric not in KEY_METRICS:
            continue
        groups: dict[str, list[str]] = {}
        for arm in report.arm_names():
            estimate = report.arms[arm].get(metric)
            if arm != "base" and estimate is not None and (standing := _standing(estimate, floor)):
                groups.setdefault(standing, []).append(f"{arm_name(arm)} ({number(estimate.value)})")
        sentences += [
            f"On {metric_name(metric)}, {' and '.join(arms)} {'is' if len(arms) == 1 else 'are'} {standing} "
            f"always giving the commoner label ({number(floor)})."
            for standing, arms in groups.items()
        ]
    return sentences


def _standing(estimate: Estimate, floor: float) -> str | None:
    if estimate.low is None or estimate.high is None:
        return None
    if estimate.low > floor:
        return "better than"
    return "worse than" if estimate.high < floor else "at the majority baseline: not to be told from"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
