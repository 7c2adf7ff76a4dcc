"""How numbers are printed, in sentences, tables and figures alike."""

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
_ROUNDING = 1e-12
"""What two equal sums may differ by for the order of their terms."""


def number(value: float | None) -> str:
    """Three decimals; two significant digits where three decimals would hide the value."""
    if value is None:
        return "not measured"
    if abs(value) < _ROUNDING:
        value = 0.0
    text = f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"
    return text.replace("-", MINUS)


def signed(value: float | None) -> str:
    """``number`` with a sign on either side of 0."""
    return f"+{number(value)}" if value is not None and value >= _ROUNDING else number(value)


def percent(share: float | None) -> str:
    """A share as whole percent, or to one decimal where rounding would make it 0 or 100."""
    if share is None:
        return "not measured"
    rounded = f"{100 * share:.0f}"
    if rounded in ("0", "-0", "100") and share not in (0, 1):
        rounded = f"{100 * share:.1f}"
    return f"{rounded}{NBSP}%".replace("-", MINUS)


def gain(value: float | None) -> str:
    """A relative change that is already in percent: one decimal, signed."""
    if value is None:
        return "not known"
    return f"{value:+.1f}{NBSP}%".replace("-", MINUS)


def p_value(p: float | None) -> str:
    """``p = 0.012``; below a thousandth only that it is."""
    if p is None:
        return "p not known"
    return f"p{NBSP}<{NBSP}0.001" if p < 0.001 else f"p{NBSP}={NBSP}{p:.3f}"


def duration(seconds: float) -> str:
    """``42 s`` or ``3 min 05 s``."""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{NBSP}min {rest:02d}{NBSP}s" if minutes else f"{rest}{NBSP}s"


def count(value: object) -> str:
    """Thousands apart, and no more than one decimal; text as it is."""
    if not isinstance(value, int | float):
        return str(value)
    return (f"{value:,}" if isinstance(value, int) else f"{value:,.1f}").replace(",", "\N{NARROW NO-BREAK SPACE}")
