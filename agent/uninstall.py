"""`wgpy-agent uninstall`: leave no trace on this node. Blocking.

The pods of this node lose their network; drain it first. What is in Kubernetes goes with the
manifests (`kubectl delete -k`): an agent may delete nothing there.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.backend import remove_lanes
from agent.control import ControlError, ask
from agent.machine import LANE_NAMES
from agent.network.base import NetworkError, explained
from agent.network.bridge import Bridge
from agent.network.cni import STATE, Cni
from agent.network.firewall import open_firewall
from agent.network.forwarding import Forwarding
from agent.network.guard import Guard
from agent.network.neighbours import Neighbours
from agent.network.nft import is_available
from agent.network.routes import Routes
from agent.network.sysctls import Sysctls
from agent.network.trail import Trail

_log = logging.getLogger(__name__)


def uninstall(control: Path, cni: Path, proc_sys: Path) -> list[NetworkError]:
    """What could not be removed. NetworkError if an agent runs, which would put it all back."""
    with suppress(ControlError):
        ask(control, "status")
        advice = "delete its DaemonSet first, or keep it off this node"
        raise NetworkError("an agent runs on this node", advice)
    failed = []
    for what, remove in _steps(cni, proc_sys):
        try:
            remove()
        except NetworkError as error:
            failed.append(error)
        else:
            _log.info("%s: removed", what)
    return failed


def _steps(cni: Path, proc_sys: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The last to go is what keeps packets from leaving in the clear."""
    yield "the file for the container runtime", Cni(cni).remove
    yield "routes", Routes().remove
    yield "lanes", lambda: remove_lanes(LANE_NAMES)
    yield "the pod bridge", Bridge().remove
    if is_available():
        yield "rules of the bridge", Neighbours().remove
        yield "counters of a trace that was killed", Trail().remove
    yield "packet filter", lambda: open_firewall().remove()
    yield "rules of forwarding", Forwarding().remove
    yield "guard", Guard().remove
    yield "settings", Sysctls(proc_sys).remove
    yield "files", _remove_files


def _remove_files() -> None:
    """Sockets of ours; the directory is a mount of the container's."""
    try:
        for path in STATE.iterdir():
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise explained(str(STATE), error) from None
