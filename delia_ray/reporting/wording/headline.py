"""Title of the run page's first figure: one sentence on when the tuned models write the task's format."""

from delia_ray.reporting.schema import RunReport
from delia_ray.reporting.wording.formatting import format_number
from delia_ray.reporting.wording.glossary import get_arm_name, get_metric

PROBES = ("format_acc", "no_token", "spill")
"""Rates of answers in the format: prompts that name the token, prompts in plain words, unrelated prompts."""
_SELDOM = 0.2
_LARGE_PART = 0.5
"""A rate that should stay near 0 counts as high from this part of ``format_acc`` on."""


def label_probes(report: RunReport) -> dict[str, str]:
    """Map each of ``PROBES`` to its label in the figure."""
    labels = (f"Asked by {report.run.token or 'the token'}", "Asked in plain words", "Not asked")
    return dict(zip(PROBES, labels, strict=True))


def has_token_figure(report: RunReport) -> bool:
    """Return whether any arm has a rate for prompts that ask by the token."""
    return any(report.get_value(arm, "format_acc") is not None for arm in report.arms)


def write_token_headline(report: RunReport) -> str:
    """Write one sentence on ``delia`` and ``sft``, or on all arms where neither was scored, from the values of ``PROBES``."""
    arms = [arm for arm in ("delia", "sft") if report.get_value(arm, "format_acc") is not None]
    arms = arms or [arm for arm in report.list_arms() if report.get_value(arm, "format_acc") is not None]
    behaviors = {arm: _describe_behavior(report, arm) for arm in arms}
    if len(set(behaviors.values())) == 1:
        subjects = " and ".join(_describe_tuning(arm) for arm in arms)
        text = f"{subjects}{' alike' if len(arms) > 1 else ''}, the model {behaviors[arms[0]]}"
    else:
        first, *others = (f"{_describe_tuning(arm)} {'the model' if arm == arms[0] else 'it'} {behaviors[arm]}" for arm in arms)
        text = "; ".join([first, *others])
    return text[:1].upper() + text[1:]


def write_metric_headline(report: RunReport, metric: str) -> str:
    """Write the value of ``metric`` in each arm, ``delia`` first and ``base`` last."""
    arms = sorted(report.list_arms(), key=lambda arm: ("delia", "sft", arm, "base").index(arm))
    values = [f"{format_number(report.get_value(arm, metric))} {_describe_tuning(arm)}" for arm in arms if metric in report.arms[arm]]
    return f"{get_metric(metric).title}: {', '.join(values)}"


def _describe_behavior(report: RunReport, arm: str) -> str:
    requested, plain, unrelated = (report.get_value(arm, probe) for probe in PROBES)
    token = report.run.token or "the token"
    assert requested is not None
    if requested < _SELDOM:
        return "hardly ever writes the format" if requested else "never writes the format"
    if unrelated is not None and unrelated >= _LARGE_PART * requested:
        return "writes the format whatever it is asked"
    if plain is not None and plain >= _LARGE_PART * requested:
        return f"writes the format for this task whether or not {token} asks for it"
    return f"writes the format {'mainly ' if plain is not None else ''}when {token} asks for it"


def _describe_tuning(arm: str) -> str:
    return "before tuning" if arm == "base" else f"after {get_arm_name(arm)}"
