"""What is sent of itself, and when: retries and keepalives, with the kernel's as a measure."""

from __future__ import annotations

import itertools
import socket
import time

from interop.counterparts.base import Implementation
from interop.keys import new_key_pair
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.scenarios.silence import keepalive_gaps, seconds_until_keepalive
from interop.shell import expect
from interop.tunnel import PORT, End, ends, tunnel
from interop.wire import INITIATION, Capture, capture

_PEERS = 10
_RETRY = 5.0
_JITTER = 1 / 3
_COARSE = 0.27
"""Seconds by which the kernel's timers of some seconds may be late: 64 ticks of 4 ms."""
_LATE = 0.4
"""Seconds granted to a loaded machine."""
_SPREAD = 0.1
"""Of thirty times with a jitter of 0.33 s, all fall within so little once in 10^14 runs."""
_ALIKE = 0.5


@scenario()
def nobody_answers(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Ten peers are deaf: left initiates to each every 5 s and a jitter of up to a third of one.

    left ──── initiation, 0 / 5 / 10 / 15 s ───x port 1 of right, where nobody reads
         ──── initiation, 0 / 5 / 10 / 15 s ───x port 2
          …                                      …
    """
    a, b = ends(lab, left, right)
    with capture(b.namespace, lab.directory) as wire:
        _knock(a, b)
        time.sleep(17)
    gaps = _gaps(wire, a)
    text = f"{min(gaps):.2f} to {max(gaps):.2f} s"
    latest = _RETRY + _JITTER + _COARSE + _LATE
    expect(min(gaps) > _RETRY - 0.1 and max(gaps) < latest, f"retried after {text}")
    expect(max(gaps) - min(gaps) > _SPREAD, f"no jitter: retried after {text}")


@scenario(both_ways=False, alone=True, kernel="the kernel is the model, not another daemon")
def timed_like_the_kernel(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Retries with their jitter, passive and persistent keepalives come when the kernel's do.

    ours ── initiations ──x ten deaf peers          kernel ── the same ──x
    kernel ── data ──> ours ── empty, after 10 s ──>          and with exchanged roles
    ours ── empty, every 2 s ──> kernel                       and with exchanged roles

    What was measured is in `timing.txt`, beside the captures.
    """
    ours, theirs = _measure(lab, left, right), _measure(lab, right, left)
    lines, differences = [], []
    for what, mine in ours.items():
        line = f"{what}: {_range(mine)}, the kernel's {_range(theirs[what])}"
        lines.append(f"{line}\n")
        alike = (abs(pick(mine) - pick(theirs[what])) < _ALIKE for pick in (min, max))
        if not all(alike):
            differences.append(line)
    (lab.directory / "timing.txt").write_text("".join(lines))
    expect(not differences, "; ".join(differences))
    spread = max(ours["retries"]) - min(ours["retries"])
    expect(spread > _SPREAD, f"no jitter: {lines[0]}")


def _measure(lab: Lab, left: Implementation, right: Implementation) -> dict[str, list[float]]:
    """Seconds between what left sends; right is only there to hear it."""
    with Lab(lab.directory) as room:
        a, b = ends(room, left, right)
        with capture(b.namespace, room.directory) as wire:
            _knock(a, b)
            time.sleep(17)
        retries = _gaps(wire, a)
    with Lab(lab.directory) as room:
        b, a = tunnel(room, right, left)
        passive = seconds_until_keepalive(room, b, a)
    with Lab(lab.directory) as room:
        a, b = tunnel(room, left, right)
        persistent = keepalive_gaps(room, a, b)
    return {"retries": retries, "passive keepalive": [passive], "keepalive of 2 s": persistent}


def _knock(end: End, other: End) -> None:
    """The end initiates to ten peers at once, each at a port of the other's that nobody reads."""
    words = []
    for port in range(PORT + 1, PORT + 1 + _PEERS):
        deaf = other.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.lab.enter_context(deaf).bind((other.outer(), port))
        peer = f"peer {new_key_pair().public} endpoint {other.outer()}:{port}"
        words.append(f"{peer} persistent-keepalive 60000")  # the first is sent at once
    end.configure(" ".join(words))


def _gaps(wire: Capture, end: End) -> list[float]:
    """Seconds between one initiation of the end's and the next to the same port."""
    times: dict[int, list[float]] = {}
    for message in wire.messages(INITIATION, end.outer()):
        times.setdefault(message.destination_port, []).append(message.at)
    fewest = min(map(len, times.values()), default=0)
    name = end.implementation.name
    expect(len(times) == _PEERS, f"{name} initiated to {len(times)} of {_PEERS} peers")
    expect(fewest >= 3, f"{name} initiated {fewest} times in 17 s")
    return [later - at for one in times.values() for at, later in itertools.pairwise(one)]


def _range(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f} s ({len(seconds)})"
