import pytest

from delia_ray.placement import Price
from delia_ray.synthesis.usage import GenerationCost, summarize_counts

COST = GenerationCost(generated=900, cached=100, seconds=200, prompt_tokens=40_000, answer_tokens=61_000, cpu_seconds=396, gpu_seconds=7200)


def test_speed_is_of_what_was_generated_now():
    counts = COST.to_counts(None)
    assert counts["tokens_per_second"] == 305.0
    assert "cost" not in counts
    assert GenerationCost(0, 10, 0.4, 0, 0, 0, 0).to_counts(None)["tokens_per_second"] == 0


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        (Price(), 0),
        (Price(hour=0.18), 0.01),
        (Price(cpu_hour=1), 0.11),
        (Price(gpu_hour=2), 4),
        (Price(prompt_mtok=1, answer_mtok=10), 0.65),
        (Price(hour=0.18, cpu_hour=1, gpu_hour=2, prompt_mtok=1, answer_mtok=10), 4.77),
    ],
)
def test_each_price_counts_for_what_it_prices(price: Price, cost: float):
    assert COST.to_counts(price)["cost"] == pytest.approx(cost)


def test_the_line_says_what_was_made_and_what_it_took():
    counts = {"rows": 1024, **COST.to_counts(Price(cpu_hour=0.19))}
    assert summarize_counts(counts, "answers") == (
        "1,024 answers · 900 of 1,000 generated now · 61k tokens · 305 tok/s · 0.11 CPU-h · 2.00 GPU-h · cost 0.021"
    )
    assert summarize_counts({"rows": 8, **GenerationCost(0, 10, 0.4, 0, 0, 0, 0).to_counts(None)}, "answers") == "8 answers · all cached"
