"""YAML that a user wrote, with what is wrong in it told by its line."""

from collections.abc import Mapping
from typing import Any, cast

import yaml

from delia_ray.errors import UserError

_TAB = "a tab cannot indent YAML; use spaces"


class _Loader(yaml.SafeLoader):
    """Refuses what YAML's own loader passes over: a key that stands twice, of which the first would be lost without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in cast(list[tuple[yaml.Node, yaml.Node]], node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            name: str = key.value
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise yaml.constructor.ConstructorError(None, None, f"the key {name} is no text; write '{name}'", key.start_mark)
            if name in known:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name} stands there twice", key.start_mark)
            known.add(name)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, name: str) -> Any:
    """The value that ``text`` says.

    Raises:
        UserError: it is no YAML, or a key stands twice or is no text; ``name`` says whose text it is.
    """
    try:
        value: Any = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {_problem(error)}") from None
    if _contains_itself(value):
        raise UserError(f"{name}: an alias (*name) stands inside what it names; write it out")
    return value


def _problem(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark, problem = error.problem_mark, error.problem or error.context or "cannot be read"
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"
    tab = "'\\t'" in problem
    return f"line {mark.line + 1}, column {mark.column + 1}: {_TAB if tab else ' '.join(problem.split())}"


def _contains_itself(value: Any, above: tuple[int, ...] = ()) -> bool:
    if id(value) in above:
        return True
    inner = (
        cast(Mapping[str, Any], value).values() if isinstance(value, Mapping) else cast(list[Any], value) if isinstance(value, list) else ()
    )
    return any(_contains_itself(each, (*above, id(value))) for each in inner)
