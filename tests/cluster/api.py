"""The API server as a test speaks to it: JSON over HTTPS, with a bearer token."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"


class ApiError(RuntimeError):
    """The API server refused; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Api:
    """One identity at the API server."""

    host: str
    port: int
    ca: Path
    token: str
    timeout: float = 60.0

    def get(self, path: str) -> Json:
        return self.request("GET", path)

    def create(self, path: str, body: Json) -> Json:
        return self.request("POST", path, body)

    def merge(self, path: str, body: Json) -> Json:
        """Change the fields that `body` names."""
        return self.request("PATCH", path, body, _MERGE)

    def apply(self, path: str, body: Json, manager: str) -> Json:
        """Server-side apply, forced."""
        query = f"?fieldManager={manager}&force=true"
        return self.request("PATCH", path + query, body, _APPLY)

    def delete(self, path: str) -> Json:
        return self.request("DELETE", path)

    def request(
        self, method: str, path: str, body: Json | None = None, kind: str = "application/json"
    ) -> Json:
        """:raises ApiError: the status is not 2xx.
        :raises OSError: no connection.
        """
        with self._response(method, path, body, kind) as response:
            answer: Json = json.loads(response.read())
        return answer

    def text(self, path: str) -> str:
        """As `request`, of what is not JSON, such as `/readyz`."""
        with self._response("GET", path, None, "") as response:
            return response.read().decode()

    def watch(self, path: str) -> Iterator[Json]:
        """Events of a watch, until the server ends it or `timeout` s pass in silence."""
        with self._response("GET", path, None, "") as response:
            for line in response:
                yield json.loads(line)

    def kubeconfig(self, path: Path) -> Path:
        """Write what the official clients read, with the token in it; readable by root alone."""
        cluster = {
            "server": f"https://{self.host}:{self.port}",
            "certificate-authority": str(self.ca),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    @contextmanager
    def _response(
        self, method: str, path: str, body: Json | None, kind: str
    ) -> Iterator[http.client.HTTPResponse]:
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=self.timeout, context=context
        )
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            if response.status >= 300:
                raise ApiError(response.status, _message_untrusted(response.read()))
            yield response
        finally:
            connection.close()


def _message_untrusted(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]
