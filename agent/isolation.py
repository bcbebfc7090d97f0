"""Whether one node's agent is kept from writing what is another's: agent/manifests/admission.

RBAC cannot do that, and nothing is seen of its absence until somebody has a stolen token.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.apierrors import KubeError
from agent.model import Problem

_log = logging.getLogger(__name__)

# Seconds between two looks, and until the next one when the server could not be asked.
_EVERY = 3600.0
_AGAIN = 10.0
_NONE = Problem(
    "warning",
    "write isolation is not in force: the agent of one node can write what is another's",
    "on Kubernetes 1.30 or later: kubectl apply -k agent/manifests/admission",
)


class Asked(Protocol):
    """What this needs of agent.kube.Kube."""

    async def may_write_for_others(self) -> bool: ...


async def watch_isolation(
    kube: Asked, tell: Callable[[list[Problem]], None], sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Look now and then until it is cancelled; `tell` gets what is wrong with it."""
    known: bool | None = None
    while True:
        try:
            isolated = not await kube.may_write_for_others()
        except KubeError as error:
            _log.debug("isolation is not known: %s", error)
            await sleep(_AGAIN)
            continue
        if isolated != known:
            _log.info("write isolation is %s", "in force" if isolated else "not in force")
            known = isolated
        tell([] if isolated else [_NONE])
        await sleep(_EVERY)
