"""What the probe's worker does with the models: gradients, steps and Fisher products, boiled down to inner products.

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

from delia_ray.models import chat_format, load_model, load_tokenizer, prompt_ids, token_ids
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.coordinates import Coordinates, choose_weights, norm
from delia_ray.probing.fisher import Basis, fisher_forms, fisher_products, span
from delia_ray.probing.gradients import Probed, grams, row_gradients, stepped
from delia_ray.probing.language import LanguageModel, draw_answers
from delia_ray.probing.raw import SETS, Raw, RawStep, RawUpdate
from delia_ray.probing.rows import Rows
from delia_ray.progress import Tally
from delia_ray.records import Example
from delia_ray.training.model import merge_trained
from delia_ray.training.tokens import TokenisedRow, tokenise


@dataclass(frozen=True)
class Work:
    """Everything the worker is told."""

    config: ProbeConfig
    start: Path
    trained: Mapping[str, Path]
    """Arm -> what ``save_trained`` wrote."""
    new_tokens: tuple[str, ...]
    rows: Rows


def passes(config: ProbeConfig, rows: Rows, arms: int) -> int:
    """What ``take_raw`` counts, at most."""
    diverse = len(rows.queries)
    several = diverse * (4 + len(config.step_lengths)) + len(rows.pool) + len(rows.task)
    return several + min(config.fisher_rows, diverse) * config.iterations + arms


def take_raw(work: Work, tally: Tally) -> Raw:
    """Load the start model in single precision and take everything that needs it."""
    torch.set_num_threads(os.cpu_count() or 1)  # Ray would hold this process to the CPUs that it reserves
    config = work.config
    whole = load_model(work.start, torch.float32).to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)
    sets = _sets(whole, work, tally)
    weights, model = choose_weights(whole, config.parameters), LanguageModel(whole)
    coordinates = Coordinates(weights, config.coordinates, config.seed)
    taken = {name: row_gradients(model, weights, rows, coordinates, tally) for name, rows in sets.items()}
    direction = taken["task"][1]
    mean = {name: part / sum(len(model.targets(row)) for row in sets["task"]) for name, part in direction.items()}
    task_norm, mean_S = norm(mean), coordinates.gather(mean)
    steps = _steps(model, weights, sets["own"], mean, coordinates, config.step_lengths, tally)
    forms_N = fisher_forms(model, weights, sets["own"], {name: part / task_norm for name, part in mean.items()}, tally)
    basis = _basis(model, weights, sets["own"][: config.fisher_rows], coordinates, config, tally)
    return Raw(
        parameters=sum(weight.numel() for weight in whole.parameters()),
        chosen=coordinates.chosen,
        coordinates=coordinates.size,
        tokens={name: np.array([len(model.targets(row)) for row in rows], dtype=np.float64) for name, rows in sets.items()},
        layers=list(coordinates.layers),
        grams_LMM=grams(torch.cat([taken[name][0] for name in SETS]), coordinates.layers.values()),
        steps=steps,
        task_norm=task_norm,
        task_sampled=float(mean_S.double().norm()),
        forms_N=forms_N,
        basis_NKK=basis.rows_NKK,
        residuals=list(basis.residuals),
        updates={arm: _update(whole, weights, work, arm, coordinates, basis, tally) for arm in work.trained},
    )


def _sets(model: Any, work: Work, tally: Tally) -> dict[str, list[TokenisedRow]]:
    """The rows of each of ``SETS``; the model's own answers are drawn here."""
    tokenizer, rows = load_tokenizer(work.start), work.rows
    ids = token_ids(tokenizer, work.new_tokens)

    def tokenised(examples: Sequence[Example]) -> list[TokenisedRow]:
        return tokenise(tokenizer, examples, "answer", ids)

    prompts = [prompt_ids(tokenizer, [{"role": "user", "content": query}]) for query in rows.queries]
    own = draw_answers(model, prompts, work.config.answer_tokens, chat_format(tokenizer).end_of_turn_id, work.config.seed, tally)
    return {"own": own, "pool": tokenised(rows.pool), "foreign": tokenised(rows.foreign), "task": tokenised(rows.task)}


def _steps(
    model: Probed[TokenisedRow],
    weights: Mapping[str, Tensor],
    rows: Sequence[TokenisedRow],
    direction: Mapping[str, Tensor],
    coordinates: Coordinates,
    lengths: Sequence[float],
    tally: Tally,
) -> list[RawStep]:
    taken: list[RawStep] = []
    direction_S = coordinates.gather(direction)
    for length in lengths:
        eta = length * norm(weights) / norm(direction)
        rows_NS, _ = row_gradients(model, stepped(weights, direction, eta), rows, coordinates, tally)
        dots_N = (rows_NS @ direction_S).double().cpu().numpy()
        taken.append(RawStep(length, eta, grams(rows_NS, [[slice(None)]])[0], dots_N))
    return taken


def _basis(
    model: Probed[TokenisedRow],
    weights: Mapping[str, Tensor],
    rows: Sequence[TokenisedRow],
    coordinates: Coordinates,
    config: ProbeConfig,
    tally: Tally,
) -> Basis:
    apply = fisher_products(model, weights, rows, coordinates, tally)
    first_S = torch.randn(coordinates.size, generator=torch.Generator().manual_seed(config.seed))
    tokens = sum(len(model.targets(row)) for row in rows)
    basis = span(apply, tokens, first_S.to(next(iter(weights.values())).device), config.eigenvectors, config.iterations)
    tally.add(rows=len(rows) * (config.iterations - len(basis.vectors_KS)))
    return basis


def _update(
    start: Any, weights: Mapping[str, Tensor], work: Work, arm: str, coordinates: Coordinates, basis: Basis, tally: Tally
) -> RawUpdate:
    """theta - theta0 from the checkpoint, merged in single precision: the exported model is rounded, by more than small updates."""
    ids = token_ids(load_tokenizer(work.start), work.new_tokens)
    tuned = dict(merge_trained(work.start, work.trained[arm], ids, torch.float32).named_parameters())
    moved = {name: tuned[name].detach().to(weight.device) - weight for name, weight in start.named_parameters()}
    chosen = {name: moved[name] for name in weights}
    update_S = coordinates.gather(chosen)
    tally.add(rows=1)
    parts_K = (basis.vectors_KS @ update_S).double().cpu().numpy()
    return RawUpdate(norm(moved), norm(chosen), float(update_S.double().norm()), parts_K)
