"""The systemd unit: systemd takes it, it gives few rights, and they are enough."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from interop import cache
from tests.docs.hosts import two_hosts
from tests.docs.pages import ROOT

pytestmark = pytest.mark.system

_UNIT = ROOT / "share" / "systemd" / "wgpy@.service"
# Of 10, where less is better; wg-quick@.service of Debian 12 has 9.6.
_EXPOSURE = 3.0
_KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="


def test_systemd_has_nothing_against_it(tmp_path: Path) -> None:
    cache.need({"systemd-analyze": "systemd"})
    unit = tmp_path / "wgpy@wg0.service"
    shutil.copy(_UNIT, unit)
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert exposure and float(exposure[1]) <= _EXPOSURE, told


def test_its_capabilities_are_enough(tmp_path: Path) -> None:
    """A full tunnel is what `up` needs most rights for: rules, routes, a setting, the daemon."""
    bounding = re.search(r"^CapabilityBoundingSet=(.*)$", _UNIT.read_text(), re.MULTILINE)
    assert bounding
    few = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in bounding[1].split())
    limited = f"setpriv --bounding-set=-all,{few} --no-new-privs"
    with two_hosts(tmp_path) as hosts:
        done = hosts["alpha"].bash(
            "umask 077\n"
            "cat > /etc/wireguard/wg0.conf <<END\n"
            f"[Interface]\nPrivateKey = {_KEY}\nAddress = 10.9.0.1/24\nSaveConfig = true\n[Peer]\n"
            f"PublicKey = $(wgpy genkey | wgpy pubkey)\nAllowedIPs = 0.0.0.0/0\n"
            "Endpoint = 192.0.2.2:51820\nEND\n"
            f"{limited} wgpy up wg0\n"
            "wgpy show wg0 endpoints\n"
            "ip rule | grep -c fwmark\n"
            f"{limited} wgpy down wg0\n"
            "! ip link show wg0 2>/dev/null\n"
        )
    assert done.returncode == 0, done.stderr
    assert "192.0.2.2:51820" in done.stdout
