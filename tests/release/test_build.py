"""What is released: built twice it is the same, and it has what belongs into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from wgpy import __version__

# 2026-11-27.
_EPOCH = "1795737600"
_LEFT_OUT = (".*", "*.egg-info", "__pycache__", "build", "dist", "_build", "captures")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two directories with a wheel and an sdist each, of checkouts that differ in their times."""
    return [build(tmp_path_factory.mktemp(name), age) for name, age in (("one", 0), ("two", 9e6))]


def build(directory: Path, age: float) -> Path:
    """Build a copy of the checkout whose files are as old as that, in a directory of this name."""
    checkout, target = directory / "checkout", directory / "dist"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    for path in checkout.rglob("*"):
        os.utime(path, (time.time() - age, time.time() - age))
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(target),
        str(checkout),
    ]
    environment = os.environ | {"SOURCE_DATE_EPOCH": _EPOCH, "TZ": "UTC" if age else "Asia/Tokyo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_the_same_source_is_the_same_release(built: list[Path]) -> None:
    one, two = ({path.name: path.read_bytes() for path in place.iterdir()} for place in built)
    assert set(one) == {f"wgpy-{__version__}-py3-none-any.whl", f"wgpy-{__version__}.tar.gz"}
    assert one == two


def test_the_wheel_has_what_it_needs_and_no_more(built: list[Path]) -> None:
    (wheel,) = built[0].glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    data = f"wgpy-{__version__}.data/data"
    assert {"wgpy/py.typed", "tun/py.typed", "agent/cli.py", "wgpy/device/device.py"} <= set(names)
    assert f"{data}/share/man/man1/wgpy.1" in names
    assert f"{data}/lib/systemd/system/wgpy@.service" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "wgpy",
        "tun",
        "agent",
        f"wgpy-{__version__}.data",
        f"wgpy-{__version__}.dist-info",
    }


def test_the_sdist_has_the_sources_and_the_tests(built: list[Path]) -> None:
    (sdist,) = built[0].glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "docs/index.md", "tests/sim.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]
