"""YAML parser for user files, with errors that name the line."""

from collections.abc import Mapping
from typing import Any, cast

import yaml

from delia_ray.core.errors import UserError

_TAB = "a tab cannot indent YAML; use spaces"


class _Loader(yaml.SafeLoader):
    """Safe loader that also refuses duplicate keys, which YAML's own loader overwrites silently, and keys that are not text."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in cast(list[tuple[yaml.Node, yaml.Node]], node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            name: str = key.value
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise yaml.constructor.ConstructorError(None, None, f"the key {name} is no text; write '{name}'", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name} occurs twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, name: str) -> Any:
    """Parse ``text`` as YAML.

    Raises:
        UserError: the text is not valid YAML, or a key is duplicated or not text; ``name`` names the source in the message.
    """
    try:
        value: Any = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {_format_problem(error)}") from None
    if _is_cyclic(value):
        raise UserError(f"{name}: an alias (*name) refers to a value that contains it; write it out")
    return value


def _format_problem(error: yaml.YAMLError) -> str:
    """Format PyYAML's error on one line, with line and column."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark, problem = error.problem_mark, error.problem or error.context or "cannot be read"
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"
    tab = "'\\t'" in problem
    return f"line {mark.line + 1}, column {mark.column + 1}: {_TAB if tab else ' '.join(problem.split())}"


def _is_cyclic(value: Any, parents: tuple[int, ...] = ()) -> bool:
    """Whether ``value`` contains itself through an alias."""
    if id(value) in parents:
        return True
    children = (
        cast(Mapping[str, Any], value).values() if isinstance(value, Mapping) else cast(list[Any], value) if isinstance(value, list) else ()
    )
    return any(_is_cyclic(each, (*parents, id(value))) for each in children)
