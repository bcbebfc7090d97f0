"""`wgpy demo`: a tunnel between two network namespaces, and what it hides from the wire."""

import contextlib
import os
import shutil
import signal
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from ipaddress import ip_network
from pathlib import Path

from wgpy.protocol.config import AllowedIPChange, Endpoint, InterfaceChange, PeerChange
from wgpy.protocol.constants import (
    MESSAGE_COOKIE_REPLY,
    MESSAGE_INITIATION,
    MESSAGE_RESPONSE,
    MESSAGE_TRANSPORT,
)
from wgpy.tools.demolab import WIRE, Lab, Node, ignore_signals, wait_until
from wgpy.tools.errors import ToolError, UsageError

_PORT = 51820
_SECRET = b"What alice tells bob is nobody else's business."
_ECHOES = 20
_SECONDS = 2.0
_TCP_PORT = 5001
_MESSAGES = {
    MESSAGE_INITIATION: "handshake initiation",
    MESSAGE_RESPONSE: "handshake response",
    MESSAGE_COOKIE_REPLY: "cookie reply",
    MESSAGE_TRANSPORT: "transport data",
}
# On the wire: Ethernet, IPv4 without options, UDP.
_IPV4 = b"\x08\x00"
_IP, _DATAGRAM = 14, 42


