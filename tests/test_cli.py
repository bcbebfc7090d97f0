"""The command line: dispatch, help, errors, exit status; nothing here needs an interface."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import pytest

from wgpy import __version__, cli
from wgpy.tools.commands import COMMANDS
from wgpy.tools.completion import script
from wgpy.tools.helptext import general_help

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="


def test_every_command_can_be_loaded_and_has_an_example() -> None:
    for name, command in COMMANDS.items():
        assert callable(cli._load(command.run)), name
        assert any(f"wgpy {name}" in example for example in command.examples), name


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("form", [["help", "{}"], ["{}", "--help"], ["{}", "-h"]])
def test_help_of_a_command(name: str, form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word.format(name) for word in form]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: wgpy {name}") and "\nExamples:\n  " in out and err == ""
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help_names_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 100


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"wgpy {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a command or an interface"),
        (["wg0", "wg1"], "'wg0' is not a command"),
        (["--bogus", "wg0"], "--bogus: this option is not known"),
        (["-f"], "expected an interface"),
        (["--"], "expected an interface"),
        (["help", "bogus"], "'bogus' is not a command"),
        (["genkey", "x"], "genkey: expected no arguments, found 1"),
        (["setconf", "wg0"], "setconf: expected IFACE FILE, found 1"),
        (["set", "wg0"], "set: expected an interface and settings (usage: wgpy set IFACE"),
        (["show", "wg0", "bogus"], "show: 'bogus' is not a field"),
        (["show", "interfaces", "dump"], "show: expected at most an interface and one field"),
        (["show", "wg0", "dump", "--json"], "show: --json: expected an interface"),
        (["setconf", "wg0", "/nowhere"], "/nowhere: No such file or directory"),
        (["completion", "tcsh"], "completion: "),
    ],
)
def test_a_mistake_is_one_line_on_standard_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"wgpy: {message}") and len(err.splitlines()) == 1 and out == ""


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["wg0"], ("wg0", False, {})),
        (["-f", "wg0"], ("wg0", True, {})),
        (["--foreground", "--", "wg0"], ("wg0", True, {})),
        (["--", "show"], ("show", False, {})),
        (["--no-udp-gso", "--no-udp-gro", "wg0"], ("wg0", False, {"udp_gso": 0, "udp_gro": 0})),
        (["--no-tun-offloads", "wg0"], ("wg0", False, {"tun_offloads": 0})),
        (["--no-recvmmsg", "wg0"], ("wg0", False, {"recvmmsg": 0})),
        (["--no-sendmmsg", "wg0"], ("wg0", False, {"sendmmsg": 0})),
        (["--workers", "2", "-f", "wg0"], ("wg0", True, {"workers": 2})),
        (["--workers=64", "wg0"], ("wg0", False, {"workers": 64})),
        (["--keylog", "/x/keys", "wg0"], ("wg0", False, {"key_log": "/x/keys"})),
        (["--keylog=/x/keys", "wg0"], ("wg0", False, {"key_log": "/x/keys"})),
    ],
)
def test_an_interface_starts_the_daemon(
    words: list[str],
    called: tuple[str, bool, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wgpy.device import daemon
    from wgpy.device.options import DeviceOptions

    seen = []

    def main(interface: str, *, foreground: bool, options: DeviceOptions) -> int:
        seen.append((interface, foreground, options))
        return 7

    monkeypatch.setattr(daemon, "main", main)
    assert cli.main(words) == 7
    name, foreground, off = called
    options = DeviceOptions(**off)
    assert seen == [(name, foreground, options)]


def test_what_a_device_uses_of_its_kernel_can_be_switched_off_and_the_help_says_how() -> None:
    from wgpy.device.options import DeviceOptions

    switches = [field.name for field in fields(DeviceOptions) if field.default is True]
    assert list(cli._DAEMON_FLAGS.values()) == switches
    for flag, name in cli._DAEMON_FLAGS.items():
        assert flag == f"--no-{name.replace('_', '-')}"
        assert f"\n  {flag} " in general_help("")
        assert all(flag in script(shell) for shell in ("bash", "zsh", "fish"))


def run(
    *words: str, text: str = "", stdout: int | IO[str] = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "wgpy", *words],
        input=text,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_reader_that_leaves_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run("help", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_genkey_warns_when_others_can_read(tmp_path: Path) -> None:
    for mode, lines in ((0o644, 1), (0o600, 0)):
        path = tmp_path / f"{mode:o}"
        path.touch()
        path.chmod(mode)
        with path.open("w") as out:
            done = run("genkey", stdout=out)
        assert done.returncode == 0 and len(done.stderr.splitlines()) == lines
        assert len(path.read_text()) == 45


def test_keys_of_both_kinds_can_be_made_and_used() -> None:
    assert len(run("genpsk").stdout) == 45
    assert run("pubkey", text=KEY).stdout == "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=\n"
    bad = run("pubkey", text="secret")
    assert bad.returncode == 1 and "secret" not in bad.stderr and bad.stdout == ""


def test_the_tools_load_nothing_heavy() -> None:
    code = (
        "import sys; from wgpy import cli; cli.main(['genkey']); import wgpy.tools.showcommands\n"
        "print([m for m in ('numpy', 'uvloop', 'asyncio', 'pyroute2', 'cryptography', 'nacl')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"
