"""Files, watched."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.network.cni import FILE, Cni, CniDesired
from agent.network.filewatch import FileWatch


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "net.d").mkdir()
    (tmp_path / "net.d" / FILE).write_text("{}")
    return tmp_path / "net.d"


@pytest.fixture
def watch(directory: Path) -> Iterator[FileWatch]:
    made = FileWatch(directory, FILE)
    yield made
    made.close()


def _readable(watch: FileWatch) -> bool:
    return bool(select.select([watch], [], [], 0)[0])


@pytest.mark.parametrize("what", ["write", "chmod", "unlink", "rename", "replace"])
def test_a_change_of_the_file_is_told_once(directory: Path, watch: FileWatch, what: str) -> None:
    path = directory / FILE
    if what == "write":
        path.write_text("other")
    elif what == "chmod":
        path.chmod(0o644)
    elif what == "unlink":
        path.unlink()
    elif what == "rename":
        path.rename(directory / "another")
    else:
        (directory / "new").write_text("")
        os.replace(directory / "new", path)
    assert _readable(watch)
    assert watch.changed()
    assert not _readable(watch)
    assert not watch.changed()


def test_other_files_do_not_count(directory: Path, watch: FileWatch) -> None:
    (directory / "99-loopback.conf").write_text("")
    assert not watch.changed()


def test_our_own_writing_counts_and_the_pass_it_causes_finds_nothing(
    directory: Path, watch: FileWatch
) -> None:
    cni = Cni(directory, directory.parent)
    cni.reconcile(CniDesired())
    assert watch.changed()
    assert cni.reconcile(CniDesired()) == []
    assert not watch.changed()


def test_a_directory_that_goes_is_told(directory: Path, watch: FileWatch) -> None:
    (directory / FILE).unlink()
    directory.rmdir()
    assert watch.changed()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileWatch(tmp_path / "none", FILE)


def test_without_a_name_every_file_of_the_directory_counts(directory: Path) -> None:
    watch = FileWatch(directory)
    (directory / "wgpy-1-eth0").write_text("{}")
    assert watch.changed()
    (directory / "wgpy-1-eth0").unlink()
    assert watch.changed()
    assert not watch.changed()
    watch.close()
