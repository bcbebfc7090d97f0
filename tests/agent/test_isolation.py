"""What an agent says of the admission policy."""

from __future__ import annotations

import asyncio

from agent.apierrors import KubeError, UnreachableError
from agent.isolation import watch_isolation
from agent.model import Problem


def watched(*answers: bool | KubeError) -> tuple[list[list[str]], list[float]]:
    """What was told after each answer, and how long it slept then."""
    told: list[list[str]] = []
    slept: list[float] = []
    left = list(answers)

    class Kube:
        async def may_write_for_others(self) -> bool:
            answer = left.pop(0)
            if isinstance(answer, KubeError):
                raise answer
            return answer

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not left:
            raise asyncio.CancelledError

    def tell(problems: list[Problem]) -> None:
        told.append([problem.severity for problem in problems])

    async def run() -> None:
        await asyncio.gather(watch_isolation(Kube(), tell, sleep), return_exceptions=True)

    asyncio.run(run())
    return told, slept


def test_a_server_that_would_take_it_is_a_warning_and_one_that_refuses_is_none() -> None:
    told, slept = watched(True, False)
    assert told == [["warning"], []]
    assert slept == [3600.0, 3600.0]


def test_what_could_not_be_asked_is_asked_again_soon_and_changes_nothing() -> None:
    told, slept = watched(True, UnreachableError("no answer", "there"), True)
    assert told == [["warning"], ["warning"]]
    assert slept == [3600.0, 10.0, 3600.0]
