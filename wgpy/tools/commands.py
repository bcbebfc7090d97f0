"""Every subcommand: its arguments, what it does, examples, and where it is written.

The one table behind the dispatch, `--help` and completion. Importing it must stay cheap.
"""

from typing import NamedTuple


class Command(NamedTuple):
    """A subcommand; `run` is `module:function` in wgpy.tools.

    The function gets `arity` arguments, or the whole list of them if that is None.
    """

    run: str
    arity: int | None
    usage: str
    summary: str
    details: str
    examples: tuple[str, ...]


_FIELDS = (
    "public-key | private-key | listen-port | fwmark | peers | preshared-keys | endpoints | "
    "allowed-ips | latest-handshakes | transfer | persistent-keepalive | dump"
)
_CONFIG = "FILE has the format of wg(8). Nothing is changed if any of it cannot be understood."
_QUICK = (
    "CONFIG is an interface name, for /etc/wireguard/NAME.conf, or the path of a NAME.conf.\n"
    "Files are those of wg-quick(8)."
)

COMMANDS: dict[str, Command] = {
    "show": Command(
        "showcommands:show",
        None,
        f"[IFACE | all | interfaces] [--json | {_FIELDS}]",
        "show interfaces and their peers",
        "Without a field the text is for people: private keys are hidden unless WG_HIDE_KEYS is\n"
        "'never', and WG_COLOR_MODE (always, never, auto) rules colours. Fields and dump are for\n"
        "scripts, cells separated by tabs; with 'all' the first is the interface.",
        ("wgpy show", "wgpy show wg0 latest-handshakes", "wgpy show all --json"),
    ),
    "top": Command(
        "top:top",
        None,
        "[--once] [--interval SECONDS] [IFACE]...",
        "watch what peers carry, how old their sessions are, what is dropped",
        "All interfaces unless some are named, every second, the busiest peers first; q ends it.\n"
        "With --once, or without a terminal, two looks an interval apart are printed as text.\n"
        "wgpy tells why it drops; of others there are the kernel's counters of the link only.",
        ("wgpy top", "wgpy top --once --interval 5 wg0"),
    ),
    "capture": Command(
        "capture:capture",
        None,
        "[--outer] [--keys] [--write FILE] [--count N] [--seconds SECONDS] IFACE",
        "capture the packets of an interface, for Wireshark",
        "The packets inside the tunnel, or with --outer its datagrams on the links below, as\n"
        "pcapng to FILE or to standard output, until N packets, SECONDS or ^C.\n"
        "DANGER: with --keys the file has all keys of the sessions in it, which begin anew, so\n"
        "that Wireshark shows what is inside. Who reads it reads all their traffic and can pose\n"
        "as this interface. Only wgpy's own daemon tells its keys, to root, and logs that it does.",
        (
            "wgpy capture wg0 | tshark -r -",
            "wgpy capture --outer --keys --seconds 60 --write wg0.pcapng wg0",
        ),
    ),
    "showconf": Command(
        "showcommands:showconf",
        1,
        "IFACE",
        "print an interface as a configuration file, with its keys",
        "",
        ("umask 077; wgpy showconf wg0 > wg0.saved",),
    ),
    "set": Command(
        "setcommands:set_arguments",
        None,
        "IFACE [listen-port PORT] [fwmark MARK] [private-key FILE] [peer PUBLIC-KEY [remove] "
        "[preshared-key FILE] [endpoint HOST:PORT] [persistent-keepalive SECONDS] "
        "[allowed-ips [+|-]IP[/LENGTH],...]]...",
        "change an interface, add, change and remove peers",
        "Keys are read from files, an empty one takes the key away. allowed-ips replaces the\n"
        "list, unless an entry begins with + (add) or - (take away). fwmark and\n"
        "persistent-keepalive may be 'off'.",
        (
            "wgpy set wg0 listen-port 51820 private-key /etc/wireguard/wg0.key",
            'wgpy set wg0 peer "$KEY" endpoint vpn.example:51820 allowed-ips 10.0.0.0/24',
            'wgpy set wg0 peer "$KEY" remove',
        ),
    ),
    "setconf": Command(
        "setcommands:setconf",
        2,
        "IFACE FILE",
        "make a file the whole configuration of an interface",
        _CONFIG,
        ("wgpy setconf wg0 wg0.saved",),
    ),
    "addconf": Command(
        "setcommands:addconf",
        2,
        "IFACE FILE",
        "add a file to the configuration of an interface",
        _CONFIG,
        ("wgpy addconf wg0 new-peers.conf",),
    ),
    "syncconf": Command(
        "setcommands:syncconf",
        2,
        "IFACE FILE",
        "as setconf, but leave peers that stay the same in peace",
        _CONFIG,
        ("wgpy syncconf wg0 <(wgpy strip wg0)",),
    ),
    "genkey": Command(
        "keycommands:genkey",
        0,
        "",
        "print a new private key",
        "",
        ("umask 077; wgpy genkey | tee wg0.key | wgpy pubkey > wg0.pub",),
    ),
    "genpsk": Command(
        "keycommands:genpsk",
        0,
        "",
        "print a new preshared key",
        "",
        ("umask 077; wgpy genpsk > peer.psk",),
    ),
    "pubkey": Command(
        "keycommands:pubkey",
        0,
        "",
        "print the public key of the private key on standard input",
        "",
        ("wgpy pubkey < wg0.key",),
    ),
    "up": Command(
        "quickcommands:up",
        1,
        "CONFIG",
        "make an interface from a file: addresses, routes, DNS, hooks",
        f"{_QUICK} If a step fails, all before it are undone.",
        ("wgpy up wg0", "wgpy up ./office.conf"),
    ),
    "down": Command(
        "quickcommands:down",
        1,
        "CONFIG",
        "take down what `up` has made",
        f"{_QUICK} With SaveConfig = true the interface is saved first.",
        ("wgpy down wg0",),
    ),
    "save": Command(
        "quickcommands:save",
        1,
        "CONFIG",
        "write the state of an interface into its file",
        _QUICK,
        ("wgpy save wg0",),
    ),
    "strip": Command(
        "quickcommands:strip",
        1,
        "CONFIG",
        "print a file without what only `up` understands, for setconf",
        _QUICK,
        ("wgpy syncconf wg0 <(wgpy strip wg0)",),
    ),
    "demo": Command(
        "demo:run",
        None,
        "[--help]",
        "show a tunnel between two namespaces of this machine (needs root)",
        "",
        ("wgpy demo",),
    ),
    "completion": Command(
        "completion:completion",
        1,
        "bash | zsh | fish",
        "print tab completion for a shell",
        "",
        (
            'eval "$(wgpy completion bash)"',
            "wgpy completion bash > /etc/bash_completion.d/wgpy",
            "wgpy completion fish > ~/.config/fish/completions/wgpy.fish",
        ),
    ),
}
