"""The text of a run's plan: errors, steps, rows, memory, and a row with its loss mask."""

from collections.abc import Iterator, Sequence

import psutil
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from delia_ray.core.layout import DEFAULT_POOL
from delia_ray.pipeline.plan.lengths import Bounds
from delia_ray.pipeline.plan.memory import EnginePlan, WorkerPlan
from delia_ray.pipeline.plan.plan import Plan
from delia_ray.pipeline.plan.rows import ArmPlan
from delia_ray.pipeline.plan.sample import Segment
from delia_ray.reporting.summary import relative
from delia_ray.settings import Settings

_MARKS = {"finished": "✓", "to do": "·", "stale": "✗", "to do again": "·", "unknown": "?"}
_NOTES = {
    "finished": "finished",
    "to do": "to do",
    "stale": "finished, but from another request: the run stops here",
    "to do again": "finished, and built again: another number of queries",
    "unknown": "finished; whether it still fits cannot be told before what it is made from",
}
_STYLES = {"finished": "green", "stale": "red"}
_SHOWN = 240
"""Characters at each end of a long stretch of the sample."""
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


def render_plan(plan: Plan, settings: Settings) -> str:
    """Render every part of ``plan``, with colors and dim text only where the standard output is a terminal."""
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(Text(f"plan of {relative(settings.run.path)}; nothing is started and nothing written"))
        for title, part in _iter_parts(plan, settings, console):
            console.print()
            console.print(Text(title, style="bold"))
            console.print(_indent(part))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _iter_parts(plan: Plan, settings: Settings, console: Console) -> Iterator[tuple[str, RenderableType]]:
    if plan.errors:
        title = (
            "1 error, for which the run would stop" if len(plan.errors) == 1 else f"{len(plan.errors)} errors; the run would stop at one"
        )
        yield title, _list_errors(plan.errors)
    else:
        yield "errors", Text("none found")
    yield "steps", _list_steps(plan)
    if plan.task is not None:
        yield "rows", _show_rows(plan)
    yield "memory", _show_memory(plan, settings) if plan.workers or plan.engines else Text("not known, for one of the errors above")
    if plan.sample:
        yield "a training row of the task", _show_sample(plan.sample, with_styles=console.is_terminal)


