"""The paths of the endpoint: vLLM's application also has some that control the engine, which are not let through."""

from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from delia_ray.serving.http.errors import ApiError

MODELS = "/v1/models"
RESPONSES = "/v1/responses"
OPENAPI, DOCS = "/openapi.json", "/docs"
_WITHOUT_KEY = {"/", DOCS, "/health", OPENAPI}
_GET = {*_WITHOUT_KEY, "/metrics", "/version", MODELS}
_POST = {"/detokenize", "/tokenize", "/v1/chat/completions", "/v1/completions", RESPONSES}
STATIC = "/static/"
"""Below it are the files of ``/docs``."""
_FOLDERS = (STATIC, f"{MODELS}/")
"""Below which there are paths for GET."""


def get_path(scope: Scope) -> str:
    """The path of a request below the application's."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def needs_key(path: str) -> bool:
    """Whether a path answers only to who has a key, where keys are asked for."""
    return path not in _WITHOUT_KEY and not path.startswith(STATIC)


def check_path(path: str, method: str) -> None:
    """Let through what belongs to the API.

    Raises:
        ApiError: there is no such path, or it takes no such method.
    """
    if method == "OPTIONS":
        return
    reads = path in _GET or (path.startswith(_FOLDERS) and ".." not in path)
    if not reads and path not in _POST:
        raise ApiError(404, f"there is no {path[:100]!r} here", code="not_found")
    allowed = ("GET", "HEAD") if reads else ("POST",)
    if method not in allowed:
        raise ApiError(405, f"{path[:100]} takes {allowed[0]}, not {method}", headers={"allow": ", ".join(allowed)})


def keep_open_paths(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document without the paths that are not let through."""
    return {**document, "paths": {path: each for path, each in document["paths"].items() if path in _GET or path in _POST}}
