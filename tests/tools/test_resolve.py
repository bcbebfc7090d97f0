"""Endpoints by name, with a resolver and a clock of the test's own."""

import socket

import pytest

from wgpy.protocol.config import Endpoint
from wgpy.tools.resolve import resolve_endpoint

V4 = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", 7))
V6 = (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("2001:db8::1", 7, 0, 0))


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken


def answering(monkeypatch: pytest.MonkeyPatch, *answers: object) -> None:
    left = iter(answers)

    def getaddrinfo(*arguments: object, **more: object) -> object:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)


AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_the_first_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, [V6, V4])
    assert resolve_endpoint("vpn.example:7") == Endpoint("2001:db8::1", 7)


def test_a_passing_failure_is_asked_again_with_growing_patience(
    monkeypatch: pytest.MonkeyPatch, naps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, AGAIN, AGAIN, AGAIN, [V4])
    assert resolve_endpoint("vpn.example:7") == Endpoint("192.0.2.1", 7)
    assert naps == pytest.approx([1.0, 1.2, 1.44])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and told[0].endswith("name resolution; trying again in 1.00 seconds")


@pytest.mark.parametrize(
    ("variable", "tries"), [(None, 16), ("", 16), ("3", 4), ("0", 1), ("x", 16)]
)
def test_the_environment_says_how_often(
    monkeypatch: pytest.MonkeyPatch, naps: list[float], variable: str | None, tries: int
) -> None:
    monkeypatch.delenv("WG_ENDPOINT_RESOLUTION_RETRIES", raising=False)
    if variable is not None:
        monkeypatch.setenv("WG_ENDPOINT_RESOLUTION_RETRIES", variable)
    answering(monkeypatch, *[AGAIN] * 100)
    with pytest.raises(ValueError, match="cannot be resolved: Temporary failure"):
        resolve_endpoint("vpn.example:7")
    assert len(naps) == tries - 1 and max(naps, default=0) <= 20


def test_infinity_has_no_end(monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> None:
    monkeypatch.setenv("WG_ENDPOINT_RESOLUTION_RETRIES", "infinity")
    answering(monkeypatch, *[AGAIN] * 1000, [V4])
    assert resolve_endpoint("vpn.example:7") == Endpoint("192.0.2.1", 7)


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_FAIL, socket.EAI_NODATA])
def test_a_lasting_failure_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, naps: list[float], number: int
) -> None:
    answering(monkeypatch, socket.gaierror(number, "no such name"))
    with pytest.raises(ValueError, match="'vpn.example' cannot be resolved: no such name"):
        resolve_endpoint("vpn.example:7")
    assert naps == []


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1:0", Endpoint("192.0.2.1", 0)),
        ("[2001:db8::1]:65535", Endpoint("2001:db8::1", 65535)),
        ("2001:db8::1:5", Endpoint("2001:db8::1", 5)),
        ("[fe80::1%lo]:5", Endpoint("fe80::1", 5, 1)),
    ],
)
def test_addresses_need_no_resolver(text: str, endpoint: Endpoint) -> None:
    assert resolve_endpoint(text) == endpoint
