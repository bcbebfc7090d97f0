"""Tab completion, tried in the real bash."""

import subprocess
from pathlib import Path

import pytest

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


def complete(directory: Path, *words: str) -> list[str]:
    program = directory / "wgpy"
    program.write_text(FAKE)
    program.chmod(0o755)
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
