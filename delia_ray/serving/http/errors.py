"""Errors in the form of OpenAI's API."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Send


@dataclass(eq=False)
class ApiError(Exception):
    """An answer with ``{"error": {...}}``."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    async def send(self, send: Send) -> None:
        """Answer with it."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        body = json.dumps({"error": error}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        start = {"type": "http.response.start", "status": self.status, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
        await send(start)
        await send({"type": "http.response.body", "body": body})
