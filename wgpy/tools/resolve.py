"""Endpoints by name: ask the resolver, with patience where the failure may pass."""

import os
import socket
import sys
import time

from wgpy.protocol.config import Endpoint
from wgpy.tools.values import split_endpoint

_RETRIES_VARIABLE = "WG_ENDPOINT_RESOLUTION_RETRIES"
_RETRIES = 15
# Seconds between tries: from the first up to the last, each 1.2 times the one before.
_FIRST_DELAY = 1.0
_LAST_DELAY = 20.0
_GROWTH = 1.2
# What asking again does not change.
_PERMANENT = (socket.EAI_NONAME, socket.EAI_FAIL, socket.EAI_NODATA)


def _retries() -> float:
    text = os.environ.get(_RETRIES_VARIABLE, "")
    if text == "infinity":
        return float("inf")
    return int(text) if text.isascii() and text.isdigit() else _RETRIES


def resolve_endpoint(text: str) -> Endpoint:
    """`HOST:PORT` with its host looked up if it is a name; the first address counts.

    ValueError if it is malformed or cannot be resolved. Each failed try that is repeated, as
    often as WG_ENDPOINT_RESOLUTION_RETRIES allows, is told on standard error.
    """
    host, port = split_endpoint(text)
    retries = _retries()
    delay = _FIRST_DELAY
    while True:
        try:
            return _look_up(host, port)
        except socket.gaierror as error:
            if error.errno in _PERMANENT or retries <= 0:
                raise ValueError(f"{host!r} cannot be resolved: {error.strerror}") from None
            reason = error.strerror
        except OSError as error:
            raise ValueError(f"{host!r} cannot be resolved: {error}") from None
        print(
            f"wgpy: {host!r} cannot be resolved: {reason}; trying again in {delay:.2f} seconds",
            file=sys.stderr,
        )
        time.sleep(delay)
        retries -= 1
        delay = min(_LAST_DELAY, delay * _GROWTH)


def _look_up(host: str, port: int) -> Endpoint:
    # As bytes: a str would be converted by the idna codec, which refuses names that resolve.
    found = socket.getaddrinfo(
        os.fsencode(host), port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP
    )
    family, _, _, _, address = found[0]
    name = str(address[0])
    if family != socket.AF_INET6:
        return Endpoint(name, port)
    return Endpoint(name.partition("%")[0], port, int(address[3]) if len(address) == 4 else 0)
