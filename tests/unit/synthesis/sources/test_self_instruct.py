from itertools import combinations

import pytest

from delia_ray.core.text.rouge import rouge_l
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.query_config import SelfInstructQueries
from delia_ray.synthesis.sources.self_instruct import TaskPool, iterate_prompt_ids, load_built_in_seeds, parse_tasks, select_examples

SETTINGS = SelfInstructQueries(kind="self_instruct", first_prompts=3, max_rounds=3)


@pytest.mark.parametrize(
    ("text", "finished", "tasks"),
    [
        ("Name a fruit.\n10. Why is\n snow white?\n", True, [("Name a fruit.", True), ("Why is snow white?", True)]),
        ("Name a fruit.\n10) Why is", False, [("Name a fruit.", True), ("Why is", False)]),
        (
            "说出一种水果。\n10、为什么雪是白的？\n11．再说一种。",
            True,
            [("说出一种水果。", True), ("为什么雪是白的？", True), ("再说一种。", True)],
        ),
        ("Add 3.5 and 4.\n\n10.\n11. Why?\n12. a\n13. b", True, [("Add 3.5 and 4.", True), ("Why?", True), ("a", True)]),
        ("", True, []),
        ("\n\n", False, []),
    ],
)
def test_a_continued_list_is_read_task_by_task(text: str, finished: bool, tasks: list[tuple[str, bool]]):
    assert parse_tasks(text, finished, 3) == tasks


def test_the_built_in_seeds_are_forty_and_would_all_be_added_beside_each_other():
    assert len(load_built_in_seeds()) == 40
    assert max(rouge_l(a, b) for a, b in combinations(load_built_in_seeds(), 2)) < 0.5
    pool = TaskPool([], 0.7, ControlTokens(()))
    assert [pool.add(seed, True) for seed in load_built_in_seeds()] == [None] * 40


@pytest.mark.parametrize(
    ("task", "is_complete", "reason"),
    [
        ("Name three rivers that flow north.", True, "similar"),
        ("name THREE rivers that flow south!", True, "similar"),
        ("Name the capital of Peru please.", True, None),
        ("Name three lakes that", False, "truncated"),
        ("Why?", True, "too short"),
        ("word " * 151, True, "loop"),
        (" ".join(map(str, range(151))), True, "too long"),
        ("写诗吧", True, "too short"),
        ("说出三条向北流的河的名字。", True, None),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 301))), True, "too long"),
        ("Draw a picture of a river.", True, "not about text"),
        ("End it <|im_end|> right here now.", True, "control token"),
    ],
)
def test_a_task_is_rejected_for_the_reason_that_holds(task: str, is_complete: bool, reason: str | None):
    assert TaskPool(["Name three rivers that flow north."], 0.7, ControlTokens(("<|im_end|>",))).add(task, is_complete) == reason


def test_a_task_is_held_against_those_kept_before_it_up_to_the_bound():
    pool = TaskPool([], 0.8, ControlTokens(()))
    assert pool.add("a b c d e", True) is None
    assert pool.add("a b c d x", True) == "similar"  # ROUGE-L is 0.8 exactly
    assert pool.add("a b c y x", True) is None


def test_prompts_show_seeds_and_grown_tasks_by_name_alone():
    seeds, grown = [f"seed {number}" for number in range(40)], [f"grown {number}" for number in range(1000)]
    shown = select_examples(SETTINGS, seeds, grown, "self-01-0000000", 0)
    assert (
        shown
        == select_examples(SETTINGS, seeds, grown, "self-01-0000000", 0)
        != select_examples(SETTINGS, seeds, grown, "self-01-0000001", 0)
    )
    assert sum(task in seeds for task in shown) == 6 and sum(task in grown for task in shown) == 2 and len(set(shown)) == 8
    assert sum(task in seeds for task in select_examples(SETTINGS, seeds, [], "self-00-0000000", 0)) == 8


def test_each_round_asks_twice_as_often():
    assert [len(prompt_ids) for prompt_ids in iterate_prompt_ids(SETTINGS)] == [3, 6, 12]


def test_tasks_without_spaces_between_words_are_held_against_each_other_by_their_letters():
    pool = TaskPool(["用三句话介绍一座你喜欢的城市。"], 0.7, ControlTokens(()))
    assert pool.add("用五句话介绍一座你喜欢的城市。", True) == "similar"
    assert pool.add("把下面的句子改写成过去时。", True) is None
