"""Jinja environment of all pages: templates, filters, and the panels that charts are shown in."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from delia_ray.reporting.wording import formatting, glossary

_FILTERS: dict[str, Callable[..., Any]] = {
    "exact": json.dumps,
    "number": formatting.format_number,
    "signed": formatting.format_signed,
    "gain": formatting.format_gain,
    "p_value": formatting.format_p_value,
    "duration": formatting.format_duration,
    "count": formatting.format_count,
    "arm_title": glossary.get_arm_title,
    "arm_description": glossary.describe_arm,
    "constant_description": glossary.describe_constant,
    "metric_info": glossary.get_metric,
    "metric_description": glossary.describe_metric,
    "prompt_set_title": glossary.get_prompt_set_title,
}


@dataclass(frozen=True)
class ChartPanel:
    """A chart with its heading and a note above it."""

    heading: str
    note: str
    svg: Markup


def make_standalone_svg(svg: Markup) -> str:
    """Make an SVG file of an inline SVG, with the pages' colors for light and dark screens."""
    colors = build_environment().get_template("colors.css").render()
    opening, rest = svg.split(">", 1)
    style = f"<style>{colors}svg {{ color: var(--ink); background: var(--page); font-family: sans-serif; }}</style>"
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def build_environment() -> Environment:
    """Build the Jinja environment with the pages' templates and filters."""
    environment = Environment(
        loader=PackageLoader("delia_ray.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(_FILTERS)
    return environment
