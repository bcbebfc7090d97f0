"""The packet filter around a full tunnel, as wg-quick(8) sets it.

Packets for the tunnel's own addresses are taken from the tunnel only (or from this host), and the
mark of our UDP packets is kept by connection tracking, so that reverse path filters let answers in.
Tables and comments are named as wg-quick names them: either tool removes what the other has made.
"""

from wgpy.tools.errors import ToolError
from wgpy.tools.programs import have, output, run


def nft_rules(name: str, addresses: list[str], mark: int, version: int) -> str:
    """The nft script for one family; `addresses` are the interface's own."""
    family = "ip6" if version == 6 else "ip"
    table = f"{family} wg-quick-{name}"
    lines = [
        f"add table {table}",
        f"add chain {table} preraw {{ type filter hook prerouting priority -300; }}",
        f"add chain {table} premangle {{ type filter hook prerouting priority -150; }}",
        f"add chain {table} postmangle {{ type filter hook postrouting priority -150; }}",
    ]
    for address in addresses:
        match = f'iifname != "{name}" {family} daddr {address} fib saddr type != local'
        lines.append(f"add rule {table} preraw {match} drop")
    lines.append(f"add rule {table} postmangle meta l4proto udp mark {mark} ct mark set mark")
    lines.append(f"add rule {table} premangle meta l4proto udp meta mark set ct mark")
    return "".join(f"{line}\n" for line in lines)


def _comment(name: str) -> str:
    return f'-m comment --comment "wg-quick(8) rule for {name}"'


def iptables_rules(name: str, addresses: list[str], mark: int) -> str:
    """The same for iptables-restore or ip6tables-restore."""
    comment = _comment(name)
    lines = ["*raw"]
    for address in addresses:
        match = f"! -i {name} -d {address} -m addrtype ! --src-type LOCAL"
        lines.append(f"-I PREROUTING {match} -j DROP {comment}")
    lines += [
        "COMMIT",
        "*mangle",
        f"-I POSTROUTING -m mark --mark {mark} -p udp -j CONNMARK --save-mark {comment}",
        f"-I PREROUTING -p udp -j CONNMARK --restore-mark {comment}",
        "COMMIT",
    ]
    return "".join(f"{line}\n" for line in lines)


def add(name: str, addresses: list[str], mark: int, version: int) -> None:
    """Set the rules of one family. ToolError if there is no packet filter or it refuses them."""
    restore = "ip6tables-restore" if version == 6 else "iptables-restore"
    if have("nft"):
        run("nft", "-f", "-", text=nft_rules(name, addresses, mark, version))
    elif have(restore):
        run(restore, "-n", text=iptables_rules(name, addresses, mark))
    else:
        raise ToolError(
            f"{name}: a default route through the tunnel needs a packet filter; "
            "install nftables or iptables, or set Table = off"
        )


def remove(name: str) -> None:
    """Take away all rules for `name`, whoever has made them."""
    if have("nft"):
        ending = f" wg-quick-{name}"
        tables = output("nft", "list", "tables").splitlines()
        found = [f"delete {line}\n" for line in tables if line.endswith(ending)]
        if found:
            run("nft", "-f", "-", text="".join(found))
    for program in ("iptables", "ip6tables"):
        if have(program) and (text := removal(output(f"{program}-save"), name)):
            run(f"{program}-restore", "-n", text=text)


def removal(saved: str, name: str) -> str:
    """What takes the rules for `name` out of those that iptables-save shows; empty for none."""
    kept = []
    found = False
    for line in saved.splitlines():
        if line.startswith("-A ") and _comment(name) in line:
            found = True
            kept.append("-D" + line[2:])
        elif line.startswith("*") or line == "COMMIT":
            kept.append(line)
    return "".join(f"{line}\n" for line in kept) if found else ""
