"""The first figure's title: what the tuned models have learnt to write, and when."""

from delia_ray.reporting.glossary import arm_name, metric_words
from delia_ray.reporting.numerals import number
from delia_ray.reporting.schema import Report

PROBES = ("format_acc", "no_token", "spill")
"""The token asks, plain words ask, nobody asks."""
_SELDOM = 0.2
_LARGE_PART = 0.5
"""A probe that should stay near 0 but reaches this part of the requested rate."""


def probe_labels(report: Report) -> dict[str, str]:
    """``PROBES`` as the figure names them."""
    return dict(zip(PROBES, (f"When {report.run.token or 'the token'} asks", "When plain words ask", "When nobody asks"), strict=True))


def has_token_figure(report: Report) -> bool:
    """Whether any arm was asked for the format by the token."""
    return any(report.value(arm, "format_acc") is not None for arm in report.arms)


def token_finding(report: Report) -> str:
    """One sentence on ``delia`` and ``it`` (or on the arms there are), from the values of ``PROBES``."""
    arms = [arm for arm in ("delia", "it") if report.value(arm, "format_acc") is not None]
    arms = arms or [arm for arm in report.arm_names() if report.value(arm, "format_acc") is not None]
    behaviours = {arm: _behaviour(report, arm) for arm in arms}
    if len(set(behaviours.values())) == 1:
        subjects = " and ".join(_after(arm) for arm in arms)
        text = f"{subjects}{' alike' if len(arms) > 1 else ''}, the model {behaviours[arms[0]]}"
    else:
        first, *others = (f"{_after(arm)} {'the model' if arm == arms[0] else 'it'} {behaviours[arm]}" for arm in arms)
        text = "; ".join([first, *others])
    return text[:1].upper() + text[1:]


def metric_finding(report: Report, metric: str) -> str:
    """``metric`` in each arm, ``delia`` first and ``base`` last."""
    arms = sorted(report.arm_names(), key=lambda arm: ("delia", "it", arm, "base").index(arm))
    values = [f"{number(report.value(arm, metric))} {_after(arm)}" for arm in arms if metric in report.arms[arm]]
    return f"{metric_words(metric).title}: {', '.join(values)}"


def _behaviour(report: Report, arm: str) -> str:
    asked, plain, stray = (report.value(arm, probe) for probe in PROBES)
    token = report.run.token or "the token"
    assert asked is not None
    if asked < _SELDOM:
        return "hardly ever writes the format" if asked else "never writes the format"
    if stray is not None and stray >= _LARGE_PART * asked:
        return "writes the format whatever it is asked"
    if plain is not None and plain >= _LARGE_PART * asked:
        return f"writes the format for this task whether or not {token} asks for it"
    return f"writes the format {'mainly ' if plain is not None else ''}when {token} asks for it"


def _after(arm: str) -> str:
    return "before tuning" if arm == "base" else f"after {arm_name(arm)}"
