import pytest

from delia_ray.errors import UserError
from delia_ray.records import TaskItem
from delia_ray.tasks.config import Decontaminate
from delia_ray.tasks.leaks import scored_texts, without_leaks

CITIES = ["France", "Spain", "Italy", "Norway", "Chad", "Peru", "Chile", "Oman", "Nepal", "Fiji", "Mali", "Cuba"]
LONG = "A farmer has three fields of barley and wants to know how many sacks of seed she needs for the smallest one."


def item(name: str, asked: str, instruction: str | None = None) -> TaskItem:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": "So."}]
    return {"example_id": name, "group": "task", "messages": messages, "label": None, "instruction": instruction}  # pyright: ignore


def left_out(train: list[str], test: list[str], instruction: str | None = None) -> dict[str, str]:
    items = {
        "train": [item(f"train-{n}", asked, instruction) for n, asked in enumerate(train)],
        "dev": [],
        "test": [item(f"test-{n}", asked, instruction) for n, asked in enumerate(test)],
    }
    kept, rejects = without_leaks(items, Decontaminate())
    assert [each["example_id"] for each in kept] == [name for name in (row["example_id"] for row in items["train"]) if name not in
                                                     {reject["row_id"] for reject in rejects}]  # fmt: skip
    return {reject["row_id"]: reject["reason"] for reject in rejects}


def test_items_that_differ_in_their_content_alone_stay() -> None:
    asked = [f"Please tell me, in a single word and without any explanation at all: what is the capital of {city}?" for city in CITIES]
    assert left_out(asked[:8], asked[8:]) == {}


def test_an_item_of_the_test_split_goes_although_its_form_is_everywhere() -> None:
    asked = [f"Please tell me, in a single word and without any explanation at all: what is the capital of {city}?" for city in CITIES]
    assert left_out(asked, asked[3:4]) == {"train-3": "near-duplicate of test-0 (1.00)"}


def test_thirteen_words_in_a_row_of_a_test_item_are_too_many() -> None:
    found = left_out(["How tall is an oak?", f"{LONG} Write it as a poem, with many rhymes, and no sums."], [f"Solve this. {LONG}"])
    assert found == {"train-1": "13 words in a row of test-0"}


def test_the_instruction_is_not_compared() -> None:
    assert left_out([f"Oak. {LONG}"], [f"Elm. {LONG}"], instruction=LONG) == {}


def test_items_that_are_all_form_stay() -> None:
    assert left_out(["Write a poem."] * 5, ["Write a poem."]) == {}


def test_everyday_prompts_count_as_scored() -> None:
    name, text = next(scored_texts({"dev": [], "test": []}))
    assert name in left_out(["How tall is an oak?", text], [])["train-1"]


def test_a_task_of_leaks_alone_is_refused() -> None:
    with pytest.raises(UserError, match=r"all 1 training rows of the task overlap .* near-duplicate of test-0.*decontaminate to null"):
        left_out(["How tall is an oak?"], ["How tall is an oak?"])
