"""Tab completion, tried in the real shells."""

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from interop import cache
from wgpy.tools.commands import COMMANDS
from wgpy.tools.completion import script
from wgpy.tools.fields import FIELDS

FAKE = """\
#!/bin/sh
case "$*" in
"show interfaces") echo "wg0 wg1" ;;
"show wg0 peers") echo KEY= ;;
esac
"""


PATIENCE = 60.0


def fake(directory: Path) -> None:
    program = directory / "wgpy"
    program.write_text(FAKE)
    program.chmod(0o755)


def complete(directory: Path, *words: str) -> list[str]:
    fake(directory)
    array = " ".join(f"'{word}'" for word in ("wgpy", *words))
    code = (
        f"PATH={directory}:$PATH; cd {directory}; source /dev/stdin\n"
        f"COMP_WORDS=({array}); COMP_CWORD={len(words)}; _wgpy\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", code], input=script("bash"), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sy"], ["syncconf"]),
        (["gen"], ["genkey", "genpsk"]),
        (["--fore"], ["--foreground"]),
        (["show", ""], ["wg0", "wg1", "all", "interfaces", "--json"]),
        (["top", ""], ["wg0", "wg1", "--once", "--interval"]),
        (["top", "--once", "wg"], ["wg0", "wg1"]),
        (["capture", "--k"], ["--keys"]),
        (["capture", "--keys", "w"], ["wg0", "wg1"]),
        (["capture", "--write", "wgp"], ["wgpy"]),
        (["showconf", ""], ["wg0", "wg1"]),
        (["showconf", "wg0", ""], []),
        (["show", "wg0", "e"], ["endpoints"]),
        (["set", "wg0", "p"], ["private-key", "peer"]),
        (["set", "wg0", "peer", ""], ["KEY="]),
        (["set", "wg0", "peer", "KEY=", "p"], ["preshared-key", "persistent-keepalive", "peer"]),
        (["set", "wg0", "fwmark", ""], ["off"]),
        (["setconf", "wg0", "wgp"], ["wgpy"]),
        (["up", "./wg"], ["./wgpy"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["genkey", ""], []),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    assert complete(tmp_path, *words) == expected


def test_bash_knows_every_command(tmp_path: Path) -> None:
    assert set(COMMANDS) <= set(complete(tmp_path, ""))
    assert list(FIELDS) == [w for w in complete(tmp_path, "show", "wg0", "") if w != "--json"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_mark_is_left_in_a_script(shell: str) -> None:
    text = script(shell)
    assert not any(mark in text for mark in ("@COMMANDS@", "@FIELDS@", "@OPTIONS@", "_SETTINGS@"))
    assert all(command in text for command in COMMANDS)


@pytest.mark.system
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wgpy comp", ["completion"]),
        ("wgpy completion ", ["bash", "fish", "zsh"]),
        ("wgpy show ", ["all", "interfaces", "wg0", "wg1"]),
        ("wgpy top --", ["--interval", "--once"]),
        ("wgpy show wg0 e", ["endpoints"]),
        ("wgpy setconf wg0 wgp", ["wgpy"]),
    ],
)
def test_fish_completes(line: str, expected: list[str], tmp_path: Path) -> None:
    cache.need({"fish": "fish"})
    fake(tmp_path)
    (tmp_path / "wgpy.fish").write_text(script("fish"))
    code = f"set PATH {tmp_path} $PATH; cd {tmp_path}; source wgpy.fish; complete -C '{line}'"
    fish = ["fish", "--no-config", "-c", code]
    home = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(fish, env=home, capture_output=True, text=True, check=True)
    found = {line.split("\t")[0] for line in done.stdout.splitlines()}
    assert set(expected) <= found and done.stderr == ""
    assert all(word.startswith(line.split(" ")[-1]) for word in found)


@pytest.mark.system
@pytest.mark.parametrize("way", ["eval", "fpath"])
def test_zsh_completes_at_the_first_press(way: str, tmp_path: Path) -> None:
    cache.need({"zsh": "zsh"})
    fake(tmp_path)
    (tmp_path / "_wgpy").write_text(script("zsh"))
    begin = f"path=({tmp_path} $path); cd {tmp_path}; autoload -U compinit; "
    begin += {
        "eval": "compinit -D -u; source ./_wgpy",
        "fpath": f"fpath=({tmp_path} $fpath); compinit -D -u",
    }[way]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb", PS1="% ", HOME=str(tmp_path))
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        type_until(terminal, f"{begin}; echo rea''dy\n", b"ready\r\n")
        type_until(terminal, "wgpy comp\t", b"wgpy completion")
        type_until(terminal, "\x15wgpy showconf w\t", b"wgpy showconf wg")
        type_until(terminal, "\t", b"wg0")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def type_until(terminal: int, keys: str, shown: bytes) -> None:
    os.write(terminal, keys.encode())
    seen, deadline = b"", time.monotonic() + PATIENCE
    while shown not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536)
