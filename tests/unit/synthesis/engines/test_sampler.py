"""Who samples from a nucleus, and what vLLM is asked for."""

import pytest

from delia_ray.placement import ActorPool, Engine
from delia_ray.synthesis.config import Sampling
from delia_ray.synthesis.engines.engine import build_sampling_params, uses_cpu_sampler

NUCLEUS = {"temperature": 0.7, "top_p": 0.95, "top_k": 0, "seed": 3, "max_tokens": 8}
CHANGED = {"temperature": 0.9, "top_p": 0.5, "top_k": 40, "max_tokens": 9}


@pytest.mark.parametrize(
    ("sampler", "num_gpus", "expected"),
    [("auto", 0, True), ("auto", 1, False), ("vllm", 0, False), ("cpu", 1, True)],
)
def test_gpus_take_vllms_sampler_and_cpus_ours_unless_it_is_set(sampler: str, num_gpus: int, expected: bool):
    engine = Engine.model_validate({"sampler": sampler})
    assert uses_cpu_sampler(engine, ActorPool(num_gpus=num_gpus)) is expected


def test_vllms_sampler_gets_what_was_asked_for_as_it_is():
    assert build_sampling_params(NUCLEUS, cpu_sampler=False) == NUCLEUS


def test_our_sampler_gets_the_nucleus_and_the_request_is_greedy_to_vllm():
    params = build_sampling_params(NUCLEUS, cpu_sampler=True)
    assert params == {"max_tokens": 8, "temperature": 0.0, "extra_args": {"nucleus": {"temperature": 0.7, "top_p": 0.95, "seed": 3}}}


@pytest.mark.parametrize("option", Sampling.model_fields)
def test_every_option_of_the_answers_has_its_effect_whoever_samples(option: str):
    assert option in CHANGED, "a new option: give it a value other than its default here"
    asked = {**NUCLEUS, option: CHANGED[option]}
    params = build_sampling_params(asked, cpu_sampler=True)
    nucleus = params.get("extra_args", {}).get("nucleus", {})
    assert {**params, **nucleus}[option] == CHANGED[option]
    assert params == asked or option in nucleus or option == "max_tokens", "greedy to vLLM, the option would have no effect"


@pytest.mark.parametrize("sampling", [{**NUCLEUS, "top_k": 50}, {**NUCLEUS, "temperature": 0.0}, {**NUCLEUS, "min_p": 0.1}])
def test_greedy_requests_and_those_with_an_option_that_ours_does_not_know_are_vllms(sampling: dict[str, float]):
    assert build_sampling_params(sampling, cpu_sampler=True) == sampling
