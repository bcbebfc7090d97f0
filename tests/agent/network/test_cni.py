"""The file for the container runtime."""

import json
import stat
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.network.base import NetworkError
from agent.network.cni import FILE, Cni, CniDesired, chained_plugins, conflist

_DESIRED = CniDesired((ip_network("10.244.3.0/24"), ip_network("fd00:244:0:3::/64")), 1380)


def test_it_names_the_plugins_with_both_families_and_the_mtu() -> None:
    whole = json.loads(conflist(_DESIRED))
    bridge, portmap = whole["plugins"]
    assert (bridge["type"], portmap["type"], bridge["bridge"]) == ("bridge", "portmap", "wgpy-pods")
    assert bridge["mtu"] == 1380
    assert bridge["ipam"]["ranges"] == [
        [{"subnet": "10.244.3.0/24"}],
        [{"subnet": "fd00:244:0:3::/64"}],
    ]
    assert bridge["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert bridge["ipMasq"] is False


def test_it_is_written_once_for_root_alone(tmp_path: Path) -> None:
    cni = Cni(tmp_path / "net.d", tmp_path / "run")
    path = tmp_path / "net.d" / FILE
    assert cni.reconcile(_DESIRED) == [f"{path} is written, it was missing"]
    inode = path.stat().st_ino
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cni.reconcile(_DESIRED) == []
    assert path.stat().st_ino == inode
    assert list(path.parent.iterdir()) == [path]


def test_after_a_reboot_the_runtime_finds_nothing_until_the_agent_has_come(tmp_path: Path) -> None:
    cni = Cni(tmp_path / "net.d", tmp_path / "run")
    cni.reconcile(_DESIRED)
    path = tmp_path / "net.d" / FILE
    (tmp_path / "run" / FILE).unlink()
    assert path.is_symlink()
    assert not path.exists()
    inode = path.lstat().st_ino
    assert cni.reconcile(_DESIRED) == [f"{path} is written, it was missing"]
    assert path.read_text() == conflist(_DESIRED)
    # The runtime, which watches the directory, hears of it.
    assert path.lstat().st_ino != inode


@pytest.mark.parametrize("drift", ["text", "mode", "gone", "bytes", "file", "other"])
def test_drift_is_repaired(tmp_path: Path, drift: str) -> None:
    cni = Cni(tmp_path, tmp_path / "run")
    cni.reconcile(_DESIRED)
    path = tmp_path / FILE
    if drift == "text":
        path.write_text("{}")
    elif drift == "mode":
        path.chmod(0o644)
    elif drift == "bytes":
        path.write_bytes(b"\xff\xfe")
    elif drift == "file":
        path.unlink()
        path.write_text(conflist(_DESIRED))
    elif drift == "other":
        path.unlink()
        path.symlink_to("/dev/null")
    else:
        path.unlink()
    assert len(cni.reconcile(_DESIRED)) == 1
    assert path.is_symlink()
    assert path.read_text() == conflist(_DESIRED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    cni = Cni(tmp_path, tmp_path / "run")
    cni.reconcile(_DESIRED)
    with (tmp_path / FILE).open() as reader:
        cni.reconcile(CniDesired(_DESIRED.pod_cidrs, 1300))
        assert reader.read() == conflist(_DESIRED)


def test_what_a_killed_agent_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".{FILE}.new").write_text("half")
    assert len(Cni(tmp_path, tmp_path / "run").reconcile(_DESIRED)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, "run"]


def test_without_pod_cidrs_there_is_no_file(tmp_path: Path) -> None:
    cni = Cni(tmp_path, tmp_path / "run")
    cni.reconcile(_DESIRED)
    assert len(cni.reconcile(CniDesired())) == 1
    assert [*tmp_path.rglob(FILE)] == []
    cni.remove()


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "net.d").write_text("")
    with pytest.raises(NetworkError, match=r"10-wgpy.conflist: Not a directory"):
        Cni(tmp_path / "net.d", tmp_path / "run").reconcile(_DESIRED)


def test_files_that_a_runtime_takes_instead_are_told(tmp_path: Path) -> None:
    cni = Cni(tmp_path, tmp_path / "run")
    cni.reconcile(_DESIRED)
    for name in ("10-flannel.conflist", "05-x.conf", "00-note.txt", "99-loopback.conf"):
        (tmp_path / name).write_text("{}")
    assert cni.preceded_by() == ["05-x.conf", "10-flannel.conflist"]
    with pytest.raises(NetworkError, match="No such file"):
        Cni(tmp_path / "none", tmp_path / "run").preceded_by()


_MESH = {"type": "istio-cni", "name": "istio-cni", "log_level": "info"}
_LIMIT = {"type": "bandwidth", "capabilities": {"bandwidth": True}}


@pytest.mark.parametrize("how", ["in place", "file of its own"])
def test_plugins_that_others_chain_after_ours_stay(tmp_path: Path, how: str) -> None:
    """Whether they write through our link, or put a file in its place, as istio-cni does."""
    cni = Cni(tmp_path, tmp_path / "run")
    cni.reconcile(_DESIRED)
    path = tmp_path / FILE
    whole = json.loads(path.read_text())
    whole["plugins"] += [_LIMIT, _MESH]
    if how == "in place":
        path.write_text(json.dumps(whole))
    else:
        path.unlink()
        path.write_text(json.dumps(whole))
    cni.reconcile(_DESIRED)
    assert path.is_symlink()
    assert path.read_text() == conflist(_DESIRED, (_LIMIT, _MESH))
    # No fight, and ours may change.
    assert cni.reconcile(_DESIRED) == []
    wider = CniDesired(_DESIRED.pod_cidrs, 8940)
    cni.reconcile(wider)
    assert path.read_text() == conflist(wider, (_LIMIT, _MESH))


@pytest.mark.parametrize(
    "plugins",
    [
        None,
        [],
        {},
        [_MESH],
        [{"type": "bridge", "bridge": "cni0"}, _MESH],
        [{"type": "bridge", "bridge": "wgpy-pods"}, "x"],
        [{"type": "bridge", "bridge": "wgpy-pods"}, {"name": "x"}],
    ],
)
def test_what_is_no_chain_of_ours_is_not_kept(plugins: object) -> None:
    assert chained_plugins(json.dumps({"plugins": plugins})) == ()
    assert chained_plugins("[" * 100_000) == ()
