"""The API server in plain JSON, over the connection of the official client.

Its models are left aside: they take a schema for granted that others' objects may not have.
"""

import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_kube_config

from agent.apierrors import AccessError, KubeError, UnreachableError, refusal

Json: TypeAlias = dict[str, Any]
Query: TypeAlias = Sequence[tuple[str, str]]

# Where kubelet puts what a pod signs in with.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
# Seconds. A write that takes longer is tried again anyway.
_TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=5)
# How much longer than it said a server may take to end a watch.
_GRACE = 15
# A connection that lost its way is noticed after 25 s of silence: idle + count * interval.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_USER_TIMEOUT_MS = 25_000
_MAX_ERROR = 1 << 16


class ApiServer:
    """One identity at one API server. All methods raise KubeError."""

    def __init__(self, configuration: Configuration) -> None:
        self._client = ApiClient(configuration)
        self._client.user_agent = "wgpy-agent"
        self._client.rest_client = _Rest(configuration)
        self._host = configuration.host

    async def get(self, path: str, query: Query = ()) -> Json:
        return await self._request("GET", path, query)

    async def date(self) -> str | None:
        """The server's clock, as HTTP tells it."""
        response = await self._open("GET", "/version", (), "GET /version", _TIMEOUT)
        response.close()
        return response.headers.get("Date")

    async def create(self, path: str, body: Json) -> Json:
        return await self._request("POST", path, (), body)

    async def merge(self, path: str, body: Json) -> Json:
        """Change the fields that `body` names."""
        return await self._request("PATCH", path, (), body, _MERGE)

    async def apply(self, path: str, body: Json, manager: str, *, dry_run: bool = False) -> Json:
        """Server-side apply: what `body` says is so, whoever said otherwise.

        `dry_run`: only as far as to see whether the server would do it.
        """
        query: Query = (("fieldManager", manager), ("force", "true"))
        if dry_run:
            query = (*query, ("dryRun", "All"))
        return await self._request("PATCH", path, query, body, _APPLY)

    @asynccontextmanager
    async def watch(
        self, path: str, query: Query, seconds: int
    ) -> AsyncIterator[AsyncIterator[Json]]:
        """`async with` it: the server has agreed, and events follow, for about `seconds`."""
        where = f"watch of {path}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=seconds + _GRACE)
        asked = (*query, ("watch", "true"), ("timeoutSeconds", str(seconds)))
        response = await self._open("GET", path, asked, where, timeout)
        try:
            yield _lines(response, where)
        finally:
            response.close()

    async def close(self) -> None:
        await self._client.close()

    async def _request(
        self,
        method: str,
        path: str,
        query: Query,
        body: Json | None = None,
        kind: str = "application/json",
    ) -> Json:
        where = f"{method} {path}"
        response = await self._open(method, path, query, where, _TIMEOUT, body, kind)
        return _object(await _told(response.read(), where), where)

    async def _open(
        self,
        method: str,
        path: str,
        query: Query,
        where: str,
        timeout: aiohttp.ClientTimeout,
        body: Json | None = None,
        kind: str = "application/json",
    ) -> aiohttp.ClientResponse:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
        )
        where = f"{where} at {self._host}"
        answer = await _told(self._client.call_api(*request, _request_timeout=timeout), where)
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 300:
            try:
                text = await _told(response.content.read(_MAX_ERROR), where)
            finally:
                response.close()
            raise refusal(response.status, text, response.headers.get("Retry-After"), where)
        return response


def in_cluster(environ: Mapping[str, str], account: Path = ACCOUNT) -> Configuration:
    """As the pod's ServiceAccount. KubeError if this is no pod.

    The token is read anew for each request: kubelet replaces it long before it expires.
    """
    try:
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    except KeyError as missing:
        advice = "run it in a pod, or give --kubeconfig"
        raise AccessError(f"{missing.args[0]} is not set", "in-cluster access", advice) from None
    ca = account / "ca.crt"
    if not ca.is_file():
        advice = "see whether the pod has its ServiceAccount's token mounted"
        raise AccessError(f"{ca} is missing", "in-cluster access", advice)
    configuration = _configuration()
    configuration.host = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    configuration.ssl_ca_cert = str(ca)
    read = _token_reader(account / "token")
    # The hook is asked only where there is a token already.
    read(configuration)
    configuration.refresh_api_key_hook = read
    return configuration


async def from_kubeconfig(path: Path) -> Configuration:
    """As the current context of a kubeconfig says. KubeError."""
    configuration = _configuration()
    try:
        await load_kube_config(config_file=str(path), client_configuration=configuration)
    except ConfigException as error:
        raise AccessError(str(error), str(path), "give another --kubeconfig") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        # Not its text: it may quote the file, which has a token.
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        what = f"it cannot be read ({reason})"
        raise AccessError(what, str(path), "give another --kubeconfig") from None
    return configuration


def _configuration() -> Configuration:
    configuration = Configuration()
    # RFC 5280 to the letter, Python 3.13's default: the CAs of many clusters do not comply.
    configuration.disable_strict_ssl_verification = True
    return configuration


def _token_reader(path: Path) -> Callable[[Configuration], None]:
    def read(configuration: Configuration) -> None:
        try:
            token = path.read_text().strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            advice = "see whether the pod has its ServiceAccount's token mounted"
            raise AccessError(f"cannot read the token: {reason}", str(path), advice) from None
        configuration.api_key["BearerToken"] = f"Bearer {token}"

    return read


class _Rest(RESTClientObject):  # type: ignore[misc]
    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(ssl=self.ssl_context, socket_factory=_open_socket)


def _open_socket(address: Any) -> socket.socket:
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    for option, value in _KEEPALIVE:
        opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened


async def _lines(response: aiohttp.ClientResponse, where: str) -> AsyncIterator[Json]:
    while line := await _told(response.content.readline(), where):
        yield _object(line, where)


async def _told(awaitable: Any, where: str) -> Any:
    """What comes of it, failures of the way there as KubeError."""
    try:
        return await awaitable
    except KubeError:
        raise
    except ssl.SSLCertVerificationError as error:
        advice = "see whether the CA that the agent was given is the API server's"
        # aiohttp wraps it.
        reason = getattr(error, "certificate_error", error).verify_message
        raise UnreachableError(f"its certificate: {reason}", where, advice) from None
    except TimeoutError:
        raise UnreachableError("no answer in time", where) from None
    # ValueError: a line beyond all limits.
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UnreachableError(str(error) or type(error).__name__, where) from None


def _object(text: bytes, where: str) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise UnreachableError("the answer is not JSON", where) from None
    if not isinstance(value, dict):
        raise UnreachableError("the answer is no JSON object", where)
    return value