def _list_errors(errors: Sequence[str]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    for error in errors:
        table.add_row(Text("✗", style="red"), Text(error))
    return table


def _list_steps(plan: Plan) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for step in plan.states:
        style = _STYLES.get(step.state, "")
        table.add_row(Text(f"{_MARKS[step.state]} {step.role}", style=style), Text(_NOTES[step.state]))
    return table


def _show_rows(plan: Plan) -> RenderableType:
    assert plan.task is not None
    counts = ", ".join(f"{len(rows):,} {split}" for split, rows in plan.task.items.items())
    removed = f"; {plan.task.removed:,} more left out, too close to what is scored" if plan.task.removed else ""
    parts: list[RenderableType] = [Text(f"task: {counts}{removed}")]
    if plan.lengths:
        tokens = next(iter(plan.lengths.values())).task_tokens
        parts.append(Text(f"its training rows have {min(tokens):,} to {max(tokens):,} tokens, {sum(tokens):,} in all"))
    for pool in plan.pools:
        name = "pool" if pool.name == DEFAULT_POOL else f"pool {pool.name}"
        made = "from your own queries" if pool.queries is None else f"from {pool.queries:,} queries"
        answers = "" if pool.answers is None else f" and {pool.answers:,} answers, before any is rejected"
        parts.append(Text(f"{name}: at least {pool.needed:,} rows, {made}{answers}"))
    if diverse := [lengths.diverse for lengths in plan.lengths.values()]:
        parts.append(
            Text(f"a diverse row has {_show_bounds(Bounds(min(each.low for each in diverse), max(each.high for each in diverse)))} tokens")
        )
    return Group(*parts, Text(), _tabulate_arms(plan.arms))


def _tabulate_arms(arms: Sequence[ArmPlan]) -> RenderableType:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("arm")
    for heading in ("task rows", "diverse rows", "steps", "epochs", "tokens"):
        table.add_column(heading, justify="right")
    for arm in arms:
        tokens = "?" if arm.tokens is None else _show_bounds(arm.tokens)
        table.add_row(arm.name, f"{arm.task_rows:,}", f"{arm.diverse_rows:,}", f"{arm.steps:,}", f"{arm.epochs:.1f}", tokens)
    return table


def _show_bounds(bounds: Bounds) -> str:
    return f"{bounds.low:,}" if bounds.low == bounds.high else f"{bounds.low:,} to {bounds.high:,}"


def _show_memory(plan: Plan, settings: Settings) -> RenderableType:
    parts = [_show_worker(worker, settings, plan.precision) for worker in plan.workers]
    parts += [_show_engine(engine, plan.precision) for engine in plan.engines]
    machine = Text(f"tensors alone are counted; this machine has {psutil.virtual_memory().total / _GIB:.1f} GiB of memory")
    return Group(*(line for part in parts for line in (part, Text())), machine)


def _show_worker(worker: WorkerPlan, settings: Settings, precision: str) -> RenderableType:
    memory, count = worker.memory, settings.placement.finetune.least
    batch = memory.batch
    title = (
        f"training worker of {', '.join(worker.arms)} ({count} at a time, {precision}), with {batch.tokens:,} tokens in rows of up to "
        f"{batch.row_tokens:,}, {batch.supervised:.0%} of them supervised"
    )
    table = _make_sums()
    for part in memory.parts:
        table.add_row(part.name + (f" (offloaded to {settings.placement.finetune.offload})" if part.is_offloaded else ""), _gib(part.size))
    table.add_row(
        "activations cannot be counted for this architecture; at least" if not memory.is_whole else "at the peak", _gib(memory.total)
    )
    return Group(Text(title), _indent(table))


def _show_engine(engine: EnginePlan, precision: str) -> RenderableType:
    memory = engine.memory
    title = f"engine that {'generates' if engine.stage == 'synthesize' else 'serves'} ({engine.count} at a time, {precision})"
    batch, token = f"{memory.max_num_seqs:,} sequences of {memory.max_model_len:,} tokens", f"{memory.token / _KIB:.1f} KiB a token"
    table = _make_sums()
    table.add_row("weights", _gib(memory.weights))
    if memory.cache is None:
        table.add_row(f"KV cache of a full batch, {batch}", _gib(memory.full_batch))
        table.add_row("at most", _gib(memory.total))
        note = f"{token}; vLLM fills most of what the GPU has left with it, and runs smaller batches where that is less"
    else:
        table.add_row("KV cache (placement.engine.kv_cache_gib)", _gib(memory.cache))
        table.add_row("sum", _gib(memory.total))
        fits = f"{memory.cache // memory.token:,} tokens fit; " if memory.token else ""
        note = f"{token}: {fits}a full batch, {batch}, would take {_gib(memory.full_batch)}"
    return Group(Text(title), _indent(Group(table, Text(note))))


def _indent(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _make_sums() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    return table


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f} GiB" if size >= 0.1 * _GIB else f"{size / _MIB:.0f} MiB"


def _show_sample(segments: Sequence[Segment], *, with_styles: bool) -> RenderableType:
    """Show masked text dim, or in brackets where there are no styles."""
    note = "masked text is dim" if with_styles else "masked text is in brackets"
    shown = Text()
    for segment in segments:
        text = _shorten(segment.text)
        if segment.is_supervised:
            shown.append(text, style="bold" if with_styles else "")
        else:
            shown.append(text if with_styles else f"[{text}]", style="dim" if with_styles else "")
    return Group(Text(f"{note}; the rest is what is learned"), shown)


def _shorten(text: str) -> str:
    return text if len(text) <= 2 * _SHOWN + 10 else f"{text[:_SHOWN]} ... {text[-_SHOWN:]}"
