from pathlib import Path

import pytest

from delia_ray.core.errors import UserError
from delia_ray.serving.http.keys import VARIABLE, ApiKeys, read_keys

KEY, OTHER = "k" * 24, "o" * 24


def test_keys_are_read_from_the_file_or_else_from_the_environment(tmp_path: Path):
    (tmp_path / "keys").write_text(f"# of the team\n  # and of nobody else\n{KEY}\n\n {OTHER}\n")
    assert read_keys(tmp_path / "keys", {VARIABLE: "x" * 24}) == (KEY, OTHER)
    assert read_keys(None, {VARIABLE: f"{KEY}, {OTHER}"}) == (KEY, OTHER)
    assert read_keys(None, {}) == ()


@pytest.mark.parametrize("value", ["", " ", ",", " , "])
def test_a_variable_that_is_set_and_holds_no_key_leaves_no_endpoint_open(value: str):
    with pytest.raises(UserError, match=f"{VARIABLE}: is set and holds no key"):
        read_keys(None, {VARIABLE: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("short\n", "key 1 has 5 characters, and 16"),
        (f"{KEY}\n{'ü' * 20}\n", "key 2 holds a character"),
        (f"{KEY} {OTHER}\n", "key 1 holds a character"),
    ],
)
def test_a_file_of_no_use_is_refused_without_its_content(tmp_path: Path, text: str, message: str):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_keys(tmp_path / "keys", {})
    assert "short" not in str(caught.value) and KEY not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="No such file or directory; name a file with a key in each line"):
        read_keys(tmp_path / "none", {})


def test_a_key_is_found_by_its_number():
    ring = ApiKeys([KEY, OTHER])
    assert [ring.find(f"Bearer {key}") for key in (KEY, OTHER, "x" * 24)] == [0, 1, None]
    assert ring.find(f"bearer {KEY}") == 0 and not ApiKeys(())
