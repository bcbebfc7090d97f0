"""The start of an agent and its end, as far as they need no cluster."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from agent import log, run
from agent.apierrors import ForbiddenError, KubeError, OverloadedError, UnreachableError
from agent.launcher import listen
from agent.network.base import NetworkError
from agent.options import Options, parse
from tests.agent import virtualtime
from wgpy.dataplane import Availability

T = TypeVar("T")
KUBEADM = parse(["--node", "me", "--overlay", "fd00:10::/48", "--overlay", "kubeadm"], {})


class FakeBackend:
    plane = "kernel"
    availability = Availability()


class FakeMachine:
    """Its descriptor is never readable."""

    def __init__(self, *_: object) -> None:
        self.ends = os.pipe()
        self.watch = SimpleNamespace(fileno=lambda: self.ends[0], changes=frozenset)

    def close(self) -> None:
        for end in self.ends:
            os.close(end)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stays as it is, on a node that has all that it needs."""
    monkeypatch.setattr(run, "harden", lambda: None)
    monkeypatch.setattr(log, "set_up", lambda *_: None)
    monkeypatch.setattr(run, "Backend", lambda *_: FakeBackend())
    monkeypatch.setattr(run, "Machine", FakeMachine)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def options(path: Path, *more: str) -> Options:
    given = ["--node", "me", "--listen", "127.0.0.1:0", "--control", str(path / "agent.sock")]
    return parse([*given, "--launcher", "", *more], {})


def criticals(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.CRITICAL]


def test_without_an_account_it_ends_with_status_1_and_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run.run(options(tmp_path)) == 1
    (record,) = criticals(caplog)
    assert record.getMessage() == (
        "in-cluster access: KUBERNETES_SERVICE_HOST is not set; run it in a pod, or give "
        "--kubeconfig"
    )
    assert record.exc_info is None


@pytest.mark.parametrize("text", [None, "token: [secret", "users: 3", ""])
def test_a_kubeconfig_that_is_no_use_ends_it_with_status_1_and_is_not_quoted(
    text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    assert run.run(options(tmp_path, "--kubeconfig", str(path))) == 1
    (record,) = criticals(caplog)
    assert str(path) in record.getMessage()
    assert record.getMessage().endswith("give another --kubeconfig")
    assert "secret" not in caplog.text
    assert record.exc_info is None


def test_a_second_agent_ends_with_status_1_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def from_kubeconfig(_: Path) -> object:
        return SimpleNamespace(host="https://[::1]:1")

    async def close() -> None:
        """Nothing to close."""

    monkeypatch.setattr(run, "from_kubeconfig", from_kubeconfig)
    monkeypatch.setattr(run, "ApiServer", lambda _: SimpleNamespace(close=close))
    given = options(tmp_path, "--kubeconfig", "any")
    with listen(given.control):
        assert run.run(given) == 1
    (record,) = criticals(caplog)
    assert "another process serves it" in record.getMessage()
    assert record.exc_info is None


def test_a_fault_of_its_own_ends_it_with_status_1_and_all_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(run, "Machine", faulty)
    assert run.run(options(tmp_path)) == 1
    (record,) = criticals(caplog)
    assert record.exc_info is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_after_the_work_at_hand(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = []

    def backend(*_: object) -> FakeBackend:
        os.kill(os.getpid(), number)
        done.append(number)
        raise NetworkError("no data plane")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(run, "Backend", backend)
    assert run.run(options(tmp_path)) == 0
    assert done == [number]
    assert "the agent ends; traffic goes on as it is" in caplog.text


class Here(run.Worker):
    """Does what blocks at once."""

    def __init__(self) -> None:
        super().__init__(ThreadPoolExecutor())

    async def do(self, job: Callable[[], T]) -> T:
        return job()


def test_it_waits_for_a_data_plane_and_says_once_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    def backend(*_: object) -> FakeBackend:
        tries.append(virtualtime.now())
        if len(tries) < 8:
            raise NetworkError("no launcher" if len(tries) < 4 else "no tun")
        return FakeBackend()

    monkeypatch.setattr(run, "Backend", backend)
    found = virtualtime.play(lambda: run.open_backend(KUBEADM, Here()))
    assert isinstance(found, FakeBackend)
    assert tries == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5]
    assert [record.getMessage() for record in caplog.records] == ["no launcher", "no tun"]


class FakeKube:
    """kubeadm's ranges, after as much trouble."""

    def __init__(self, ranges: list[str], *trouble: KubeError) -> None:
        self.ranges, self.trouble = ranges, list(trouble)

    async def kubeadm_pod_ranges(self) -> list[str]:
        if self.trouble:
            raise self.trouble.pop(0)
        return self.ranges


def test_kubeadm_is_not_asked_unless_told_to() -> None:
    given = parse(["--node", "me", "--overlay", "10.244.0.0/16"], {})
    kube = FakeKube([], ForbiddenError("403", "kubeadm-config"))
    found = virtualtime.play(lambda: run.overlay_ranges(given, kube))
    assert found == ((ip_network("10.244.0.0/16"),), [])
    assert kube.trouble


def test_the_ranges_of_kubeadm_are_waited_for_while_the_server_is_away() -> None:
    kube = FakeKube(
        ["10.244.0.0/16"], UnreachableError("refused", "GET"), OverloadedError("429", "GET")
    )
    found = virtualtime.play(lambda: run.overlay_ranges(KUBEADM, kube))
    assert found == ((ip_network("fd00:10::/48"), ip_network("10.244.0.0/16")), [])


@pytest.mark.parametrize(
    "kube",
    [
        FakeKube([], ForbiddenError("403", "kubeadm-config", "apply the RBAC manifests")),
        FakeKube(["10.244.0.0/16", "10.244.0.1/16"]),
        FakeKube([""]),
    ],
)
def test_ranges_that_kubeadm_cannot_tell_are_a_problem_and_the_others_count(kube: FakeKube) -> None:
    overlay, (problem,) = virtualtime.play(lambda: run.overlay_ranges(KUBEADM, kube))
    assert overlay == (ip_network("fd00:10::/48"),)
    assert problem.severity == "warning"
    assert problem.what.startswith("pod ranges of kubeadm: ")
    assert problem.advice
