"""Number formats shared by sentences, tables and charts."""

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
_ROUNDING = 1e-12
"""Floating-point error of a sum that is exactly 0; smaller values are printed as 0."""


def format_number(value: float | None) -> str:
    """Format with three decimals, or with two significant digits where three decimals would round the value to 0."""
    if value is None:
        return "not measured"
    if abs(value) < _ROUNDING:
        value = 0.0
    text = f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"
    return text.replace("-", MINUS)


def format_signed(value: float | None) -> str:
    """Format as ``format_number`` does, with a plus sign above 0."""
    return f"+{format_number(value)}" if value is not None and value >= _ROUNDING else format_number(value)


def format_percent(share: float | None) -> str:
    """Format a share as whole percent, or with one decimal where rounding would make it 0 or 100."""
    if share is None:
        return "not measured"
    rounded = f"{100 * share:.0f}"
    if rounded in ("0", "-0", "100") and share not in (0, 1):
        rounded = f"{100 * share:.1f}"
    return f"{rounded}{NBSP}%".replace("-", MINUS)


def format_gain(value: float | None) -> str:
    """Format a relative change that is already in percent: signed, one decimal."""
    if value is None:
        return "not known"
    return f"{value:+.1f}{NBSP}%".replace("-", MINUS)


def format_p_value(p: float | None) -> str:
    """Format as ``p = 0.012``, or as ``p < 0.001`` below that."""
    if p is None:
        return "p not known"
    return f"p{NBSP}<{NBSP}0.001" if p < 0.001 else f"p{NBSP}={NBSP}{p:.3f}"


def format_duration(seconds: float) -> str:
    """Format as ``4.2 s``, ``42 s`` or ``3 min 05 s``."""
    if seconds < 10:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{NBSP}min {rest:02d}{NBSP}s" if minutes else f"{rest}{NBSP}s"


def format_count(value: object) -> str:
    """Format a number with a space between thousands and at most one decimal; other values as text."""
    if not isinstance(value, int | float):
        return str(value)
    return (f"{value:,}" if isinstance(value, int) else f"{value:,.1f}").replace(",", "\N{NARROW NO-BREAK SPACE}")
