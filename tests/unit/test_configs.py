"""Every YAML that ships parses against what reads it, and every version that ships is the pinned one."""

import importlib.metadata
import importlib.util
import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from delia_ray.cli.arguments import verbs
from delia_ray.core.config import build_config
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.settings import Settings
from delia_ray.synthesis.query_config import Queries
from delia_ray.tasks.answer_metrics import ANSWER_METRICS

ROOT = Path(__file__).parents[2]
DOORS = sorted((ROOT / "jobs").glob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in pairs}


@pytest.mark.parametrize("file", sorted((ROOT / "jobs").rglob("*.yaml")), ids=_named)
def test_a_run_can_start_from_every_config_in_jobs(file: Path):
    schema = ExperimentSettings if file.stem == "experiment" else Settings
    assert build_config(schema, [file], []).run.name == file.stem


@pytest.mark.parametrize("file", sorted((ROOT / "jobs").rglob("*.yaml")), ids=_named)
def test_no_config_in_jobs_needs_a_file_outside_the_checkout(file: Path):
    named = [
        word for word in re.findall(r"[\w./~-]+", file.read_text()) if word.startswith(("../", "/", "~")) and not word.startswith("//")
    ]
    assert not named


@pytest.mark.parametrize("file", [ROOT / "docs" / "synthesis.md"], ids=_named)
def test_a_run_can_start_from_every_yaml_in_the_documents(file: Path):
    blocks = re.findall(r"```yaml\n(.*?)```", file.read_text(), re.DOTALL)
    tables = re.findall(r"\| `synthesize\.(\w+)` \| \|\n\|---\|---\|\n((?:\|.*\n)*)", file.read_text())
    forms = [
        (key, form) for key, rows in tables for form in re.findall(r"^\| `(\{kind: .*?\})` \|", rows, re.MULTILINE) if "..." not in form
    ]
    assert blocks and {key for key, _ in forms} == {"engine", "embeddings"}
    for block in blocks:
        Settings.model_validate({"run": {"name": "r"}, **yaml.safe_load(block)})
    for key, form in forms:
        Settings.model_validate({"run": {"name": "r"}, "synthesize": {key: yaml.safe_load(form)}})


