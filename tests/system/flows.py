"""Streams of iperf3 through a tunnel, running while a test does something else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO, Any

from interop.netns import Namespace
from interop.shell import wait_until
from interop.tunnel import End

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
        self._report = lab / f"iperf3-{sender.interface}-{version}.json"
        with self._report.open("wb") as out:
            self._client = _client(sender.namespace, receiver, seconds, words, version, out)
        self._patience = seconds + 30

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


def crashes(directory: Path) -> list[str]:
    """Tracebacks in the logs of a lab's daemons."""
    return [log.name for log in directory.glob("*.log") if "Traceback" in log.read_text()]
