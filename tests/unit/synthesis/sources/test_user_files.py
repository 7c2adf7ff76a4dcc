import pytest

from delia_ray.synthesis.sources.user_files import select_split_files


@pytest.mark.parametrize(
    ("paths", "split", "selected"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "train", [0]),
        (["default/train/0000.parquet", "default/validation/0000.parquet"], "validation", [1]),
        (["alpaca_data.jsonl", "more.csv"], "train", [0, 1]),
        (["alpaca_data.jsonl"], "test", []),
        (["test.csv"], "train", []),
        (["constraints.csv", "my_train.csv"], "train", [1]),
    ],
)
def test_a_split_is_the_files_named_by_it(paths: list[str], split: str, selected: list[int]):
    assert select_split_files(paths, split) == [paths[place] for place in selected]
