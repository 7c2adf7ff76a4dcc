"""Custom metrics: load a user's function by ``module:function``, with the working folder first on the import path."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

from delia_ray.core.errors import UserError

_SHOWN_CHARACTERS = 200
RowMetric: TypeAlias = Callable[[str, str], float]
"""(output, reference) -> 0 to 1."""


def load_metric(name: str) -> RowMetric:
    """Import the function that ``name`` (``module:function``) refers to. It runs in the process that imports it and is never pickled.

    Raises:
        UserError: the module or function does not exist, does not import, or cannot be called with an output and a reference.
    """
    module_name, _, function_name = name.partition(":")
    with _prepend_working_folder():
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or module_name
            way_out = "put it there" if f"{module_name}.".startswith(f"{missing}.") else "install it"
            raise UserError(f"task.metric: {name}: there is no module {missing!r} in {Path.cwd()} or installed; {way_out}") from None
        except (ImportError, SyntaxError) as error:
            raise UserError(f"task.metric: {name}: {module_name} does not import ({error}); correct it") from None
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        functions = ", ".join(sorted(each for each, value in vars(module).items() if inspect.isfunction(value))) or "none"
        raise UserError(f"task.metric: {name}: {module_name} has no function {function_name!r}; its functions: {functions}")
    try:
        inspect.signature(function).bind("output", "reference")
    except TypeError as error:
        raise UserError(f"task.metric: {name} must take (output, reference), and {error}; change its parameters") from None
    except ValueError:
        pass  # some functions written in C have no signature
    return cast(RowMetric, function)


class MetricError(Exception):
    """An exception that a custom metric raised."""


def wrap_exceptions(metric: RowMetric) -> RowMetric:
    """Return ``metric`` with every exception turned into a ``MetricError`` that names the exception, file and line."""

    def score(output: str, reference: str) -> float:
        try:
            return metric(output, reference)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raised = " ".join("".join(traceback.format_exception_only(error)).split())
            frame = traceback.extract_tb(error.__traceback__)[1:2]
            raise MetricError(raised[:_SHOWN_CHARACTERS] + "".join(f" in {Path(f.filename).name} line {f.lineno}" for f in frame)) from None

    return score


def find_source_file(metric: RowMetric) -> Path | None:
    """Return the source file of a custom metric; None if it is not written in Python."""
    try:
        return Path(inspect.getsourcefile(metric) or inspect.getfile(metric))
    except TypeError:
        return None


@contextmanager
def _prepend_working_folder() -> Generator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
