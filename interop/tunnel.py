"""Two ends of a tunnel, configured by `wg`, each in its namespace.

┌─ left ────────────────┐                  ┌─ right ───────────────┐
│ 10.90.0.1  fd90::1    │                  │ 10.90.0.2  fd90::2    │   inner
│ wg interface          │                  │ wg interface          │
│ 10.80.0.1  fd80::1    │─ eth0 ──── eth0 ─│ 10.80.0.2  fd80::2    │   outer
└───────────────────────┘                  └───────────────────────┘
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from interop.counterparts.base import Implementation, Running
from interop.keys import KeyPair, new_key_pair
from interop.netns import Lab, Namespace, add_address
from interop.shell import CommandFailed, ScenarioFailed, expect, wait_until
from interop.wire import capture

PORT = 51820


@dataclass
class End:
    """One end: where it lives, what runs it, what it is called."""

    lab: Lab
    namespace: Namespace
    implementation: Implementation
    interface: str
    number: int
    mtu: int
    keys: KeyPair = field(default_factory=new_key_pair)
    running: Running | None = None

    def outer(self, version: int = 4) -> str:
        return f"10.80.0.{self.number}" if version == 4 else f"fd80::{self.number}"

    def inner(self, version: int = 4) -> str:
        return f"10.90.0.{self.number}" if version == 4 else f"fd90::{self.number}"

    def endpoint(self, version: int = 4) -> str:
        return f"{self.outer(4)}:{PORT}" if version == 4 else f"[{self.outer(6)}]:{PORT}"

    def start(self) -> None:
        """Make the interface, with its key, port and addresses, but without peers."""
        log = self.lab.directory / f"{self.interface}.log"
        self.running = self.implementation.start(self.interface, self.namespace, log)
        self.lab.callback(self.running.stop)
        self.configure(f"listen-port {PORT} private-key /dev/stdin", stdin=self.keys.private)
        self.namespace.ip(f"link set {self.interface} mtu {self.mtu} up")
        add_address(self.namespace, self.interface, f"{self.inner(4)}/24")
        add_address(self.namespace, self.interface, f"{self.inner(6)}/64")

    def join(self) -> None:
        """Take the outer addresses on eth0, and start."""
        self.settle()
        self.start()

    def settle(self) -> None:
        """Take the outer addresses on eth0, but start nothing."""
        add_address(self.namespace, "eth0", f"{self.outer(4)}/24")
        add_address(self.namespace, "eth0", f"{self.outer(6)}/64")
        self.record()

    def record(self) -> None:
        """Where session keys are kept, keep the whole conversation that they open too."""
        if self.implementation.logs_keys:
            recording = capture(self.namespace, self.lab.directory, name=self.interface)
            self.lab.enter_context(recording)

    def configure(self, words: str, stdin: str | None = None) -> None:
        """`wg set INTERFACE WORDS`."""
        self.namespace.run("wg", "set", self.interface, *words.split(), stdin=stdin)

    def add_peer(
        self, peer: End, version: int | None = None, more: str = "", psk: str | None = None
    ) -> None:
        """Know `peer` and its inner addresses; with `version`, also its outer address."""
        words = f"peer {peer.keys.public} allowed-ips {peer.inner(4)}/32,{peer.inner(6)}/128"
        if version is not None:
            words += f" endpoint {peer.endpoint(version)}"
        if psk is not None:
            words += " preshared-key /dev/stdin"
        self.configure(f"{words} {more}", stdin=psk)

    def show(self, column: str, peer: End) -> str:
        """`wg show INTERFACE COLUMN`, the line of `peer`."""
        for line in self.namespace.run("wg", "show", self.interface, column).splitlines():
            key, _, value = line.partition("\t")
            if key == peer.keys.public:
                return value
        raise ScenarioFailed(f"`wg show {column}` of {self.implementation.name} lacks the peer")

    def handshake_time(self, peer: End) -> int:
        """Seconds since the epoch of the latest handshake; 0: none yet."""
        return int(self.show("latest-handshakes", peer))

    def ping(self, peer: End, version: int = 4, more: str = "", within: float = 5) -> None:
        """One echo through the tunnel.

        :raises ScenarioFailed: no answer `within` s.
        """
        words = f"ping -n -c 1 -W {within} {more} {peer.inner(version)}"
        try:
            self.namespace.run(*words.split(), timeout=within + 20)
        except CommandFailed as error:
            raise ScenarioFailed(f"{self.implementation.name}: no answer: {error}") from None

    def reaches(self, peer: End, version: int = 4, more: str = "", within: float = 1) -> bool:
        try:
            self.ping(peer, version, more, within)
        except ScenarioFailed:
            return False
        return True

    def ping_many(self, peer: End, count: int, interval: float, version: int = 4) -> int:
        """`count` echoes, `interval` s apart; returns how many were not answered."""
        words = f"ping -n -q -c {count} -i {interval} -W 2 {peer.inner(version)}"
        try:
            text = self.namespace.run(*words.split(), timeout=2 * count * interval + 30)
        except CommandFailed as error:
            text = str(error)
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", text)
        if counts is None:
            raise ScenarioFailed(f"ping said: {text}")
        return int(counts[1]) - int(counts[2])


def ends(
    lab: Lab, left: Implementation, right: Implementation, mtu: int = 1420, outer_mtu: int = 1500
) -> tuple[End, End]:
    """The topology above, both interfaces up, no peers yet."""
    pair = bare_pair(lab, left, right, mtu, outer_mtu)
    for end in pair:
        end.join()
    return pair


def bare_pair(
    lab: Lab,
    left: Implementation,
    right: Implementation,
    mtu: int = 1420,
    outer_mtu: int = 1500,
    end: type[End] = End,
) -> tuple[End, End]:
    """Two linked namespaces of the topology above, without addresses or interfaces."""
    a, b = (
        end(lab, lab.namespace(name), implementation, lab.interface_name(name[0]), number, mtu)
        for number, (name, implementation) in enumerate((("left", left), ("right", right)), 1)
    )
    lab.link(a.namespace, b.namespace, mtu=outer_mtu)
    return a, b


def ends_on_a_switch(
    lab: Lab, left: Implementation, right: Implementation, stranger: Namespace
) -> tuple[End, End]:
    """The topology above, with a bridge between the ends, to which `stranger` is joined too."""
    pair = [
        End(lab, lab.namespace(name), implementation, lab.interface_name(name[0]), number, 1420)
        for number, (name, implementation) in enumerate((("left", left), ("right", right)), 1)
    ]
    lab.switch(pair[0].namespace, pair[1].namespace, stranger)
    for end in pair:
        end.join()
    return pair[0], pair[1]


def tunnel(
    lab: Lab, left: Implementation, right: Implementation, outer: int = 4, mtu: int = 1420
) -> tuple[End, End]:
    """Both ends know each other; only left knows where the other is, so left initiates."""
    a, b = ends(lab, left, right, mtu=mtu, outer_mtu=max(1500, min(65535, mtu + 80)))
    b.add_peer(a)
    a.add_peer(b, outer)
    return a, b


def hub(
    lab: Lab, center: Implementation, spoke: Implementation, spokes: int, mtu: int = 1420
) -> tuple[End, list[End]]:
    """One end that knows all others, which know it alone; all on one link, with sessions."""
    namespaces = [lab.namespace(f"n{k}") for k in range(spokes + 1)]
    lab.switch(*namespaces)
    middle, *others = [
        End(lab, namespace, spoke if k else center, f"{lab.interface_name('h')}x{k}", k + 1, mtu)
        for k, namespace in enumerate(namespaces)
    ]
    middle.join()
    for other in others:
        other.join()
        other.add_peer(middle)
        middle.add_peer(other, 4)
        middle.ping(other)
    return middle, others


def wait_for_handshake(initiator: End, responder: End, newer_than: int = 0) -> None:
    """Both ends report a handshake later than `newer_than` (the responder: once it is confirmed).

    :raises ScenarioFailed: not within 20 s.
    """
    for end, peer in ((initiator, responder), (responder, initiator)):
        wait_until(
            f"{end.implementation.name} reports the handshake",
            lambda end=end, peer=peer: end.handshake_time(peer) > newer_than,  # type: ignore[misc]
            20,
        )
    expect(initiator.show("endpoints", responder) != "(none)", "the initiator lost the endpoint")