def run(arguments: list[str]) -> None:
    """Play it. Raises ToolError when something is missing or does not work."""
    if arguments:
        raise UsageError(f"demo takes no arguments, found {arguments[0]!r}")
    _check_host()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_once)
    show = _Show(sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    with tempfile.TemporaryDirectory(prefix="wgpy-demo-") as directory:
        lab = Lab(Path(directory))
        try:
            try:
                _play(lab, show)
            finally:
                lab.close()
        finally:
            # The one exception of a signal may have come just before the other close began.
            lab.close()
        show.done("namespaces, interfaces and daemons are gone again")


def _end_once(number: int, frame: object) -> None:
    """Leave by an exception, the first time: nothing may interrupt what it sets going."""
    ignore_signals()
    sys.exit(128 + number)


def _check_host() -> None:
    if os.geteuid() != 0:
        raise ToolError("demo: root is needed, to make network namespaces and a TUN interface")
    if not Path("/dev/net/tun").is_char_device():
        raise ToolError(
            "demo: /dev/net/tun is missing: load the module (modprobe tun), "
            "or pass the device into the container"
        )


def _play(lab: Lab, show: "_Show") -> None:
    alice, bob = lab.alice, lab.bob
    show.title(alice, bob)
    with show.step("two network namespaces, joined by a veth pair"):
        lab.lay_wire()
    with show.step("two daemons, `wgpy -f`: WireGuard in userspace"):
        lab.start_daemons()
    with show.step("keys exchanged, addresses given"):
        _configure(alice, bob)
    with alice.capture(alice.interface) as tunnel, alice.capture(WIRE) as wire:
        with show.step("a first echo, for which the handshake is made"):
            first = _ping(alice, bob, 1)
        show.detail(f"answered after {first[0] * 1000:.2f} ms, handshake included")
        with show.step(f"{_ECHOES} more echoes"):
            times = _ping(alice, bob, _ECHOES)
        show.detail(f"all answered, median round trip {statistics.median(times) * 1000:.2f} ms")
        _show_wire(_frames(tunnel), _frames(wire), alice, bob, show)
    for sender, receiver in ((alice, bob), (bob, alice)):
        with show.step(f"one TCP stream from {sender.name} to {receiver.name}"):
            gigabits = _throughput(sender, receiver)
        show.bar(gigabits)
    _show_counters(alice, bob, show)


def _configure(alice: Node, bob: Node) -> None:
    """Only alice knows where the other is; bob learns it."""
    for node, peer, knows in ((alice, bob, True), (bob, alice, False)):
        change = PeerChange(
            peer.public_key,
            endpoint=Endpoint(peer.outer, _PORT) if knows else None,
            allowed_ips=(AllowedIPChange(ip_network(f"{peer.inner}/32")),),
        )
        node.configure(
            InterfaceChange(private_key=node.private_key, listen_port=_PORT, peers=(change,))
        )
        node.bring_up()


def _ping(sender: Node, receiver: Node, count: int) -> list[float]:
    """ICMP echoes that carry the secret; round trips in seconds. ToolError if one is lost."""
    times = []
    with sender.open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(5)
        for number in range(count):
            body = struct.pack(">BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number) + _SECRET
            body = body[:2] + _checksum(body) + body[4:]
            start = time.perf_counter()
            sock.sendto(body, (receiver.inner, 0))
            while True:
                try:
                    answer, (source, _) = sock.recvfrom(2048)
                except TimeoutError:
                    raise ToolError(f"demo: echo {number} was not answered") from None
                # An echo reply (type 0) after the IP header, with what we sent.
                if source == receiver.inner and answer[20] == 0 and answer[24:] == body[4:]:
                    break
            times.append(time.perf_counter() - start)
    return times


def _checksum(data: bytes) -> bytes:
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return (-number % 0xFFFF).to_bytes(2, "big")


def _throughput(sender: Node, receiver: Node) -> float:
    """Gigabits a second that arrive, measured at the receiver."""
    with receiver.open_socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((receiver.inner, _TCP_PORT))
        listener.listen(1)
        sock = sender.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        # A daemon, so that an interrupted demo does not wait for it.
        pump = threading.Thread(target=_pump, args=(sock, receiver.inner), daemon=True)
        pump.start()
        listener.settimeout(10)
        connection, _ = listener.accept()
        with connection:
            received, start = 0, time.perf_counter()
            buffer = bytearray(1 << 20)
            while size := connection.recv_into(buffer):
                received += size
            seconds = time.perf_counter() - start
        pump.join()
    return received * 8 / seconds / 1e9


def _pump(sock: socket.socket, host: str) -> None:
    data = bytes(1 << 18)
    # The receiver notices if this ends early; an interrupted demo closes the stream.
    with sock, contextlib.suppress(OSError):
        sock.connect((host, _TCP_PORT))
        end = time.perf_counter() + _SECONDS
        while time.perf_counter() < end:
            sock.sendall(data)


def _show_wire(
    packets: list[bytes], frames: list[bytes], alice: Node, bob: Node, show: "_Show"
) -> None:
    """Alice's last packet, captured in the tunnel, and the datagram that carried it."""
    frames = [frame for frame in frames if frame[12:14] == _IPV4]
    datagrams = [f[_DATAGRAM:] for f in frames if f[_IP + 9] == socket.IPPROTO_UDP]
    sent = [f[_DATAGRAM:] for f in frames if f[_IP + 12 : _IP + 16] == _address(alice.outer)]
    requests = [p for p in packets if p[12:16] == _address(alice.inner)]
    if not (requests and sent and sent[-1][0] == MESSAGE_TRANSPORT):
        raise ToolError("demo: the echo was not seen both in the tunnel and on the wire")
    hidden = (_SECRET, _address(alice.inner), _address(bob.inner))
    leaks = sum(any(part in frame for part in hidden) for frame in frames)
    if leaks:
        raise ToolError(f"demo: {leaks} frames on the wire show what the tunnel carries")
    show.heading(f"What the tunnel carries ({alice.inner} > {bob.inner}, an echo request)")
    show.hexdump(requests[-1])
    show.heading(f"What the wire shows ({alice.outer}:{_PORT} > {bob.outer}:{_PORT}, UDP)")
    show.hexdump(sent[-1])
    counts = [
        f"{sum(d[0] == kind for d in datagrams)} {name}"
        for kind, name in _MESSAGES.items()
        if any(d[0] == kind for d in datagrams)
    ]
    show.line()
    show.done(f"seen on the wire: {', '.join(counts)}")
    show.done(f"{len(frames)} frames searched: no secret text, no inner address in any of them")


def _address(text: str) -> bytes:
    return socket.inet_aton(text)


def _frames(capture: socket.socket) -> list[bytes]:
    """What was captured so far."""
    frames: list[bytes] = []
    while True:
        try:
            frames.append(capture.recv(65536))
        except BlockingIOError:
            return frames


def _show_counters(alice: Node, bob: Node, show: "_Show") -> None:
    show.heading("What each end counts, as `wgpy show` and `wg show` tell")
    for node in (alice, bob):
        (peer,) = node.stats().peers
        sent, received = peer.tx_bytes / 1e6, peer.rx_bytes / 1e6
        show.line(f"{node.name:6} {sent:9.1f} MB sent, {received:9.1f} MB received")
    wait_until("both ends have a handshake", lambda: all(_shaken(n) for n in (alice, bob)))


def _shaken(node: Node) -> bool:
    return all(peer.last_handshake_ns for peer in node.stats().peers)


class _Show:
    """Text for people; colours only where a terminal is."""

    def __init__(self, color: bool) -> None:
        self._color = color
        self._width = min(100, shutil.get_terminal_size().columns)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text

    def line(self, text: str = "") -> None:
        print(f"    {text}" if text else "", flush=True)

    def title(self, alice: Node, bob: Node) -> None:
        box = "─" * 24
        left = [f" {alice.name}", f" tunnel  {alice.inner}", f" wire    {alice.outer}"]
        right = [f" {bob.name}", f" tunnel  {bob.inner}", f" wire    {bob.outer}"]
        links = [" " * 14, self._paint("══════════════", "32"), "──── veth ────"]
        self.line()
        self.line(f"┌{box}┐{links[0]}┌{box}┐")
        for a, link, b in zip(left, links, right, strict=True):
            self.line(f"│{a:24}│{link}│{b:24}│")
        self.line(f"└{box}┘{links[0]}└{box}┘")
        self.line()

    def step(self, text: str) -> "_Step":
        return _Step(self, text)

    def done(self, text: str, note: str = "") -> None:
        mark = self._paint("✓", "32;1")
        space = " " * max(1, self._width - len(text) - len(note) - 6) if note else ""
        print(f"  {mark} {text}{space}{self._paint(note, '2')}", flush=True)

    def detail(self, text: str) -> None:
        self.line(self._paint(text, "36"))

    def heading(self, text: str) -> None:
        self.line()
        print(f"  {self._paint(text, '1')}", flush=True)

    def bar(self, gigabits: float) -> None:
        """A bar of one block for each tenth of a gigabit a second."""
        room = self._width - 24
        self.detail(f"{'█' * max(1, min(room, round(gigabits * 10)))} {gigabits:.2f} Gbit/s")

    def hexdump(self, data: bytes, rows: int = 8) -> None:
        for start in range(0, min(len(data), rows * 16), 16):
            row = data[start : start + 16]
            text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in row)
            self.line(f"{start:04x}  {row.hex(' '):47}  {self._paint(text, '33')}")


class _Step:
    """Something that takes a moment; ticked off when it is done."""

    def __init__(self, show: _Show, text: str) -> None:
        self._show = show
        self._text = text
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            milliseconds = (time.perf_counter() - self._start) * 1000
            self._show.done(self._text, f"{milliseconds:.0f} ms")
