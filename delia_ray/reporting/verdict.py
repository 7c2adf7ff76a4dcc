"""The outcome in plain sentences, in whichever direction it went.

A difference counts only when the 95 % interval of the paired difference is clear of 0 and its test agrees.
"""

from collections.abc import Mapping

from delia_ray.reporting.glossary import arm_name, constant_name, metric_name, metric_words
from delia_ray.reporting.numerals import NBSP, gain, number, percent, signed
from delia_ray.reporting.schema import BUILTIN_METRICS, Difference, Estimate, Pair, Report, Verdict

KEY_METRICS = ("selectivity", "spill", "retention_kl", "format_acc", "label_acc")
"""What the method is judged by, before the task's secondary metrics."""
_RATES_THAT_ALWAYS_WRITING_RAISES = ("format_acc", "plug_play")
_SIGNIFICANT = 0.05


def outcome(metric: str, difference: Difference | None, winner: Estimate | None = None, floor: float | None = None) -> Verdict:
    """What a paired difference says of its left arm; ``higher`` or ``lower`` where nobody knows which is good.

    Args:
        metric: its name.
        difference: left minus right.
        winner: the arm with the higher value, where ``floor`` is given.
        floor: what the best constant answer scores. An arm that is not above it beyond chance has won nothing.
    """
    if difference is None or difference.difference is None:
        return "not measured"
    if difference.low is None or difference.high is None or difference.p is None:
        return "cannot be told"
    if is_clear(difference):
        moved = "higher" if difference.low > 0 else "lower"
        wanted = metric_words(metric).better
        if wanted is None:
            return moved
        if floor is None or (winner is not None and winner.low is not None and winner.low > floor):
            return "better" if moved == wanted else "worse"
        return "cannot be told"
    if (
        difference.margin is not None
        and difference.mde is not None
        and -difference.margin < difference.low
        and difference.high < difference.margin
    ):
        return "equivalent"
    return "cannot be told"


def is_clear(difference: Difference) -> bool:
    """Whether the interval is clear of 0 and the test says so, too."""
    if difference.low is None or difference.high is None or difference.p is None:
        return False
    return not difference.low <= 0 <= difference.high and difference.p <= _SIGNIFICANT


def judged(report: Report) -> Report:
    """``report`` with the verdict of every paired difference, and the sentences."""
    paired = {
        f"{pair.left}-{pair.right}": {
            metric: difference.model_copy(update={"verdict": _pair_outcome(report, pair, metric)})
            for metric, difference in pair.differences.items()
        }
        for pair in report.pairs()
    }
    filled = report.model_copy(update={"paired": paired})
    return filled.model_copy(update={"verdict": verdict(filled)})


def _pair_outcome(report: Report, pair: Pair, metric: str) -> Verdict:
    difference = pair.differences[metric]
    ahead = pair.left if (difference.difference or 0.0) > 0 else pair.right
    return outcome(metric, difference, report.arms[ahead].get(metric), report.constants.get(metric))


def verdict(report: Report) -> list[str]:
    """The outcome of ``report``: a tally first, then the key metrics, every other loss, and what stands at a constant answer.

    Speaks of the pair ``delia-it``, or of the first pair there is.
    """
    pairs = report.pairs()
    if not pairs:
        return ["No two arms were compared on the same prompts, so this run does not say whether DELIA helps.", *_constants(report)]
    pair = pairs[0]
    outcomes: dict[str, Verdict] = {
        metric: _pair_outcome(report, pair, metric) if metric in pair.differences else "not measured" for metric in report.metric_names()
    }
    key = [metric for metric in KEY_METRICS if metric in outcomes]
    own = [metric for metric in outcomes if metric not in BUILTIN_METRICS]
    lost = [metric for metric, found in outcomes.items() if found == "worse" and metric not in (*own, *key)]
    told = [*own, *key, *lost]
    sentences = [_tally(pair, outcomes)]
    if pair.right == "base":
        sentences.append("There is no plainly tuned arm to compare with: this says what tuning changed, not what the diverse rows added.")
    sentences += [_sentence(report, pair, metric, outcomes[metric]) for metric in told]
    sentences += _rest({metric: found for metric, found in outcomes.items() if metric not in told})
    return [*sentences, *_constants(report)]


def _tally(pair: Pair, outcomes: Mapping[str, Verdict]) -> str:
    found = list(outcomes.values())
    measured = len(found) - found.count("not measured")
    left, right = arm_name(pair.left), arm_name(pair.right)
    parts = [f"better on {found.count('better')}", f"worse on {found.count('worse')}"]
    if unclear := found.count("higher") + found.count("lower"):
        parts.append(f"different, for good or bad, on {unclear}")
    parts.append(f"equivalent within the margin on {found.count('equivalent')}")
    text = f"Of {measured} metrics compared with {right}, {left} is {', '.join(parts[:-1])} and {parts[-1]}; "
    text += f"on {found.count('cannot be told')} it cannot be told."
    return text.replace("Of 1 metrics", "Of 1 metric")


