"""Traffic that goes on while something else happens."""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack

from interop.shell import ScenarioFailed, expect
from interop.tunnel import End

INTERVAL = 0.2


class Echoes:
    """Echoes from one end to the other, 5 a second, until the block ends."""

    def __init__(self, block: ExitStack, end: End, peer: End) -> None:
        self._report = end.lab.directory / f"ping-{end.interface}"
        output = block.enter_context(self._report.open("wb"))
        words = f"ping -n -q -i {INTERVAL} {peer.inner()}"
        self._process = end.namespace.start(*words.split(), output=output)

    def lost(self) -> int:
        """End them: how many were not answered."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        text = self._report.read_text()
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", text)
        if counts is None:
            raise ScenarioFailed(f"ping said: {text}")
        expect(int(counts[2]) > 0, "no echo was answered at all")
        return int(counts[1]) - int(counts[2])