def test_a_run_can_start_from_every_task_that_the_documents_show():
    text = (ROOT / "docs" / "evaluation.md").read_text()
    tasks = [yaml.safe_load(block)["task"] for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    tasks += [{**tasks[0], "pairs": yaml.safe_load(form)} for form in re.findall(r"^\| `(\{kind: .*?\})` \|", text, re.MULTILINE)]
    template = (ROOT / "delia_ray" / "template.yaml").read_text()
    tasks += [yaml.safe_load(match)["task"] for match in re.findall(r"(task: \{kind: .*\})$", template, re.MULTILINE)]
    assert [task["kind"] for task in tasks] == ["translation", "messages", *["translation"] * 4, "format", "translation"]
    for task in tasks:
        Settings.model_validate({"run": {"name": "r"}, "task": task})


def test_every_metric_that_the_template_shows_can_be_chosen():
    lines = (ROOT / "delia_ray" / "template.yaml").read_text().splitlines()
    shown = [match[1].replace("# with ", "") for line in lines if (match := re.match(r"  #   (metric: .*)", line))]
    usual = next(match[1] for line in lines if (match := re.match(r"  metric: .*# (.*), or a list", line)))
    forms = [*({"metric": name} for name in usual.split(" | ")), *(_keys(line) for line in shown)]
    assert {*ANSWER_METRICS, "scores:close"} == {form["metric"] for form in forms}
    for form in forms:
        task, learned_metrics = (
            {"kind": "messages", "train": "a", "test": "b", **form},
            {"comet": {"checkpoint": "c"}, "bleurt": {"weights": "w"}},
        )
        Settings.model_validate({"run": {"name": "r"}, "task": task, "learned_metrics": learned_metrics})


def _keys(line: str) -> dict[str, str]:
    """``metric: regex   pattern: "a"`` as two keys; what follows a # is not meant."""
    return {key: yaml.safe_load(value) for key, value in re.findall(r'(\w+): +("[^"]*"|[\w.]+)', line.partition("#")[0])}


def test_every_alternative_that_the_template_shows_can_be_chosen():
    lines = (ROOT / "delia_ray" / "template.yaml").read_text().splitlines()
    shown = [match[1] for line in lines if (match := re.match(r"  #   (\{kind: .*\})", line))]
    kinds = {get_args(config.model_fields["kind"].annotation)[0] for config in get_args(get_args(Queries)[0])}
    assert {yaml.safe_load(each)["kind"] for each in shown} == kinds - {"magpie"}  # the default
    for each in shown:
        build_config(Settings, [ROOT / "delia_ray" / "template.yaml"], [f"synthesize.queries={each}"])
    options = [match[1] for line in lines if (match := re.match(r"  # ((?:mode|structured|draws_per_query): .*)", line))]
    assert len(options) == 3
    for each in options:
        Settings.model_validate({"run": {"name": "r"}, "synthesize": yaml.safe_load(each)})


@pytest.mark.parametrize("file", sorted((ROOT / "serve").glob("*.yaml")), ids=_named)
def test_ray_serve_accepts_every_yaml_in_serve_and_its_application_takes_the_arguments(file: Path):
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415  three seconds, for this test only

    for application in ServeDeploySchema.model_validate(yaml.safe_load(file.read_text())).applications:
        module, _, builder = application.import_path.partition(":")
        spec = importlib.util.spec_from_file_location(module, ROOT / f"{module.replace('.', '/')}.py")
        assert spec and spec.loader
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        inspect.signature(getattr(loaded, builder)).parameters["args"].annotation.model_validate(application.args)


@pytest.mark.parametrize(
    ("requirements", "pins"),
    [
        (PROJECT["dependencies"], ["cpu.txt"]),
        (PROJECT["optional-dependencies"]["cpu"], ["cpu.txt"]),
        (PROJECT["optional-dependencies"]["dev"], ["cpu.txt", "dev.txt"]),
    ],
    ids=["core", "cpu", "dev"],
)
def test_the_pinned_versions_satisfy_what_the_package_asks_for(requirements: list[str], pins: list[str]):
    pinned = {name: version for file in pins for name, version in _pins(file).items()}
    asked = [Requirement(text) for text in requirements]
    unmet = [str(each) for each in asked if not each.specifier.contains(pinned.get(canonicalize_name(each.name), "0"), prereleases=True)]
    assert not unmet


def test_the_gpu_extra_takes_the_same_ray_as_the_core():
    texts = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["gpu"]]
    rays = {str(each.specifier) for each in map(Requirement, texts) if each.name == "ray"}
    assert rays == {f"=={_pins('cpu.txt')['ray']}"}


@pytest.mark.parametrize("name", ["bench.txt", "cpu.txt", "dev.txt", "docs.txt", "gpu.txt", "gpu_check.txt", "learned_metrics.txt"])
def test_requirements_pin_every_package_and_name_no_index(name: str):
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    assert not [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", line)]


def test_a_gpu_is_checked_with_the_versions_of_a_gpu_machine_and_without_ray_and_vllm():
    pins, pinned = _pins("gpu_check.txt"), {**_pins("dev.txt"), **_pins("gpu.txt")}
    assert {name: pinned.get(name) for name in pins} == pins
    assert {"torch", "transformers", "peft", "deepspeed", "pytest"} <= set(pins) and not {"ray", "vllm"} & set(pins)


def test_every_job_opens_a_verb_that_no_other_job_opens():
    opened = {door.stem: re.findall(r'main\(\["([\w-]+)", \*sys\.argv\[1:\]\]\)', door.read_text()) for door in DOORS}
    assert {name: found for name, found in opened.items() if len(found) != 1} == {}
    heads = [head for found in opened.values() for head in found]
    assert len(heads) == len(set(heads)) and set(heads) <= {verb.split()[0] for verb in verbs()} - {"init", "keys", "schema", "help"}


def test_the_readmes_tree_has_every_module_in_the_order_of_imports():
    tree = (ROOT / "README.md").read_text().partition("delia_ray/          ")[2].partition("\njobs/")[0]
    shown = [name.removesuffix(".py").removesuffix("/") for name in re.findall(r"^  ([\w.]+/?) ", tree, re.MULTILINE)]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    depth = {module: number for number, layer in enumerate(layers) for module in layer.split(" | ")}
    del depth["__main__"]
    assert sorted(shown) == sorted(depth)
    assert [depth[module] for module in shown] == sorted(depth.values())


def test_no_job_hides_a_library():
    libraries = sys.stdlib_module_names | importlib.metadata.packages_distributions().keys() | {"serve", "tests", "delia_ray"}
    assert not [door.stem for door in DOORS if door.stem in libraries]
