"""What can be said of the pages without running them: marks, links, paths, and a strict build."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import HOSTS, NEEDS, ROOT, RUNS, SHOWN, blocks, pages

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:\w[\w.-]*/)+[\w.*-]*|[\w-]+\.(?:py|toml|md))(?:::\w+)?`")
_PLACES = ("", "wgpy", "agent", "tests", "interop")
_PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


@_PAGES
def test_each_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in (*RUNS, *SHOWN), f"{block.where}: {block.language!r}?"
        assert block.host in HOSTS, block.where
        assert block.needs is None or block.needs in NEEDS, block.where
        if block.language == "text":
            # A command that hides among output is one that nobody runs.
            hidden = re.search(r"^[$#] \w", block.text, re.MULTILINE)
            assert not hidden, f"{block.where}: commands belong into a block of sh"
        if block.tested:
            _assert_tested(block.tested, block.where)


def _assert_tested(named: str, where: str) -> None:
    path, _, test = named.partition("::")
    assert (ROOT / path).is_file(), f"{where}: {path} is not there"
    if test:
        assert f"def {test}(" in (ROOT / path).read_text(), f"{where}: {path} has no {test}"


def test_most_commands_are_run() -> None:
    found = [block for page in pages() for block in blocks(page) if block.language == "sh"]
    run = sum(block.commands() for block in found if not block.needs)
    assert run > 3 * sum(block.commands() for block in found if block.needs)


@_PAGES
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if not re.match(r"[a-z]+:", link) and not link.startswith("#"):
            assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_files_it_names_are_there(name: str) -> None:
    text = (ROOT / name).read_text()
    named = _PATH.findall(text)
    assert len(named) > 10 or name != "ARCHITECTURE.md"
    missing = [path for path in named if not _is_there(path)]
    assert not missing, f"{name} names {missing}"


def _is_there(path: str) -> bool:
    return any(list((ROOT / place).glob(f"{path.rstrip('/')}")) for place in _PLACES)


def test_the_map_is_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
