"""52 million rows on up to 512 engines, and 640,000: simulated from what was measured, in the blocks that the project makes, and drawn.

The engines' speeds are assumptions: 3 rows a second are 1,500 tokens a second in answers of 500, which docs/cluster.md reckons with for
a model of 8 billion parameters; 30 are ten times that, a smaller model or shorter answers.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.scale.events import Generation, simulate
from delia_ray.placement import ActorPool
from delia_ray.synthesis.generation.generate import count_generation_blocks

FIGURE = Path(__file__).parents[2] / "docs" / "scale.png"
ENGINES = tuple(2**power for power in range(10))
SPEEDS = (3.0, 30.0)
ROWS = 52_000_000
JOBS = (ROWS, 640_000)
BATCH_ROWS = 32
_COLORS = {3.0: "#0072b2", 30.0: "#c05200"}


def plan_generations(found: Mapping[str, Any]) -> dict[str, Any]:
    """Simulate each job on each number of engines, as if all the driver's processor time for a block were one thread's."""
    head = found["growth"]["fit"]["driver cpu_seconds"]
    outcomes: list[dict[str, float]] = []
    for rows in JOBS:
        for speed in SPEEDS:
            for engines in ENGINES:
                block_rows = -(-rows // count_generation_blocks(rows, ActorPool(size=engines, batch_rows=BATCH_ROWS)))
                block_seconds = head["a_block"] + block_rows * head["a_row"]
                generation = Generation(rows, block_rows, engines, speed, block_seconds)
                outcomes.append(asdict(generation) | asdict(simulate(generation)))
    return {"serial_seconds": reckon_serial_seconds(found), "outcomes": outcomes}


def reckon_serial_seconds(found: Mapping[str, Any]) -> dict[str, float]:
    """Seconds, on a processor of their own, of the steps that one process does for 52 million rows, however many engines there are."""
    every_row = found["indexes"][str(ROWS)]
    rows, split = max((int(name.split()[1]), each["split"]["cpu_seconds"]) for name, each in found["indexes"].items() if "split" in each)
    return {"keys": 2 * every_row["keys"]["cpu_seconds"], "tokens": every_row["tokens"]["cpu_seconds"], "split": split / rows * ROWS}


def draw_figure(plan: Mapping[str, Any]) -> None:
    """Draw how many times faster each job gets with more engines, and the hours of the large one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.11, 4.2), dpi=100)
    speedup, hours = figure.subplots(1, 2)
    for rows in JOBS:
        for speed in SPEEDS:
            curve = [each for each in plan["outcomes"] if (each["rows"], each["engine_rows_per_second"]) == (rows, speed)]
            label = f"{rows / 1e6:g} million rows, {speed:g} rows/s an engine"
            style = {"color": _COLORS[speed], "linestyle": "-" if rows == ROWS else "--", "marker": "o", "markersize": 3, "label": label}
            speedup.plot(ENGINES, [curve[0]["seconds"] / each["seconds"] for each in curve], **style)
            if rows == ROWS:
                hours.plot(
                    ENGINES, [each["seconds"] / 3600 for each in curve], **style | {"label": f"generation, {speed:g} rows/s an engine"}
                )
    speedup.plot(ENGINES, ENGINES, color="#888888", linewidth=1, label="as many times as engines")
    serial = sum(plan["serial_seconds"].values()) / 3600
    hours.plot(ENGINES, [serial] * len(ENGINES), color="black", linewidth=1, label="keys, tokens and split, in one process each")
    for axes, title in ((speedup, "Times as fast as one engine (simulated)"), (hours, "Hours for 52 million rows")):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set(xscale="log", yscale="log", xlabel="engines")
        axes.set_xticks(ENGINES, [str(engines) for engines in ENGINES], fontsize=8)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7.5, frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE, metadata={"Software": None})
