import pytest

from delia_ray.core.errors import UserError
from delia_ray.core.records import TaskItem
from delia_ray.tasks.config import Decontaminate
from delia_ray.tasks.contamination import iter_scored_texts, remove_contaminated

CITIES = ["France", "Spain", "Italy", "Norway", "Chad", "Peru", "Chile", "Oman", "Nepal", "Fiji", "Mali", "Cuba"]
LONG = "A farmer has three fields of barley and wants to know how many sacks of seed she needs for the smallest one."


def item(name: str, question: str, instruction: str | None = None) -> TaskItem:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "So."}]
    return {"example_id": name, "group": "task", "messages": messages, "label": None, "instruction": instruction}  # pyright: ignore


def find_rejects(train: list[str], test: list[str], instruction: str | None = None) -> dict[str, str]:
    items = {
        "train": [item(f"train-{n}", question, instruction) for n, question in enumerate(train)],
        "dev": [],
        "test": [item(f"test-{n}", question, instruction) for n, question in enumerate(test)],
    }
    kept, rejects = remove_contaminated(items, Decontaminate())
    assert [each["example_id"] for each in kept] == [name for name in (row["example_id"] for row in items["train"]) if name not in
                                                     {reject["row_id"] for reject in rejects}]  # fmt: skip
    return {reject["row_id"]: reject["reason"] for reject in rejects}


def test_items_that_share_only_a_template_stay() -> None:
    questions = [f"Please tell me, in a single word and without any explanation at all: what is the capital of {city}?" for city in CITIES]
    assert find_rejects(questions[:8], questions[8:]) == {}


def test_a_copy_of_a_test_item_is_removed_although_its_template_is_shared() -> None:
    questions = [f"Please tell me, in a single word and without any explanation at all: what is the capital of {city}?" for city in CITIES]
    assert find_rejects(questions, questions[3:4]) == {"train-3": "near-duplicate of test-0 (1.00)"}


def test_a_shared_13_gram_is_contamination() -> None:
    rejects = find_rejects(["How tall is an oak?", f"{LONG} Write it as a poem, with many rhymes, and no sums."], [f"Solve this. {LONG}"])
    assert rejects == {"train-1": "13 words in a row of test-0"}


def test_the_instruction_is_not_compared() -> None:
    assert find_rejects([f"Oak. {LONG}"], [f"Elm. {LONG}"], instruction=LONG) == {}


def test_items_that_consist_of_the_template_stay() -> None:
    assert find_rejects(["Write a poem."] * 5, ["Write a poem."]) == {}


def test_ordinary_prompts_count_as_evaluation_texts() -> None:
    name, text = next(iter_scored_texts({"dev": [], "test": []}))
    assert name in find_rejects(["How tall is an oak?", text], [])["train-1"]


def test_a_task_with_only_contaminated_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"all 1 training rows of the task overlap .* near-duplicate of test-0.*decontaminate to null"):
        find_rejects(["How tall is an oak?"], ["How tall is an oak?"])


def make_conversation(name: str, *texts: str, system: str | None = None) -> TaskItem:
    """Make a conversation of alternating user and assistant turns that ends with a user turn and an answer."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate([*texts, "So."])]
    system_turns = [] if system is None else [{"role": "system", "content": system}]
    return {"example_id": name, "group": "task", "messages": system_turns + messages, "label": None, "instruction": None}  # pyright: ignore


def find_contaminated(train: list[TaskItem], test: list[TaskItem]) -> set[str]:
    _, rejects = remove_contaminated({"train": train, "dev": [], "test": test}, Decontaminate())
    return {reject["row_id"] for reject in rejects}


OAK = make_conversation("oak", "Does an oak lose its leaves?", "Yes.", "How come?")
COPPER = make_conversation("copper", "My copper pot turned green, is that bad?", "A little.", "How come?")
NILE = make_conversation("nile", "Name a river.", "Nile.", "How come?")


def test_an_equal_last_question_alone_is_no_contamination() -> None:
    assert find_contaminated([COPPER, NILE], [OAK]) == set()


def test_a_copied_conversation_is_contamination() -> None:
    assert find_contaminated([COPPER, {**OAK, "example_id": "again"}, NILE], [OAK]) == {"again"}


def test_earlier_turns_of_a_test_conversation_are_contamination() -> None:
    copied = make_conversation("copied", f"{LONG} What is the first step?", "Measure it.", "And then?")
    assert find_contaminated([copied, NILE], [make_conversation("test", f"Please help. {LONG}", "Gladly.", "What comes first?")]) == {
        "copied"
    }


ICE = "You are a guide who answers in Icelandic and never in any other language, whatever a guest may say."
SEA = "You are the ship's cook on a long voyage, short of words, and you hate being called to the bridge."


@pytest.mark.parametrize("copies", [1, 5])
def test_a_short_turn_under_another_system_turn_is_no_contamination(copies: int) -> None:
    train = [
        make_conversation(f"train-{n}", "Good evening!" if n == 0 else f"Where is pier {n}, please?", system=SEA) for n in range(copies)
    ]
    test = [make_conversation(f"test-{n}", "Good evening!" if n == 0 else f"When does bus {n} leave?", system=ICE) for n in range(copies)]
    assert find_contaminated([*train, NILE], test) == set()


@pytest.mark.parametrize("rows", [2, 4, 30])
def test_a_shared_system_turn_is_no_contamination(rows: int) -> None:
    train = [make_conversation(f"train-{n}", f"Where can I find object {n} of the old museum?", system=ICE) for n in range(rows)]
    test = [make_conversation("test", "When does the last ferry leave tonight?", system=ICE)]
    assert find_contaminated(train, test) == set()
    assert find_contaminated(train, [make_conversation("test", "Where can I find object 1 of the old museum?", system=ICE)]) == {"train-1"}


def test_a_copied_long_question_is_contamination_under_any_system_turn() -> None:
    assert find_contaminated([make_conversation("train", LONG, system=SEA), NILE], [make_conversation("test", LONG, system=ICE)]) == {
        "train"
    }
