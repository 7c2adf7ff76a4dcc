"""Write the schemas beside this file: what reads cluster/kuberay/ and cluster/skypilot.yaml, cut to the fields that those files use.

    python tests/unit/data/make_subsets.py kuberay CLONE    # a clone of github.com/ray-project/kuberay with its tags
    python tests/unit/data/make_subsets.py podmonitor CLONE # a clone of github.com/prometheus-operator/prometheus-operator with its tags
    python tests/unit/data/make_subsets.py skypilot         # in an environment with skypilot

The whole schemas are megabytes. A subset has the types, patterns and required fields of its source, and is closed: a file that uses
another field needs this script again, which stops at a field that the source does not have.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CLUSTER = HERE.parents[2] / "cluster"
KUBERAY_TAGS = ("v1.5.2", "v1.6.2", "v1.7.0")
"""The newest release of each of the last three minor versions."""
OPERATOR_TAG = "v0.93.0"
_KINDS = {"RayCluster": ("rayclusters", 53), "RayJob": ("rayjobs", 47), "RayService": ("rayservices", 47)}
"""Kind -> file of its CRD, longest name that the operator takes (ray-operator/controllers/ray/utils/constant.go)."""
_KEPT = ("type", "enum", "pattern", "required", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "anyOf", "oneOf")


def write_kuberay(clone: Path) -> None:
    """Write for each tag kind -> schema; tags with the same schemas share an entry."""
    entries: list[dict[str, Any]] = []
    files = [yaml.safe_load(file.read_text()) for file in sorted((CLUSTER / "kuberay").glob("*.yaml"))]
    for tag in KUBERAY_TAGS:
        schemas: dict[str, Any] = {}
        for kind, (plural, longest) in _KINDS.items():
            path = f"{tag}:helm-chart/kuberay-operator/crds/ray.io_{plural}.yaml"
            crd = yaml.load(_show(clone, path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            whole = next(each for each in crd["spec"]["versions"] if each["name"] == "v1")["schema"]["openAPIV3Schema"]
            used = [file for file in files if file["kind"] == kind]
            name = {"type": "string", "maxLength": longest, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}
            metadata = {"type": "object", "required": ["name"], "properties": {"name": name}}
            constants = {"apiVersion": {"enum": ["ray.io/v1"]}, "kind": {"enum": [kind]}, "metadata": metadata}
            schemas[kind] = cut({**whole, "properties": {**whole["properties"], **constants}}, used, kind)
        if entries and entries[-1]["schemas"] == schemas:
            entries[-1]["releases"].append(tag)
        else:
            entries.append(
                {"source": "github.com/ray-project/kuberay, helm-chart/kuberay-operator/crds", "releases": [tag], "schemas": schemas}
            )
    _write("kuberay.json", entries)


def write_pod_monitor(clone: Path) -> None:
    """Write the schema of a PodMonitor."""
    path = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
    crd = yaml.safe_load(_show(clone, f"{OPERATOR_TAG}:{path}"))
    whole = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    metadata = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "labels": {"type": "object"}}}
    constants = {"apiVersion": {"enum": ["monitoring.coreos.com/v1"]}, "kind": {"enum": ["PodMonitor"]}, "metadata": metadata}
    used = yaml.safe_load((CLUSTER / "kuberay/podmonitor.yaml").read_text())
    schema = cut({**whole, "properties": {**whole["properties"], **constants}}, [used], "PodMonitor")
    source = f"github.com/prometheus-operator/prometheus-operator, {path}"
    _write("podmonitor.json", [{"source": source, "releases": [OPERATOR_TAG], "schemas": {"PodMonitor": schema}}])


def write_skypilot() -> None:
    """Write the schemas of a task and of its resources."""
    import sky  # pyright: ignore[reportMissingImports]  # noqa: PLC0415  not a dependency
    from sky.utils import schemas  # pyright: ignore[reportMissingImports]  # noqa: PLC0415

    task = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    parts = {
        "task": cut(schemas.get_task_schema(), [task], "task"),
        "resources": cut(schemas.get_resources_schema(), [task["resources"]], "resources"),
    }
    _write("skypilot.json", [{"source": "skypilot, sky/utils/schemas.py", "releases": [sky.__version__], "schemas": parts}])


def cut(schema: dict[str, Any], used: Sequence[Any], path: str) -> dict[str, Any]:
    """Return ``schema`` with the properties that any of the values ``used`` has, and no others allowed.

    Raises:
        SystemExit: a value has a property that the schema does not.
    """
    kept = {key: value for key, value in schema.items() if key in _KEPT}
    if "properties" in schema:
        values = [value for value in used if isinstance(value, dict)]
        names = sorted({name for value in values for name in value})
        if unknown := [name for name in names if name not in schema["properties"]]:
            raise SystemExit(f"{path}: no {', '.join(unknown)} in the source")
        below = {name: [value[name] for value in values if name in value] for name in names}
        kept["properties"] = {name: cut(schema["properties"][name], below[name], f"{path}.{name}") for name in names}
        kept["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = cut(schema["additionalProperties"], [], path)
    elif "patternProperties" in schema:
        kept |= {key: schema[key] for key in ("patternProperties", "additionalProperties") if key in schema}
    if "items" in schema:
        kept["items"] = cut(schema["items"], [item for value in used if isinstance(value, list) for item in value], f"{path}[]")
    return kept


def _show(clone: Path, path: str) -> str:
    return subprocess.run(["git", "-C", str(clone), "show", path], check=True, capture_output=True, text=True).stdout


def _write(name: str, entries: list[dict[str, Any]]) -> None:
    (HERE / name).write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["kuberay", clone]:
            write_kuberay(Path(clone))
        case ["podmonitor", clone]:
            write_pod_monitor(Path(clone))
        case ["skypilot"]:
            write_skypilot()
        case _:
            raise SystemExit(__doc__)
