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


def turns(name: str, *texts: str, system: str | None = None) -> TaskItem:
    """A conversation of turns by user and assistant in turn, the last one the user's, with an answer."""
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate([*texts, "So."])]
    before = [] if system is None else [{"role": "system", "content": system}]
    return {"example_id": name, "group": "task", "messages": before + messages, "label": None, "instruction": None}  # pyright: ignore


def leaks(train: list[TaskItem], test: list[TaskItem]) -> set[str]:
    _, rejects = without_leaks({"train": train, "dev": [], "test": test}, Decontaminate())
    return {reject["row_id"] for reject in rejects}


OAK = turns("oak", "Does an oak lose its leaves?", "Yes.", "How come?")
COPPER = turns("copper", "My copper pot turned green, is that bad?", "A little.", "How come?")
NILE = turns("nile", "Name a river.", "Nile.", "How come?")


def test_the_last_question_alone_is_no_conversation() -> None:
    assert leaks([COPPER, NILE], [OAK]) == set()


def test_a_conversation_that_is_repeated_as_a_whole_is_a_leak() -> None:
    assert leaks([COPPER, {**OAK, "example_id": "again"}, NILE], [OAK]) == {"again"}


def test_earlier_turns_of_a_scored_conversation_give_it_away() -> None:
    copied = turns("copied", f"{LONG} What is the first step?", "Measure it.", "And then?")
    assert leaks([copied, NILE], [turns("test", f"Please help. {LONG}", "Gladly.", "What comes first?")]) == {"copied"}


ICE = "You are a guide who answers in Icelandic and never in any other language, whatever a guest may say."
SEA = "You are the ship's cook on a long voyage, short of words, and you hate being called to the bridge."


@pytest.mark.parametrize("copies", [1, 5])
def test_a_short_turn_under_another_system_turn_is_another_question(copies: int) -> None:
    train = [turns(f"train-{n}", "Good evening!" if n == 0 else f"Where is pier {n}, please?", system=SEA) for n in range(copies)]
    test = [turns(f"test-{n}", "Good evening!" if n == 0 else f"When does bus {n} leave?", system=ICE) for n in range(copies)]
    assert leaks([*train, NILE], test) == set()


@pytest.mark.parametrize("rows", [2, 4, 30])
def test_a_system_turn_that_many_rows_share_makes_no_leak_of_them(rows: int) -> None:
    train = [turns(f"train-{n}", f"Where can I find object {n} of the old museum?", system=ICE) for n in range(rows)]
    test = [turns("test", "When does the last ferry leave tonight?", system=ICE)]
    assert leaks(train, test) == set()
    assert leaks(train, [turns("test", "Where can I find object 1 of the old museum?", system=ICE)]) == {"train-1"}


def test_a_long_question_is_a_leak_under_whatever_system_turn() -> None:
    assert leaks([turns("train", LONG, system=SEA), NILE], [turns("test", LONG, system=ICE)]) == {"train"}
