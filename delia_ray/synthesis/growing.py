"""Self-Instruct on actors: each round's prompts are drawn through the store, so a rerun draws nothing again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from delia_ray.artifacts import Counts, Workspace
from delia_ray.models import encode, stop_ids, tokenizer_of
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.records import keyed_int
from delia_ray.synthesis.accounting import Effort
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.draws import DRAW_SCHEMA, Draw, new_draw
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.queries import UserRows, judged_queries
from delia_ray.synthesis.query_config import SelfInstructQueries
from delia_ray.synthesis.self_instruct import TaskPool, built_in_seeds, examples, list_prompt, listed_tasks, prompt_ids
from delia_ray.synthesis.site import Site, draw_rows, judged, source, told
from delia_ray.synthesis.verdicts import Verdict, write_queries

_KEPT_A_PROMPT = 2
"""Fewer tasks than most prompts bring: prompts are drawn in as many portions as it takes, and what is kept does not depend on them."""
_PORTION = 10_000
"""Most prompts and lists held at a time."""


def seed_tasks(asked: SelfInstructQueries, rows: UserRows | None, control: ControlTokens, error_budget: float) -> list[str]:
    """The tasks to grow from: the user's, or the built-in ones.

    Raises:
        UserError: the user's rows are not usable.
    """
    if rows is None:
        return list(built_in_seeds())
    return [row["query"] for verdict, row in judged_queries(rows, control, error_budget) if verdict == "kept"]


def grow(config: SynthesizeConfig, asked: SelfInstructQueries, seeds: Sequence[str], site: Site, workspace: Workspace) -> Counts:
    """Up to ``asked.rows`` tasks. Names and seeds alone decide which; with more rows, the first ones stay.

    Held in memory: the seeds and what is kept, which every new task is compared with, and one portion of lists.
    """
    site.connect()
    growth = _Growth(config, asked, seeds, site, workspace)
    written = write_queries(growth.verdicts(), workspace.data)
    return told({**written, **growth.tokens, "rounds": growth.rounds, **growth.effort.counts(site.price)}, "query", site)


@dataclass
class _Growth:
    config: SynthesizeConfig
    asked: SelfInstructQueries
    seeds: Sequence[str]
    site: Site
    workspace: Workspace
    rounds: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """Of all lists, drawn now or before."""
    effort: Effort = field(default_factory=Effort)

    def verdicts(self) -> Iterator[Verdict]:
        wanted = self.asked.rows
        assert wanted is not None, "the settings set the number of queries"
        tokenizer = tokenizer_of(self.site.model)
        pool = TaskPool(self.seeds, self.asked.max_similarity, control_tokens(tokenizer))
        grown: list[str] = []
        for names in prompt_ids(self.asked):
            self.rounds += 1
            shown = list(grown)
            while names:
                portion = min(_PORTION, -(-(wanted - len(grown)) // _KEPT_A_PROMPT))
                draws = [self._draw(tokenizer, name, shown) for name in names[:portion]]
                names = names[portion:]
                for row in self._lists(draws):
                    for name, task, reason in _tasks(row, self.asked.new_tasks, pool):
                        if reason:
                            yield "rejects", {"row_id": name, "step": "query", "reason": reason, "text": task}
                        else:
                            grown.append(task)
                            yield "kept", {"query_id": name, "topic": "", "query": task, "reference": None}
                            if len(grown) == wanted:
                                return

    def _draw(self, tokenizer: Any, name: str, grown: Sequence[str]) -> Draw:
        asked = self.asked
        shown = examples(asked, self.seeds, grown, name, self.config.seed)
        stop = [f"\n{len(shown) + asked.new_tasks + 1}."]
        seed = keyed_int(self.config.seed, "query", name) % 2**31
        sampling = {"temperature": asked.temperature, "top_k": asked.top_k, "max_tokens": asked.max_tokens, "stop": stop, "seed": seed}
        prompt = list_prompt(tokenizer, shown, asked.new_tasks)
        ids, how = encode(tokenizer, [prompt])[0].ids, {**sampling, "stop_token_ids": stop_ids(tokenizer, None)}
        return new_draw(source(self.config, self.site.model), name, prompt, ids, how, topic="")

    def _lists(self, draws: list[Draw]) -> list[dict[str, Any]]:
        """The continued lists in order of their prompts' names."""
        table = ray.data.from_arrow(pa.Table.from_pylist(draws, schema=DRAW_SCHEMA))
        folder, effort = draw_rows(
            self.config, table, partial(judged, _accept, ControlTokens(())), "query", self.site, self.workspace.inflight
        )
        rows = {row["row_id"]: row for row in pq.read_table(folder).to_pylist()}
        self.effort += effort
        self.tokens.update({name: sum(row[name] for row in rows.values()) for name in ("prompt_tokens", "answer_tokens")})
        return [rows[name] for name in sorted(rows)]


def _accept(_text: str, _finished: bool, _control: ControlTokens) -> str | None:
    """Only what the engine failed on is refused before a list is read."""
    return None


def _tasks(row: dict[str, Any], limit: int, pool: TaskPool) -> Iterator[tuple[str, str, str | None]]:
    """Name, text and reason of refusal of each task in a list."""
    if row["reason"]:
        yield row["row_id"], row["text"], row["reason"]
        return
    tasks = listed_tasks(row["text"], row["finished"], limit)
    if not tasks:
        yield row["row_id"], row["text"], "empty"
    for place, (task, whole) in enumerate(tasks):
        yield f"{row['row_id']}-{place:02d}", task, pool.refuse(task, whole)
