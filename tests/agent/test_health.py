"""What kubelet and Prometheus ask."""

from __future__ import annotations

import asyncio

import aiohttp

from agent.health import served


def test_checks_say_why_not_and_metrics_are_served() -> None:
    reasons = {"healthy": "", "ready": "no session with b"}

    async def metrics() -> bytes:
        return b"wgpy_peers 2\n"

    async def run() -> list[tuple[int, str]]:
        checks = (lambda: reasons["healthy"], lambda: reasons["ready"])
        async with (
            served("127.0.0.1", 0, *checks, metrics=metrics) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        ):
            answers = []
            for path in ("/healthz", "/readyz", "/metrics", "/else"):
                async with session.get(path) as response:
                    answers.append((response.status, await response.text()))
            reasons["ready"] = ""
            async with session.get("/readyz") as response:
                answers.append((response.status, await response.text()))
            return answers

    assert asyncio.run(run()) == [
        (200, "ok\n"),
        (503, "no session with b\n"),
        (200, "wgpy_peers 2\n"),
        (404, "404: Not Found"),
        (200, "ok\n"),
    ]
