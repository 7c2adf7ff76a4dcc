"""What drawing rows took, as numbers for the manifest and as a line for the terminal."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from delia_ray.placement import Price

_HOUR = 3600
_MILLION = 1_000_000


@dataclass(frozen=True)
class Spent:
    """What drawing used. Engines that run elsewhere use nothing here."""

    seconds: float
    """Wall time, the engines' start included."""
    cpu_seconds: float = 0.0
    """User and system time of the engines' processes."""
    held_seconds: float = 0.0
    """Wall time of every engine, added up."""


@dataclass(frozen=True)
class Effort:
    """What was done in one attempt. What was drawn before cost nothing now."""

    drawn: int = 0
    """Rows drawn now, those that the engine failed on among them."""
    reused: int = 0
    """Rows drawn before."""
    seconds: float = 0.0
    """Wall time of drawing, the engines' start included."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    """Tokens of the rows drawn now."""
    cpu_seconds: float = 0.0
    """User and system time of the engines' processes."""
    gpu_seconds: float = 0.0
    """GPUs times the seconds they were held."""

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))

    def counts(self, price: Price | None) -> dict[str, int | float]:
        """The manifest's numbers; ``cost`` only where there is a price."""
        counts: dict[str, int | float] = {
            "drawn": self.drawn,
            "reused": self.reused,
            "seconds": round(self.seconds, 3),
            "drawn_prompt_tokens": self.prompt_tokens,
            "drawn_answer_tokens": self.answer_tokens,
            "tokens_per_second": round(self.answer_tokens / self.seconds, 1) if self.drawn and self.seconds else 0.0,
            "cpu_seconds": round(self.cpu_seconds, 1),
            "gpu_seconds": round(self.gpu_seconds, 1),
        }
        return counts if price is None else {**counts, "cost": round(self.cost(price), 6)}

    def cost(self, price: Price) -> float:
        """In the currency of ``price``."""
        hours = price.hour * self.seconds + price.cpu_hour * self.cpu_seconds + price.gpu_hour * self.gpu_seconds
        tokens = price.prompt_mtok * self.prompt_tokens + price.answer_mtok * self.answer_tokens
        return hours / _HOUR + tokens / _MILLION


def summary(counts: Mapping[str, int | float], unit: str) -> str:
    """One line of a stage's counts: rows kept, tokens drawn now and how fast, and what that took."""
    parts = [f"{counts['rows']:,} {unit}"]
    if not counts["drawn"]:
        return " · ".join([*parts, "all drawn before"])
    if counts["reused"]:
        parts.append(f"{counts['drawn']:,} of {counts['drawn'] + counts['reused']:,} drawn now")
    parts.append(f"{_short(counts['drawn_answer_tokens'])} tokens")
    parts.append(f"{counts['tokens_per_second']:,.0f} tok/s")
    parts += [_time(counts[f"{name}_seconds"], name.upper()) for name in ("cpu", "gpu") if counts[f"{name}_seconds"]]
    if "cost" in counts:
        parts.append(f"cost {counts['cost']:.2g}")
    return " · ".join(parts)


def _short(count: float) -> str:
    return f"{count:,.0f}" if count < 10_000 else f"{count / 1000:,.0f}k" if count < 10 * _MILLION else f"{count / _MILLION:,.0f}M"


def _time(seconds: float, what: str) -> str:
    return f"{seconds:.0f} {what}-s" if seconds < 0.1 * _HOUR else f"{seconds / _HOUR:.2f} {what}-h"
