"""`wgpy up` and `wgpy down`: an interface with all around it, made in order or not at all."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress

from wgpy.dataplane import (
    create_interface,
    delete_interface,
    get_interface,
    list_interfaces,
    set_interface,
)
from wgpy.protocol.config import InterfaceChange, InterfaceStats, Network
from wgpy.tools import dns, firewall
from wgpy.tools.errors import ToolError
from wgpy.tools.links import Links
from wgpy.tools.programs import run_hooks, tell
from wgpy.tools.quickconf import QuickConfig
from wgpy.tools.showconf import config_text

_DEFAULT_TABLE = 51820
_DEFAULT_MTU = 1500
# What WireGuard adds to a packet over IPv6: 40 IP, 8 UDP, 16 header, 16 tag.
_OVERHEAD = 80
_SRC_VALID_MARK = "/proc/sys/net/ipv4/conf/all/src_valid_mark"


def up(config: QuickConfig) -> None:
    """Make the interface; whatever fails, what was made until then is taken back."""
    name = config.name
    with Links() as links, ExitStack() as undo:
        if links.exists(name):
            raise ToolError(f"{name}: this interface exists already; take it down first")
        run_hooks(config.pre_up, name)
        _create(name)
        undo.callback(_quietly, _delete, name)
        _configure(config)
        for address in config.addresses:
            links.add_address(name, address)
        links.set_up(name, config.mtu or _best_mtu(links, get_interface(name)))
        if config.dns:
            dns.set_servers(name, config.dns, config.dns_search)
            undo.callback(_quietly, dns.unset_servers, name)
        if config.table != "off":
            _add_routes(links, config, undo)
        run_hooks(config.post_up, name)
        undo.pop_all()


def _create(name: str) -> None:
    plane = create_interface(name)
    tell(f"ip link add {name} type wireguard" if plane == "kernel" else f"wgpy {name}")


def _delete(name: str) -> None:
    tell(f"ip link delete dev {name}")
    delete_interface(name)


def _quietly(undo: Callable[..., None], *arguments: object) -> None:
    """Undo a step on the way out: what fails then is told, but the first failure counts."""
    try:
        undo(*arguments)
    except (ToolError, OSError) as error:
        print(f"wgpy: while undoing: {error}", file=sys.stderr)


def _configure(config: QuickConfig) -> None:
    tell(f"wgpy setconf {config.name} {config.path}")
    set_interface(config.name, config.change())


def _best_mtu(links: Links, stats: InterfaceStats) -> int:
    """What the largest path to an endpoint takes, or else the default route, less our own."""
    hosts = {
        peer.endpoint.host for peer in stats.peers if peer.endpoint and not peer.endpoint.scope_id
    }
    largest = max(map(links.path_mtu, hosts), default=0)
    return (largest or links.default_mtu() or _DEFAULT_MTU) - _OVERHEAD


def _networks(stats: InterfaceStats) -> list[Network]:
    """All allowed IPs, the most specific first."""
    networks = {network for peer in stats.peers for network in peer.allowed_ips}
    return sorted(networks, key=lambda n: (-n.prefixlen, n.version, n.network_address.packed))


def _add_routes(links: Links, config: QuickConfig, undo: ExitStack) -> None:
    name = config.name
    # Those we add ourselves need no second look: no prefix covers one that is shorter.
    present = links.routes(name)
    for network in _networks(get_interface(name)):
        if not config.auto_table:
            links.add_route(name, network, config.table_number)
        elif network.prefixlen == 0:
            _add_default(links, name, network, undo)
        elif not any(_covers(route, network) for route in present):
            links.add_route(name, network)


def _covers(route: Network, network: Network) -> bool:
    shorter = route.prefixlen <= network.prefixlen and route.version == network.version
    return shorter and network.network_address in route


def _add_default(links: Links, name: str, network: Network, undo: ExitStack) -> None:
    """A default route in a table of its own, which all but the tunnel's own packets look into."""
    version = network.version
    mark = get_interface(name).fwmark
    if not mark:
        mark = _DEFAULT_TABLE
        while not links.table_is_empty(mark):
            mark += 1
        tell(f"wgpy set {name} fwmark {mark}")
        set_interface(name, InterfaceChange(fwmark=mark))
    links.add_route(name, network, mark)
    undo.callback(_quietly, links.remove_rules, version, mark)
    links.add_unmarked_rule(version, mark)
    links.add_suppress_rule(version)
    if version == 4:
        tell("sysctl -q net.ipv4.conf.all.src_valid_mark=1")
        with open(_SRC_VALID_MARK, "w", encoding="ascii") as file:
            file.write("1")
    undo.callback(_quietly, firewall.remove, name)
    own = [str(address.ip) for address in links.addresses(name) if address.version == version]
    firewall.add(name, own, mark, version)


def _remove_policy(links: Links, config: QuickConfig) -> None:
    """Take away filter and rules of a full tunnel; routes go with the interface."""
    firewall.remove(config.name)
    if not config.auto_table:
        return
    stats = get_interface(config.name)
    if stats.fwmark and any(network.prefixlen == 0 for network in _networks(stats)):
        for version in (4, 6):
            links.remove_rules(version, stats.fwmark)


def down(config: QuickConfig) -> None:
    """Take down what `up` has made; a step that fails does not keep the others from it."""
    _need_interface(config.name)
    run_hooks(config.pre_down, config.name)
    if config.save:
        save(config)
    failures: list[ToolError | OSError] = []
    with Links() as links:
        steps: list[tuple[Callable[..., None], tuple[object, ...]]] = [
            (_remove_policy, (links, config)),
            (_delete, (config.name,)),
        ]
        if config.dns:
            steps.append((dns.unset_servers, (config.name,)))
        for step, arguments in steps:
            try:
                step(*arguments)
            except (ToolError, OSError) as error:
                failures.append(error)
    if failures:
        raise ToolError("; ".join(map(str, failures)))
    run_hooks(config.post_down, config.name)


def _need_interface(name: str) -> None:
    if name not in list_interfaces():
        raise ToolError(f"{name}: is not a WireGuard interface; is it up?")


def save(config: QuickConfig) -> None:
    """Write the interface's present state into its file, at once and for its owner only."""
    _need_interface(config.name)
    with Links() as links:
        head = _quick_lines(config, links)
    text = config_text(get_interface(config.name))
    text = text.replace("[Interface]\n", "[Interface]\n" + "".join(f"{ln}\n" for ln in head), 1)
    temporary = f"{config.path}.{os.getpid()}.tmp"
    tell(f"wgpy showconf {config.name} > {config.path}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, config.path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _quick_lines(config: QuickConfig, links: Links) -> list[str]:
    """wg-quick's part of [Interface]: addresses and MTU as they are, the rest as in the file."""
    present = links.addresses(config.name)
    # Link-local addresses that the kernel gave by itself come back by themselves.
    addresses = [a for a in present if not a.is_link_local or a in config.addresses]
    lines = [f"Address = {address}" for address in addresses]
    lines += [f"DNS = {word}" for word in config.dns + config.dns_search]
    if config.mtu is not None:
        lines.append(f"MTU = {links.mtu(config.name)}")
    if config.table:
        lines.append(f"Table = {config.table}")
    if config.save:
        lines.append("SaveConfig = true")
    for key, hooks in (
        ("PreUp", config.pre_up),
        ("PostUp", config.post_up),
        ("PreDown", config.pre_down),
        ("PostDown", config.post_down),
    ):
        lines += [f"{key} = {hook}" for hook in hooks]
    return lines
