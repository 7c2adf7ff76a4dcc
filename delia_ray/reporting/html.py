"""What every page is made with: its templates, and how they print."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from delia_ray.reporting import glossary, numerals

_FILTERS: dict[str, Callable[..., Any]] = {
    "exact": json.dumps,
    "number": numerals.number,
    "signed": numerals.signed,
    "gain": numerals.gain,
    "p_value": numerals.p_value,
    "duration": numerals.duration,
    "count": numerals.count,
    "arm_title": glossary.arm_title,
    "constant_name": glossary.constant_name,
    "arm_meaning": glossary.arm_meaning,
    "metric_words": glossary.metric_words,
    "meaning": glossary.meaning,
    "set_title": glossary.set_title,
}


@dataclass(frozen=True)
class Drawing:
    """A panel under its heading."""

    heading: str
    note: str
    svg: Markup


def standalone(svg: Markup) -> str:
    """An inline drawing as a file of its own, in the pages' colours on a light and on a dark screen."""
    colours = environment().get_template("colours.css").render()
    opening, rest = svg.split(">", 1)
    style = f"<style>{colours}svg {{ color: var(--ink); background: var(--page); font-family: sans-serif; }}</style>"
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def environment() -> Environment:
    """The pages' templates and the filters they use."""
    environment = Environment(
        loader=PackageLoader("delia_ray.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(_FILTERS)
    return environment