def _sentence(report: Report, pair: Pair, metric: str, found: Verdict) -> str:
    left, right, words = arm_name(pair.left), arm_name(pair.right), metric_words(metric)
    named = metric_name(metric) + (", where lower is better" if words.better == "lower" else "")
    if found == "not measured":
        return f"{_capital(metric_name(metric))} was not measured for both {left} and {right}."
    difference = pair.differences[metric]
    match found:
        case "better":
            claim = f"{left} is better than {right} on {named}"
        case "worse":
            claim = f"{left} is worse than {right} on {named}"
        case "higher" | "lower":
            claim = f"{left} is {found} than {right} on {named}"
        case "equivalent":
            claim = f"{left} and {right} are equivalent on {named}, within a margin of {number(difference.margin)}"
        case "cannot be told":
            claim = f"whether {left} or {right} is better on {named}{',' if words.better == 'lower' else ''} cannot be told"
    values = f"{number(report.value(pair.left, metric))} against {number(report.value(pair.right, metric))}"
    return f"{_capital(claim)}: {values} ({_numbers(metric, difference, found)}).{_caveat(report, pair, metric, found)}"


def _numbers(metric: str, difference: Difference, found: Verdict) -> str:
    parts = [f"difference {signed(difference.difference)}"]
    if difference.low is None:
        return f"{parts[0]}; no interval: {difference.note}" if difference.note else parts[0]
    parts.append(f"95{NBSP}% interval {signed(difference.low)} to {signed(difference.high)}")
    if metric not in BUILTIN_METRICS and difference.gain_percent is not None:
        parts.append(f"gain {gain(difference.gain_percent)}")
    text = ", ".join(parts)
    if found == "cannot be told" and not is_clear(difference) and difference.mde is not None:
        text += f"; a true difference of {number(difference.mde)} would be found four times out of five"
    return text


def _caveat(report: Report, pair: Pair, metric: str, found: Verdict) -> str:
    """A high rate means little in an arm that writes the format unasked, and a lead little where a constant answer does as well."""
    difference = pair.differences[metric]
    ahead = pair.left if (difference.difference or 0.0) > 0 else pair.right
    if found == "cannot be told" and is_clear(difference) and metric in report.constants:
        return (
            f" {_capital(arm_name(ahead))} is ahead, but not above {constant_name(metric)} beyond chance, "
            f"which scores {number(report.constants[metric])}: that is no win."
        )
    if found not in ("better", "worse") or metric not in _RATES_THAT_ALWAYS_WRITING_RAISES:
        return ""
    stray = report.value(ahead, "spill")
    if stray is None or stray < 0.5:
        return ""
    return f" But {arm_name(ahead)} also writes the format on {percent(stray)} of everyday prompts, so its rate says little of the token."


def _rest(outcomes: Mapping[str, Verdict]) -> list[str]:
    """The metrics that got no sentence of their own, gathered by outcome."""
    words: dict[Verdict, str] = {
        "better": "Also better",
        "equivalent": "Also equivalent",
        "cannot be told": "It cannot be told either on",
        "not measured": "Not measured",
    }
    groups = {said: [metric for metric, its in outcomes.items() if its == found] for found, said in words.items()}
    parts = [
        f"{said}{'' if said.endswith(' on') else ':'} {', '.join(map(metric_name, metrics))}."
        for said, metrics in groups.items()
        if metrics
    ]
    return [" ".join(parts)] if parts else []


def _constants(report: Report) -> list[str]:
    """How each tuned arm stands to always giving the same answer."""
    sentences: list[str] = []
    for metric, floor in report.constants.items():
        groups: dict[str, list[str]] = {}
        for arm in report.arm_names():
            estimate = report.arms[arm].get(metric)
            if arm != "base" and estimate is not None and (standing := _standing(estimate, floor)):
                groups.setdefault(standing, []).append(f"{arm_name(arm)} ({number(estimate.value)})")
        sentences += [
            f"On {metric_name(metric)}, {' and '.join(arms)} {'is' if len(arms) == 1 else 'are'} {standing} "
            f"{constant_name(metric)} ({number(floor)})."
            for standing, arms in groups.items()
        ]
    return sentences


def _standing(estimate: Estimate, floor: float) -> str | None:
    if estimate.low is None or estimate.high is None:
        return None
    if estimate.low > floor:
        return "above"
    return "below" if estimate.high < floor else "not to be told from"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
