"""The public names are there, are few, and cost nothing until they are used."""

import subprocess
import sys

import delia_ray

HEAVY = ("ray", "torch", "transformers", "vllm", "deepspeed", "pydantic")


def test_every_public_name_is_found_and_documented():
    assert len(delia_ray.__all__) <= 14
    for name in delia_ray.__all__:
        assert (getattr(delia_ray, name).__doc__ or "").strip(), name
    assert set(delia_ray.__all__) <= set(dir(delia_ray))


def test_importing_the_package_imports_no_library():
    code = f"import sys, delia_ray; print(*(name for name in {HEAVY} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
