"""Streams of iperf3 through a tunnel, running while a test does something else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from interop.netns import Namespace
from interop.shell import run, wait_until
from interop.tunnel import PORT, End

_PORT = 5201


class Flow:
    """A client and a server; begins when it is made.

    :param seconds: how long it sends.
    :param words: more options of the client, such as `-u -b 10M`.
    """

    def __init__(
        self, sender: End, receiver: End, seconds: float, words: str = "", version: int = 4
    ) -> None:
        lab = sender.lab.directory
        with (lab / f"iperf3-server-{receiver.interface}.log").open("ab") as log:
            self._server = receiver.namespace.start("iperf3", "-s", "-1", output=log)
        wait_until("iperf3 listens", lambda: _listening(receiver.namespace), 10)
        self._report = lab / f"iperf3-{sender.interface}-{receiver.interface}-{version}.json"
        with self._report.open("wb") as out:
            self._client = _client(sender.namespace, receiver, seconds, words, version, out)
        self._patience = seconds + 30
        self._ends = sender, receiver

    def wait_begun(self, within: float = 10) -> None:
        """Until a megabyte has come: its connections stand."""
        wait_until("traffic flows", lambda: self.received > 1_000_000, within)

    @property
    def received(self) -> int:
        """Bytes that the receiver has from the sender, of this flow and all before."""
        sender, receiver = self._ends
        return int(receiver.show("transfer", sender).split()[0])

    @property
    def running(self) -> bool:
        return self._client.poll() is None

    def result(self) -> dict[str, Any]:
        """The `end` of iperf3's report, once it has ended well: `sum`, `sum_received`."""
        status = self._client.wait(self._patience)
        report: dict[str, Any] = json.loads(self._report.read_text())
        assert status == 0 and "error" not in report, report.get("error", report)
        self._server.wait(10)
        end: dict[str, Any] = report["end"]
        return end


def _client(
    namespace: Namespace, receiver: End, seconds: float, words: str, version: int, out: IO[bytes]
) -> subprocess.Popen[bytes]:
    argv = f"iperf3 -J -c {receiver.inner(version)} -t {seconds} {words}"
    return namespace.start(*argv.split(), output=out)


def _listening(namespace: Namespace) -> bool:
    return f":{_PORT} " in namespace.run("ss", "-Htln")


def lost_on_the_way(result: dict[str, Any], receiver: End, way: str = "sum") -> int:
    """Datagrams of a UDP flow that are missing, without those that arrived in vain.

    On a loaded machine iperf3 may be too late to read; the kernel counts what its socket had no
    room for. Nothing is forgiven to the sockets of our daemon.

    :param way: `sum`, or `sum_bidir_reverse` for what the client received.
    """
    assert overflowed(receiver) == 0, "the daemon was too late to read its UDP socket"
    late = _fields(receiver.namespace.run("cat", "/proc/net/snmp"))["RcvbufErrors"]
    late += _fields6(receiver.namespace.run("cat", "/proc/net/snmp6"))["Udp6RcvbufErrors"]
    return max(0, int(result[way]["lost_packets"]) - late)


def overflowed(end: End) -> int:
    """Datagrams that the sockets of a daemon had no room for."""
    lines = end.namespace.run("cat", "/proc/net/udp", "/proc/net/udp6").splitlines()
    ours = [words for line in lines if (words := line.split())[1].endswith(f":{PORT:04X}")]
    assert ours, "the daemon has no sockets"
    return sum(int(words[-1]) for words in ours)


def drops(end: End) -> dict[str, int]:
    """Of our daemon, by reason."""
    text = run(sys.executable, "-m", "wgpy", "show", end.interface, "--json")
    named: dict[str, int] = json.loads(text)[end.interface].get("drops", {})
    return named


def _fields(snmp: str) -> dict[str, int]:
    names, values = (line.split()[1:] for line in snmp.splitlines() if line.startswith("Udp:"))
    return dict(zip(names, map(int, values), strict=True))


def _fields6(snmp6: str) -> dict[str, int]:
    return {name: int(value) for name, value in map(str.split, snmp6.splitlines())}


def crashes(directory: Path) -> list[str]:
    """Tracebacks in the logs of a lab's daemons."""
    return [log.name for log in directory.glob("*.log") if "Traceback" in log.read_text()]
