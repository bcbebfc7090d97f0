"""What is measured, in the order in which it is told."""

from __future__ import annotations

from interop.bench.peers import (
    handshakes_per_second,
    hub,
    idle_cpu,
    memory_with,
    seconds_to_configure,
)
from interop.bench.rounds import (
    Metric,
    cpu_per_gigabyte,
    ping_alone,
    ping_loaded,
    tcp,
    udp_overload,
    udp_without_loss,
)

_SECONDS = 4.0

METRICS = [
    Metric("tcp-1", "TCP, 1 stream", "Mbit/s", True, tcp(1, _SECONDS)),
    Metric("tcp-1-back", "TCP, 1 stream, other way", "Mbit/s", True, tcp(1, _SECONDS, True)),
    Metric("tcp-4", "TCP, 4 streams", "Mbit/s", True, tcp(4, _SECONDS)),
    Metric("tcp-16", "TCP, 16 streams", "Mbit/s", True, tcp(16, _SECONDS)),
    Metric("udp-64", "UDP 64 B, overload", "1000/s", True, udp_overload(64, 2)),
    Metric("udp-512", "UDP 512 B, overload", "1000/s", True, udp_overload(512, 2)),
    Metric("udp-1372", "UDP 1372 B, overload", "1000/s", True, udp_overload(1372, 2)),
    Metric("udp-64-clean", "UDP 64 B, under 1 % lost", "1000/s", True, udp_without_loss(64, 1)),
    Metric(
        "udp-1372-clean", "UDP 1372 B, under 1 % lost", "1000/s", True, udp_without_loss(1372, 1)
    ),
    Metric("ping", "ping alone, p50", "ms", False, ping_alone("p50", 300)),
    Metric("ping-99", "ping alone, p99", "ms", False, ping_alone("p99", 300)),
    Metric("ping-loaded", "ping beside TCP, p50", "ms", False, ping_loaded("p50", _SECONDS)),
    Metric("ping-loaded-99", "ping beside TCP, p99", "ms", False, ping_loaded("p99", _SECONDS)),
    Metric("cpu", "CPU for a gigabyte, both ends", "s", False, cpu_per_gigabyte(_SECONDS)),
    Metric("hub", "TCP, 16 peers with 4 streams each", "Mbit/s", True, hub(_SECONDS)),
    Metric("handshakes", "handshakes answered", "1/s", True, handshakes_per_second(2000)),
    Metric("memory", "memory under load", "MB", False, memory_with(1)),
    Metric("memory-100", "the same, 100 peers", "MB", False, memory_with(100)),
    Metric("memory-1000", "the same, 1,000 peers", "MB", False, memory_with(1000)),
    Metric("memory-10000", "the same, 10,000 peers", "MB", False, memory_with(10_000)),
    Metric("configure", "10,000 peers configured", "s", False, seconds_to_configure(10_000)),
    Metric("idle", "idle CPU, 1,000 peers", "ms/s", False, idle_cpu(1000)),
]
