"""What is measured, in the order in which it is told."""

from __future__ import annotations

from interop.bench.rounds import (
    Metric,
    cpu_per_gigabyte,
    memory_under_load,
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
    Metric("memory", "memory under load", "MB", False, memory_under_load(_SECONDS)),
]
