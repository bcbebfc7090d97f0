"""Every command of the documentation runs, in its page's order, on two hosts of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.hosts import deliver, two_hosts
from tests.docs.pages import ROOT, blocks, pages

pytestmark = pytest.mark.system

_PAGES = [page for page in pages() if any(block.runs for block in blocks(page))]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    with two_hosts(tmp_path) as hosts:
        for block in blocks(page):
            if not block.runs:
                continue
            script = block.text
            if block.language == "python":
                script = f"python - <<'THE-BLOCK'\n{block.text}THE-BLOCK\n"
            done = hosts[block.host].bash(script)
            assert done.returncode == 0, (
                f"{block.where}, on {block.host}: status {done.returncode}\n{script}\n"
                f"{done.stdout}\n{done.stderr}"
            )
            deliver(hosts)
