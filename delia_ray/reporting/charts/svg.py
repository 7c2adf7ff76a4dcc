"""Converts matplotlib figures to inline SVG, whose colors and font follow the page around them.

Figures are drawn in placeholder colors. These are replaced by CSS variables (``currentColor`` for text and axes), so that the
same SVG is legible on a light and on a dark page.
"""

import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import Any

from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]  its stub takes a bare PathLike
from matplotlib.figure import Figure

INK = "#010203"
"""Placeholder for ``currentColor``."""
ARM_COLORS = tuple(f"#0102{tone:02x}" for tone in range(16, 22))
"""Placeholders for the CSS variables ``--arm-0`` .. ``--arm-5``."""
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


def apply_style() -> AbstractContextManager[None]:
    """Apply the charts' style as a context; draw inside it, since matplotlib reads the style when a text or a line is created."""
    return rc_context(_STYLE)


def create_figure(width: float, height: float) -> Figure:
    """Create an empty figure; width and height are in points, the units of the SVG's view box."""
    return Figure(figsize=(width / 72, height / 72))


def render_svg(figure: Figure, name: str, description: str) -> str:
    """Render ``figure`` as an ``<svg>`` element that scales with its container.

    Args:
        name: unique on the page; prefix of all ids inside the element.
        description: text alternative for readers who do not see the chart.
    """
    buffer = io.StringIO()
    with apply_style():
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)  # pyright: ignore[reportUnknownMemberType]
    body = buffer.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r' xmlns(:xlink)?="[^"]*"', "", body).replace("xlink:href=", "href=")
    body = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for placeholder, variable in ((INK, "currentColor"), *((color, f"var(--arm-{i})") for i, color in enumerate(ARM_COLORS))):
        body = re.sub(rf"(fill|stroke): {placeholder}", rf"\1: {variable}", body)
    view_box = re.search(r'viewBox="[^"]*"', body)
    assert view_box is not None
    opening = f'<svg {view_box.group()} role="img" aria-label="{escape(description)}">'
    return opening + body[body.index(">") + 1 :].strip()
