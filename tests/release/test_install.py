"""The wheel goes into systems that have nothing but a Python, and works there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.release.roots import SYSTEMS, Root, root, wheels
from tests.release.test_build import build
from wgpy import __version__

pytestmark = [pytest.mark.system, pytest.mark.release]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (wheel,) = build(tmp_path_factory.mktemp("release"), 0).glob("*.whl")
    return wheel


@pytest.mark.parametrize("python", SYSTEMS)
def test_it_installs_and_runs(python: str, wheel: Path, tmp_path: Path) -> None:
    with root(python, tmp_path) as system:
        wheels(f"{wheel}[agent]", python, system.path / "wheels")
        system.run(
            f"{system.python} -m venv /opt/wgpy\n"
            "/opt/wgpy/bin/pip install --quiet --no-index --find-links /wheels 'wgpy[agent]'\n"
            "/opt/wgpy/bin/pip check"
        )
        said = system.run(
            "PATH=$PATH:/opt/wgpy/bin\n"
            "wgpy --version\n"
            "wgpy-agent --help > /dev/null\n"
            "wgpy wg0\n"
            "wgpy genkey > /key\n"
            "wgpy set wg0 listen-port 51820 private-key /key\n"
            "ip link set wg0 up\n"
            "wgpy show wg0 listen-port\n"
            "ip link delete wg0\n"
        )
        assert said.split("\n")[:2] == [f"wgpy {__version__}", "51820"]
        assert (system.path / "opt/wgpy/share/man/man1/wgpy.1").is_file()


def test_the_install_page_installs_on_debian(tmp_path: Path) -> None:
    """Its commands, as they are; only where pip finds packages is another place."""
    with root("3.11", tmp_path) as system:
        system.run("cd /wgpy\n" + bring_the_install_page(system))
        assert system.run("wgpy --version") == f"wgpy {__version__}\n"
        assert (system.path / "etc/systemd/system/wgpy@.service").is_file()


def bring_the_install_page(system: Root) -> str:
    """Put a clone into /wgpy, and what pip wants; returns the page's commands for there."""
    page = blocks(ROOT / "docs" / "install.md")
    commands = [block.text for block in page if block.tested and __file__.endswith(block.tested)]
    assert len(commands) == 2, "a clone and a unit"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "dist")
    shutil.copytree(ROOT, system.path / "wgpy", ignore=ignored)
    offer(system, f"{ROOT}")
    return "".join(commands)


def offer(system: Root, requirement: str) -> None:
    """Have pip inside find a requirement, and what builds it, without a network."""
    for each in (requirement, "hatchling"):
        wheels(each, system.python.removeprefix("python"), system.path / "wheels")
    settings = "[install]\nno-index = true\nfind-links = /wheels\n"
    (system.path / "etc/pip.conf").write_text(settings)
