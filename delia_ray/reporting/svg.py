"""A matplotlib figure as SVG that takes its colours and its font from the page around it.

Drawn in stand-in colours, which become CSS variables (``currentColor`` for text and axes), so that one drawing reads on a
light and on a dark page.
"""

import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import Any

from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]  its stub takes a bare PathLike
from matplotlib.figure import Figure

INK = "#010203"
"""Stand-in for ``currentColor``."""
ARM_COLOURS = tuple(f"#0102{tone:02x}" for tone in range(16, 22))
"""Stand-ins for the stylesheet's ``--arm-0`` .. ``--arm-5``."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.size": 12.0,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def styled() -> AbstractContextManager[None]:
    """Everything must be drawn inside: matplotlib reads its style when a text or a line is made."""
    return rc_context(_STYLE)


def canvas(width: float, height: float) -> Figure:
    """An empty figure; width and height in points, which are the units of the SVG's view box."""
    return Figure(figsize=(width / 72, height / 72))


def inline(figure: Figure, name: str, description: str) -> str:
    """``figure`` as an ``<svg>`` element that scales with its container.

    ``name`` is unique on the page and keeps the element's ids apart from other figures'; ``description`` is the text for who
    cannot see it.
    """
    drawn = io.StringIO()
    with styled():
        figure.savefig(drawn, format="svg", transparent=True, metadata=_NO_METADATA)  # pyright: ignore[reportUnknownMemberType]
    body = drawn.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r' xmlns(:xlink)?="[^"]*"', "", body).replace("xlink:href=", "href=")
    body = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for stand_in, variable in ((INK, "currentColor"), *((colour, f"var(--arm-{i})") for i, colour in enumerate(ARM_COLOURS))):
        body = re.sub(rf"(fill|stroke): {stand_in}", rf"\1: {variable}", body)
    view_box = re.search(r'viewBox="[^"]*"', body)
    assert view_box is not None
    opening = f'<svg {view_box.group()} role="img" aria-label="{escape(description)}">'
    return opening + body[body.index(">") + 1 :].strip()
