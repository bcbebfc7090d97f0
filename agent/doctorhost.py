"""What `wgpy-agent doctor` asks of this host. Blocking."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from errno import EADDRINUSE, EAFNOSUPPORT

from agent import paths
from agent.backend import probe_planes
from agent.control import Json, ask
from agent.launcherclient import LauncherClient
from agent.network.cni import Cni
from agent.network.firewall import open_firewall
from agent.network.nft import is_available
from agent.network.rtnetlink import device_names, open_rtnetlink, present_families
from agent.network.sysctls import usable_families
from agent.options import Options
from wgpy import dataplane
from wgpy.dataplane import Availability, DataPlaneError

_ANY = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


class DoctorHost:
    """This node, for agent.doctor."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def planes(self) -> Availability:
        launcher = self._options.launcher
        return probe_planes(LauncherClient(launcher) if launcher else None)

    def has_nftables(self) -> bool:
        if is_available():
            return True
        open_firewall()
        return False

    def families(self) -> Sequence[int]:
        return present_families()

    def usable_families(self) -> Sequence[int]:
        return usable_families(self._options.proc_sys)

    def is_free(self, port: int) -> bool:
        return all(_can_bind(family, address, port) for family, address in _ANY)

    def holder(self, port: int) -> str | None:
        for name in dataplane.list_interfaces():
            with suppress(DataPlaneError):
                if dataplane.get_interface(name).listen_port == port:
                    return name
        return None

    def devices(self) -> Sequence[str]:
        with open_rtnetlink() as ip:
            return list(device_names(ip).values())

    def preceding(self) -> Sequence[str]:
        return Cni(self._options.cni_directory).preceded_by()

    def status(self) -> Json:
        status: Json = ask(self._options.control, "status")["status"]
        return status

    def path_mtu(self, address: str) -> int:
        return paths.path_mtu(address)

    def comes_through(self, address: str, size: int) -> bool:
        return paths.comes_through(address, size)


def _can_bind(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port))
    except OSError as error:
        if error.errno == EADDRINUSE:
            return False
        if error.errno != EAFNOSUPPORT:
            raise
    return True
