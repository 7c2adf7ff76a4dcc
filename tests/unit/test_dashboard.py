"""The Grafana dashboard asks for metrics that this project, Ray or vLLM export under these names."""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from delia_ray.ray_runtime.metrics import METRICS, exported_name

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "cluster/grafana/dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
NAME = re.compile(r"\b(?:ray|autoscaler)_\w+(?=\{)")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
CORE = {"ray_resources", "ray_tasks", "ray_actors"}
"""Of Ray's C++ core, which has no source here; Ray's own dashboard shows them."""


def locate(package: str) -> Path:
    """The folder of an installed package, which is not imported: vLLM takes fifteen seconds."""
    spec = importlib.util.find_spec(package)
    assert spec and spec.origin
    return Path(spec.origin).parent


def definitions(file: Path, kinds: Mapping[str, str]) -> Iterator[str]:
    """The exported names of the metrics that ``file`` makes by calling one of ``kinds``: class or attribute -> kind."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and (kind := kinds.get(getattr(node.func, "attr", getattr(node.func, "id", "")))):
            first = next((word.value for word in node.keywords if word.arg == "name"), *node.args[:1])
            name = re.sub(r"\W", "_", ast.unparse(first).removeprefix("f").strip("'").replace("{protocol_name}", "http"))
            yield from (f"ray_{name}{suffix}" for suffix in SUFFIXES[kind])


def exported() -> set[str]:
    ours = {exported_name(name) for name in METRICS}
    prometheus = {"Gauge": "gauge", "Counter": "counter", "Histogram": "histogram"}
    of_nodes = definitions(locate("ray") / "dashboard/modules/reporter/reporter_agent.py", prometheus)
    of_serve = definitions(locate("ray") / "serve/_private/request_ingress_metrics.py", prometheus)
    loggers = {"_gauge_cls": "gauge", "_counter_cls": "counter", "_histogram_cls": "histogram"}
    of_engines = definitions(locate("vllm") / "v1/metrics/loggers.py", loggers)
    return {*ours, *of_nodes, *of_serve, *of_engines, *CORE}


def test_every_expression_asks_for_metrics_that_are_exported():
    known = exported()
    assert {expression: unknown for expression in EXPRESSIONS if (unknown := set(NAME.findall(expression)) - known)} == {}
    assert [expression for expression in EXPRESSIONS if not NAME.search(expression)] == []
    default = (locate("ray") / "dashboard/modules/metrics/dashboards/default_dashboard_panels.py").read_text()
    assert all(f"({name}{{" in default for name in CORE)


def test_every_metric_of_ours_has_a_panel():
    shown = {name for expression in EXPRESSIONS for name in NAME.findall(expression)}
    assert {exported_name(name) for name in METRICS} - shown == set()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_limited_to_the_chosen_runs_or_their_cluster_and_uses_only_labels_that_exist(expression: str):
    for name, labels in re.findall(r"\b(ray_\w+)\{([^}]*)\}", expression):
        used = set(re.findall(r"(\w+)=", labels))
        ours = next((metric for ours, metric in METRICS.items() if exported_name(ours) == name), None)
        assert 'run=~"$run"' in labels if ours else 'SessionName=~"$session"' in labels
        if ours:
            by = set(re.split(r",\s*", match[1])) if (match := re.search(r"by \(([^)]*)\)", expression)) else set[str]()
            assert used | by <= set(ours.tags)


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24


def test_the_data_source_is_chosen_and_no_installation_is_named():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    sources = [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert DASHBOARD["uid"] and {"run", "session"} <= set(variables)
