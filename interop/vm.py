"""A virtual machine that runs scenarios under another kernel, on this machine's own files.

virtme-ng boots the kernel in QEMU with the root file system shared read-only. One boot
(some 6 s) plays a whole list of scenarios; results come back line by line in a shared directory.
Software emulation throughout: where /dev/kvm exists a nested guest may still hang under it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from interop import cache
from interop.counterparts.base import Unavailable
from interop.counterparts.kernel import Kernel
from interop.results import Result
from interop.shell import ScenarioFailed

_OPTIONS = "--disable-kvm --disable-microvm --force-9p --cpus 1 --user root --verbose --memory 1G"
"""One processor: with two, the kernel's patching of its own code crashes it under emulation."""
_CACHED_ROOT = """\
exec >{directory}/guest.log 2>&1
set -e
for module in wireguard tun veth bridge virtio_net {netfilter}; do modprobe $module; done
tag=$(awk '$2 == "/mnt" {{ print $1 }}' /proc/mounts)
umount /mnt
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose "$tag" /mnt
for part in /proc /sys /dev /run /tmp {directory}; do mount --rbind $part /mnt$part; done
exec chroot /mnt sh {directory}/play.sh
"""
"""The shared files once more, but cached: a daemon's files are read once, not at every start."""
_NETFILTER = (
    "nf_tables nft_chain_nat nft_masq nft_ct nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet "
    "nf_conntrack_netlink nft_limit"
)
"""What a NAT and a full tunnel's filter are made of."""
_HOME = Path(__file__).resolve().parent.parent


def play_in_guest(
    kernel: Kernel, scenarios: list[str], implementation: str, directory: Path, patience: float
) -> Iterator[Result | None]:
    """Boot `kernel`, play `scenarios` inside, yield each result as it comes, `None` meanwhile.

    A guest that ends early or has said nothing for `patience` s leaves the rest as errors.

    :raises Unavailable: no kernel, QEMU or virtme-ng can be had.
    """
    _, release = _image(kernel)
    results = directory / "results.jsonl"
    results.write_text("")
    options = ["--kernel", kernel.name, "--implementation", implementation]
    argv = ["-m", "interop.guest", *options, "--directory", str(directory), *scenarios]
    left = list(scenarios)
    with _guest(kernel, [sys.executable, *argv], directory) as guest:
        for result in _follow(results, guest, patience):
            if result is not None and result.scenario in left:
                left.remove(result.scenario)
            yield result
    why = f"the guest ended early: {_last_words(directory)}"
    for name in left:
        yield Result(name, kernel.name, release, "error", 0, why)
        why = "the guest had ended"


def run_in_guest(
    kernel: Kernel,
    argv: list[str],
    directory: Path,
    patience: float,
    *vng: str,
    netfilter: str = _NETFILTER,
) -> tuple[int, str]:
    """Boot `kernel` and run a command inside: its exit status, and all that it printed.

    :param vng: further options of vng(1).
    :param netfilter: the modules of the kernel that are loaded before.

    :raises Unavailable: no kernel, QEMU or virtme-ng can be had.
    :raises ScenarioFailed: the guest ended early, or has not ended after `patience` s.
    """
    status = directory / "status"
    expired = contextlib.suppress(subprocess.TimeoutExpired)
    with _guest(kernel, argv, directory, *vng, netfilter=netfilter) as guest, expired:
        guest.wait(patience)
    if not status.exists():
        raise ScenarioFailed(f"the guest ended early: {_last_words(directory)}")
    return int(status.read_text()), (directory / "guest.log").read_text(errors="replace")


@contextlib.contextmanager
def _guest(
    kernel: Kernel, argv: list[str], directory: Path, *more: str, netfilter: str = _NETFILTER
) -> Iterator[subprocess.Popen[bytes]]:
    """A machine that runs a command and ends; what it printed and its status are in `directory`."""
    image, _ = _image(kernel)
    tools = _tools()
    script = _write_scripts(directory, argv, netfilter)
    vng = ["vng", "-r", str(image), *_OPTIONS.split(), *more]
    vng += [f"--rwdir={directory}", "--rodir=/mnt=/"]
    with (directory / "console.log").open("wb") as console:
        guest = subprocess.Popen(
            [*vng, "--", "sh", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": os.pathsep.join((*tools, os.environ["PATH"]))},
            start_new_session=True,
        )
        try:
            yield guest
        finally:
            _power_off(guest)


def _write_scripts(directory: Path, argv: list[str], netfilter: str) -> Path:
    """What the guest runs; returns the script that it is to start with."""
    (directory / "play.sh").write_text(
        f"cd {shlex.quote(str(_HOME))}\n"
        f"export WGPY_CACHE={shlex.quote(str(cache.directory()))}\n"
        f"{shlex.join(argv)}\n"
        f"echo $? >{shlex.quote(str(directory / 'status'))}\n"
    )
    boot = directory / "boot.sh"
    boot.write_text(_CACHED_ROOT.format(directory=shlex.quote(str(directory)), netfilter=netfilter))
    return boot


def _image(kernel: Kernel) -> tuple[Path, str]:
    root, release = kernel.files()
    for path in (root / "boot" / f"vmlinuz-{release}", root / "lib/modules" / release / "vmlinuz"):
        if path.exists():
            return path, release
    raise Unavailable(f"no kernel image among the packages of {kernel.suite}")


def _tools() -> tuple[str, str]:
    """Directories with `vng` and with `busybox`, which builds its initramfs."""
    try:
        cache.need({"qemu-system-x86_64": "qemu-system-x86", "modprobe": "kmod"})
        busybox, _ = cache.debian("busybox-static", "bookworm")
        return str(cache.venv("virtme-ng")), str(busybox / "bin")
    except cache.CannotFetch as error:
        raise Unavailable(f"no virtual machine: {error}") from None


def _follow(
    results: Path, guest: subprocess.Popen[bytes], patience: float
) -> Iterator[Result | None]:
    """Each line that the guest adds to `results`, until it ends or falls silent."""
    seen = 0
    heard = time.monotonic()
    while True:
        ended = guest.poll() is not None
        lines = [line for line in results.read_text().splitlines(True) if line.endswith("\n")]
        for line in lines[seen:]:
            yield Result.parse(line)
            heard = time.monotonic()
        seen = len(lines)
        if ended or time.monotonic() - heard > patience:
            return
        yield None
        time.sleep(0.2)


def _power_off(guest: subprocess.Popen[bytes]) -> None:
    """End virtme-ng and the QEMU below it, which are a process group of their own."""
    if guest.poll() is None:
        os.killpg(guest.pid, signal.SIGKILL)
    guest.wait()


def _last_words(directory: Path) -> str:
    for name in ("guest.log", "console.log"):
        path = directory / name
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            return f"{name}: {text.splitlines()[-1]}"
    return "without a word"
