"""Tab completion for shells: scripts that ask the command table, written when asked for."""

import sys

from wgpy.tools.commands import COMMANDS
from wgpy.tools.errors import UsageError
from wgpy.tools.fields import FIELDS

_FLAGS = (
    "--no-tun-offloads --no-uso --no-udp-gso --no-udp-gro --no-recvmmsg --no-sendmmsg "
    "--no-multibuffer"
)
_OPTIONS = f"-f --foreground {_FLAGS} --workers --keylog --version --help"
_IFACE_FIRST = ("show", "top", "capture", "showconf", "set", "setconf", "addconf", "syncconf")
_CONFIG_FIRST = ("up", "down", "save", "strip")
_CAPTURE_OPTIONS = "--outer --keys --write --count --seconds"
_TOP_OPTIONS = "--once --interval"
_INTERFACE_SETTINGS = "listen-port fwmark private-key peer"
_PEER_SETTINGS = "remove preshared-key endpoint persistent-keepalive allowed-ips peer"

_BASH = """\
_wgpy() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i
    local command=${COMP_WORDS[1]} words= files=
    if ((COMP_CWORD == 1)); then
        words="@COMMANDS@ @OPTIONS@"
    else
        case $command in
        @IFACE@)
            if ((COMP_CWORD == 2)); then
                words=$(wgpy show interfaces 2>/dev/null)
                [[ $command == show ]] && words+=" all interfaces --json"
                [[ $command == top ]] && words+=" @TOP@"
                [[ $command == capture ]] && words+=" @CAPTURE@"
            elif [[ $command == show ]]; then
                ((COMP_CWORD == 3)) && words="@FIELDS@ --json"
            elif [[ $command == top ]]; then
                words="$(wgpy show interfaces 2>/dev/null) @TOP@"
            elif [[ $command == capture ]]; then
                words="$(wgpy show interfaces 2>/dev/null) @CAPTURE@"
                [[ $prev == --write ]] && words= files=1
            elif [[ $command == *conf && $command != showconf ]]; then
                ((COMP_CWORD == 3)) && files=1
            elif [[ $command == set ]]; then
                case $prev in
                private-key|preshared-key) files=1 ;;
                peer) words=$(wgpy show "${COMP_WORDS[2]}" peers 2>/dev/null) ;;
                fwmark|persistent-keepalive) words=off ;;
                listen-port|endpoint|allowed-ips) ;;
                *)
                    words="@INTERFACE_SETTINGS@"
                    for ((i = 3; i < COMP_CWORD; i++)); do
                        [[ ${COMP_WORDS[i]} == peer ]] && words="@PEER_SETTINGS@"
                    done ;;
                esac
            fi ;;
        @CONFIG@)
            if ((COMP_CWORD == 2)); then
                files=1
                words=$(cd /etc/wireguard 2>/dev/null && ls -- *.conf 2>/dev/null)
                words=${words//.conf/}
            fi ;;
        completion) ((COMP_CWORD == 2)) && words="bash zsh fish" ;;
        help) ((COMP_CWORD == 2)) && words="@COMMANDS@" ;;
        esac
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$cur") )
    [[ -n $files ]] && COMPREPLY+=( $(compgen -f -- "$cur") )
    return 0
}
complete -o filenames -F _wgpy wgpy
"""
_ZSH = """\
#compdef wgpy
autoload -U +X bashcompinit && bashcompinit
"""
# compinit loads a file of $fpath when it is first asked, and wants an answer at once.
_ZSH_END = """\
[[ $zsh_eval_context[-1] == loadautofunc ]] && _bash_complete -o filenames -F _wgpy
"""
_FISH = """\
complete -c wgpy -f
complete -c wgpy -n __fish_use_subcommand -a '@OPTIONS@'
@FISH_COMMANDS@
set -l wgpy_iface '@FISH_IFACE@'
set -l wgpy_config '@FISH_CONFIG@'
complete -c wgpy -n "__fish_seen_subcommand_from $wgpy_iface" \\
    -a '(wgpy show interfaces 2>/dev/null | string split " ")'
complete -c wgpy -n "__fish_seen_subcommand_from show" -a 'all interfaces @FIELDS@'
complete -c wgpy -n "__fish_seen_subcommand_from show" -l json
complete -c wgpy -n "__fish_seen_subcommand_from top" -a '@TOP@'
complete -c wgpy -n "__fish_seen_subcommand_from capture" -a '@CAPTURE@' -F
complete -c wgpy -n "__fish_seen_subcommand_from set" -a '@INTERFACE_SETTINGS@ @PEER_SETTINGS@'
complete -c wgpy -n "__fish_seen_subcommand_from set setconf addconf syncconf $wgpy_config" -F
complete -c wgpy -n "__fish_seen_subcommand_from $wgpy_config" \\
    -a '(path basename -E /etc/wireguard/*.conf 2>/dev/null)'
complete -c wgpy -n "__fish_seen_subcommand_from completion" -a 'bash zsh fish'
"""
_SHELLS = {"bash": _BASH, "zsh": _ZSH + _BASH + _ZSH_END, "fish": _FISH}


def completion(shell: str) -> None:
    """Print the script for a shell. UsageError if it is none of ours."""
    if shell not in _SHELLS:
        raise UsageError(f"{shell!r} is not a shell known here (known: {', '.join(_SHELLS)})")
    sys.stdout.write(script(shell))


def script(shell: str) -> str:
    """The script for `shell`, one of bash, zsh, fish."""
    fish_commands = "\n".join(
        f"complete -c wgpy -n __fish_use_subcommand -a {name} -d '{command.summary}'"
        for name, command in COMMANDS.items()
    )
    text = _SHELLS[shell]
    for mark, value in {
        "COMMANDS": " ".join((*COMMANDS, "help")),
        "OPTIONS": _OPTIONS,
        "IFACE": "|".join(_IFACE_FIRST),
        "CONFIG": "|".join(_CONFIG_FIRST),
        "FIELDS": " ".join(FIELDS),
        "INTERFACE_SETTINGS": _INTERFACE_SETTINGS,
        "PEER_SETTINGS": _PEER_SETTINGS,
        "CAPTURE": _CAPTURE_OPTIONS,
        "TOP": _TOP_OPTIONS,
        "FISH_COMMANDS": fish_commands,
        "FISH_IFACE": " ".join(_IFACE_FIRST),
        "FISH_CONFIG": " ".join(_CONFIG_FIRST),
    }.items():
        text = text.replace(f"@{mark}@", value)
    return text
