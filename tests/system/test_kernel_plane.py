"""The kernel's data plane, in a virtual machine whose kernel has WireGuard."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from interop.cache import directory as cache_directory
from interop.counterparts import COUNTERPARTS
from interop.counterparts.kernel import Kernel
from interop.vm import run_in_guest

pytestmark = [pytest.mark.system, pytest.mark.slow]

_PATIENCE = 600.0


def _inside(script: str) -> str:
    """What a shell script prints in the guest, which must end well."""
    kernel = COUNTERPARTS["kernel-trixie"]
    assert isinstance(kernel, Kernel)
    kernel.version()
    # Below the cache, as /tmp is the guest's own.
    runs = cache_directory() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as shared:
        status, text = run_in_guest(kernel, ["sh", "-ec", script], Path(shared), _PATIENCE)
    assert status == 0, text
    return text


def test_the_kernel_plane_conforms_as_the_userspace_plane_does() -> None:
    """The suite that skips its kernel half on a host without the module."""
    text = _inside(
        f"{sys.executable} -m pytest -q -p no:cacheprovider -k kernel "
        "tests/dataplane/test_conformance.py",
    )
    assert "20 passed" in text, text


def test_wgpy_show_and_set_on_a_kernel_interface_are_those_of_wg() -> None:
    wgpy = f"{sys.executable} -m wgpy"
    text = _inside(
        "cd /tmp\n"
        "umask 077\n"
        "ip link add wgk type wireguard\n"
        f"{wgpy} genkey >key\n"
        f"peer=$({wgpy} genkey | {wgpy} pubkey)\n"
        f"{wgpy} set wgk private-key key listen-port 7777 fwmark 0x11 peer $peer "
        "endpoint 192.0.2.9:9 persistent-keepalive 25 allowed-ips 10.1.0.0/16,fd00::/64\n"
        "wg show wgk dump >theirs\n"
        f"{wgpy} show wgk dump >ours\n"
        "cmp ours theirs\n"
        "wg show wgk >theirs\n"
        f"{wgpy} show wgk >ours\n"
        "cmp ours theirs\n"
        "wg showconf wgk >theirs\n"
        f"{wgpy} showconf wgk >ours\n"
        "cmp ours theirs\n"
        f"{wgpy} setconf wgk theirs\n"
        "wg showconf wgk | cmp - theirs\n"
        "echo all the same\n",
    )
    assert "all the same" in text
