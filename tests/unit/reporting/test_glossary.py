"""Everything that is measured can be explained: a metric has a scale, a better direction, a title and a meaning."""

from pathlib import Path

from delia_ray.core.config import build_config
from delia_ray.evaluation.config import Margins
from delia_ray.evaluation.metrics.definitions import FORMAT_METRICS, find_definition
from delia_ray.reporting.wording.glossary import ARMS, METRICS, get_metric
from delia_ray.settings import Settings
from delia_ray.tasks.answer_metrics import ANSWER_METRICS


def test_every_metric_has_a_scale_a_better_direction_and_an_entry_in_the_glossary():
    assert METRICS.keys() == {*ANSWER_METRICS, *FORMAT_METRICS}
    for name, text in METRICS.items():
        definition = find_definition(name)
        assert definition is not None and definition.scale in Margins.model_fields and definition.better in ("higher", "lower"), name
        assert text.title and text.meaning.endswith(".") and get_metric(name).title == text.title, name


def test_every_arm_of_the_config_of_all_arms_has_an_entry_of_its_own():
    config = Path(__file__).parents[3] / "jobs" / "configs" / "every-arm.yaml"
    assert [arm for arm in build_config(Settings, [config], []).arms if arm not in ARMS] == []
    for texts in zip(*ARMS.values(), strict=True):
        assert len({*texts}) == len(ARMS) and all(texts)


def test_only_metrics_that_nobody_wants_high_are_better_when_lower():
    assert [name for name in METRICS if get_metric(name).better == "lower"] == ["no_token", "spill", "false_trigger", "retention_kl"]


def test_a_function_of_the_users_is_a_share_of_which_more_is_better_and_of_another_name_nothing_is_claimed():
    own, other = get_metric("my.metrics:close"), get_metric("arc_easy acc")
    assert (own.title, own.better, own.is_share) == ("close", "higher", True)
    assert (other.title, other.better, other.is_share) == ("arc_easy acc", None, False)
