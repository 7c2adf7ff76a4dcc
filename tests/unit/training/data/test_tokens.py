import json

import pytest

from delia_ray.training.data.tokens import find_format_offsets

ANSWERS = [
    {"thought": "The capital is Paris.", "hallucination": "no"},
    {"a": 'she said "a": b', "c": ["x", {"d": ""}], "n": 3, "e": "back\\slash\n"},
    {},
]


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"separators": (",", ":")}], ids=str)
def test_the_format_of_an_object_is_all_of_it_but_the_insides_of_its_string_values(answer: dict[str, object], style: dict[str, object]):
    text = json.dumps(answer, **style)  # pyright: ignore[reportArgumentType]
    offsets = find_format_offsets(text)
    emptied = "".join(text[offset] for offset in sorted(offsets))

    def empty(value: object) -> object:
        match value:
            case str():
                return ""
            case list():
                return [empty(item) for item in value]
            case dict():
                return {key: empty(item) for key, item in value.items()}
            case _:
                return value

    assert json.loads(emptied) == empty(answer)


@pytest.mark.parametrize("answer", ["Paris.", '"text"', "[1]", "{'thought': 'x'}", '{"a": 1', ""])
def test_text_that_is_not_a_json_object_has_no_format(answer: str):
    assert find_format_offsets(answer) == set()
