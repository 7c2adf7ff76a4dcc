"""The job of the probe's worker: gradients, steps and Fisher products of the models, reduced to inner products.

Legend: N diverse rows, S sampled coordinates, K vectors of a basis.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delia_ray.core.progress import Tally
from delia_ray.core.records import Example
from delia_ray.models import detect_chat_format, encode_prompt, load_model, load_tokenizer, token_ids
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.gradients.causal_lm import FunctionalCausalLM, sample_answers
from delia_ray.probing.gradients.coordinates import Coordinates, norm, select_weights
from delia_ray.probing.gradients.fisher import KrylovBasis, fisher_quadratic_forms, lanczos, make_fisher_operator
from delia_ray.probing.gradients.gradients import FunctionalModel, gram_matrices, row_gradients, take_step
from delia_ray.probing.gradients.rows import ProbeRows
from delia_ray.probing.predictions.products import SETS, GradientProducts, StepProducts, UpdateProducts
from delia_ray.training.data.tokens import TokenizedRow, tokenize
from delia_ray.training.model import merge_trained


@dataclass(frozen=True)
class ProbeJob:
    """The inputs of the probe's worker."""

    config: ProbeConfig
    base: Path
    """Folder of the base model."""
    trained: Mapping[str, Path]
    """Arm -> folder that ``save_trained`` wrote."""
    new_tokens: tuple[str, ...]
    rows: ProbeRows


def count_passes(config: ProbeConfig, rows: ProbeRows, arms: int) -> int:
    """Count the rows that ``compute_gradient_products`` adds to its tally, at most."""
    diverse = len(rows.queries)
    gradient_passes = diverse * (4 + len(config.step_lengths)) + len(rows.pool) + len(rows.task)
    return gradient_passes + min(config.fisher_rows, diverse) * config.iterations + arms


def compute_gradient_products(job: ProbeJob, tally: Tally) -> GradientProducts:
    """Load the base model in single precision and compute all inner products of gradients, steps and updates."""
    torch.set_num_threads(os.cpu_count() or 1)  # Ray would limit this process to the CPUs that it reserves
    config = job.config
    base = load_model(job.base, torch.float32).to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)
    sets = _tokenize_sets(base, job, tally)
    weights, model = select_weights(base, config.parameters), FunctionalCausalLM(base)
    coordinates = Coordinates(weights, config.coordinates, config.seed)
    gradients = {name: row_gradients(model, weights, rows, coordinates, tally) for name, rows in sets.items()}
    task_tokens = sum(len(model.targets(row)) for row in sets["task"])
    mean = {name: part / task_tokens for name, part in gradients["task"][1].items()}
    task_norm, mean_S = norm(mean), coordinates.gather(mean)
    steps = _measure_steps(model, weights, sets["own"], mean, coordinates, config.step_lengths, tally)
    forms_N = fisher_quadratic_forms(model, weights, sets["own"], {name: part / task_norm for name, part in mean.items()}, tally)
    basis = _find_basis(model, weights, sets["own"][: config.fisher_rows], coordinates, config, tally)
    return GradientProducts(
        parameters=sum(weight.numel() for weight in base.parameters()),
        chosen=coordinates.chosen,
        coordinates=coordinates.size,
        tokens={name: np.array([len(model.targets(row)) for row in rows], dtype=np.float64) for name, rows in sets.items()},
        layers=list(coordinates.layers),
        grams_LMM=gram_matrices(torch.cat([gradients[name][0] for name in SETS]), coordinates.layers.values()),
        steps=steps,
        task_norm=task_norm,
        sampled_task_norm=float(mean_S.double().norm()),
        forms_N=forms_N,
        fisher_NKK=basis.rows_NKK,
        residuals=list(basis.residuals),
        updates={arm: _measure_update(base, weights, job, arm, coordinates, basis, tally) for arm in job.trained},
    )


def _tokenize_sets(model: Any, job: ProbeJob, tally: Tally) -> dict[str, list[TokenizedRow]]:
    """Tokenize the rows of each of ``SETS``; the model's own answers are sampled here."""
    tokenizer, rows = load_tokenizer(job.base), job.rows
    ids = token_ids(tokenizer, job.new_tokens)

    def tokenize_examples(examples: Sequence[Example]) -> list[TokenizedRow]:
        return tokenize(tokenizer, examples, "answer", ids)

    prompts = [encode_prompt(tokenizer, [{"role": "user", "content": query}]) for query in rows.queries]
    own = sample_answers(model, prompts, job.config.answer_tokens, detect_chat_format(tokenizer).end_of_turn_id, job.config.seed, tally)
    return {
        "own": own,
        "pool": tokenize_examples(rows.pool),
        "foreign": tokenize_examples(rows.foreign),
        "task": tokenize_examples(rows.task),
    }


def _measure_steps(
    model: FunctionalModel[TokenizedRow],
    weights: Mapping[str, Tensor],
    rows: Sequence[TokenizedRow],
    direction: Mapping[str, Tensor],
    coordinates: Coordinates,
    lengths: Sequence[float],
    tally: Tally,
) -> list[StepProducts]:
    """Compute the products of the rows' gradients after a step of each length down ``direction``."""
    steps: list[StepProducts] = []
    direction_S = coordinates.gather(direction)
    for length in lengths:
        eta = length * norm(weights) / norm(direction)
        rows_NS, _ = row_gradients(model, take_step(weights, direction, eta), rows, coordinates, tally)
        dots_N = (rows_NS @ direction_S).double().cpu().numpy()
        steps.append(StepProducts(length, eta, gram_matrices(rows_NS, [[slice(None)]])[0], dots_N))
    return steps


def _find_basis(
    model: FunctionalModel[TokenizedRow],
    weights: Mapping[str, Tensor],
    rows: Sequence[TokenizedRow],
    coordinates: Coordinates,
    config: ProbeConfig,
    tally: Tally,
) -> KrylovBasis:
    multiply = make_fisher_operator(model, weights, rows, coordinates, tally)
    first_S = torch.randn(coordinates.size, generator=torch.Generator().manual_seed(config.seed))
    tokens = sum(len(model.targets(row)) for row in rows)
    basis = lanczos(multiply, tokens, first_S.to(next(iter(weights.values())).device), config.eigenvectors, config.iterations)
    tally.add(rows=len(rows) * (config.iterations - len(basis.vectors_KS)))
    return basis


def _measure_update(
    base: Any, weights: Mapping[str, Tensor], job: ProbeJob, arm: str, coordinates: Coordinates, basis: KrylovBasis, tally: Tally
) -> UpdateProducts:
    """Compute the products of an arm's update, theta - theta0.

    The tuned weights come from the checkpoint, merged in single precision: rounding changes the exported model by more than a small
    update.
    """
    ids = token_ids(load_tokenizer(job.base), job.new_tokens)
    tuned = dict(merge_trained(job.base, job.trained[arm], ids, torch.float32).named_parameters())
    update = {name: tuned[name].detach().to(weight.device) - weight for name, weight in base.named_parameters()}
    chosen = {name: update[name] for name in weights}
    update_S = coordinates.gather(chosen)
    tally.add(rows=1)
    dots_K = (basis.vectors_KS @ update_S).double().cpu().numpy()
    return UpdateProducts(norm(update), norm(chosen), float(update_S.double().norm()), dots_K)
