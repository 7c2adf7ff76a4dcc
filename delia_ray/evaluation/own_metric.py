"""A metric of the user's own: ``module:function``, found from the working folder."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

from delia_ray.errors import UserError

_SHOWN_CHARACTERS = 200
RowMetric: TypeAlias = Callable[[str, str], float]
"""(output, reference) -> 0 to 1."""


def load_metric(name: str) -> RowMetric:
    """The function that ``name`` (``module:function``) stands for. It is imported where it is called, and never sent anywhere.

    Raises:
        UserError: there is no such module or function, it does not import, or it cannot be called with an output and a reference.
    """
    module_name, _, function_name = name.partition(":")
    with _working_folder_first():
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or module_name
            way_out = "put it there" if f"{module_name}.".startswith(f"{missing}.") else "install it"
            raise UserError(f"task.metric: {name}: there is no module {missing!r} in {Path.cwd()} or installed; {way_out}") from None
        except (ImportError, SyntaxError) as error:
            raise UserError(f"task.metric: {name}: {module_name} does not import ({error}); mend it") from None
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        there = ", ".join(sorted(each for each, value in vars(module).items() if inspect.isfunction(value))) or "none"
        raise UserError(f"task.metric: {name}: {module_name} has no function {function_name!r}; its functions: {there}")
    try:
        inspect.signature(function).bind("output", "reference")
    except TypeError as error:
        raise UserError(f"task.metric: {name} must take (output, reference), and {error}; change its parameters") from None
    except ValueError:
        pass  # some functions written in C do not tell
    return cast(RowMetric, function)


class MetricFailure(Exception):
    """A function of the user's own raised."""


def guarded(metric: RowMetric) -> RowMetric:
    """``metric``, whose every exception comes as a ``MetricFailure`` that says what it was and where."""

    def score(output: str, reference: str) -> float:
        try:
            return metric(output, reference)
        except (Exception, SystemExit) as error:  # it is the user's code, which may raise anything
            raised = " ".join("".join(traceback.format_exception_only(error)).split())
            frame = traceback.extract_tb(error.__traceback__)[1:2]
            raise MetricFailure(
                raised[:_SHOWN_CHARACTERS] + "".join(f" in {Path(f.filename).name} line {f.lineno}" for f in frame)
            ) from None

    return score


def source_file(metric: RowMetric) -> Path | None:
    """The file a metric of the user's own is written in; null for one that is not written in Python."""
    try:
        return Path(inspect.getsourcefile(metric) or inspect.getfile(metric))
    except TypeError:
        return None


@contextmanager
def _working_folder_first() -> Generator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
