"""What the suite fetches is fetched once: Debian packages unpacked, PyPI packages in a venv.

$WGPY_CACHE (default ~/.cache/wgpy)
├── apt/                 lists of the suites below, apart from the machine's own
├── debian/SUITE/PACKAGE unpacked packages, never installed; VERSION is written last
└── venv/PACKAGE         one virtual environment per PyPI package
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from interop.shell import CommandFailed, run

SUITES = ("bookworm", "trixie", "sid")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_INSTALL = "apt-get install -y --no-install-recommends"


class CannotFetch(RuntimeError):
    """A package cannot be had here; the message is the reason."""


def directory() -> Path:
    """The cache's directory, made if need be."""
    path = Path(os.environ.get("WGPY_CACHE") or Path.home() / ".cache" / "wgpy")
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def need(commands: dict[str, str]) -> None:
    """Install the packages (values) whose commands (keys) this machine lacks.

    :raises CannotFetch: apt failed.
    """
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = sorted({p for command, p in commands.items() if not shutil.which(command, path=path)})
    if not missing:
        return
    try:
        try:
            run(*_INSTALL.split(), *missing, timeout=600)
        except CommandFailed:
            run("apt-get", "update", timeout=300)
            run(*_INSTALL.split(), *missing, timeout=600)
    except CommandFailed as error:
        raise CannotFetch(str(error)) from None


def debian(package: str, suite: str) -> tuple[Path, str]:
    """The unpacked package of a Debian suite, and its version.

    :raises CannotFetch: no such package, or no way to the mirror.
    """
    target = directory() / "debian" / suite / package
    stamp = target / "VERSION"
    if not stamp.exists():
        try:
            _unpack([package], suite, target)
        except CommandFailed as error:
            raise CannotFetch(str(error)) from None
    return target, stamp.read_text().strip()


def debian_kernel(suite: str) -> tuple[Path, str]:
    """A suite's stock kernel with its modules, unpacked, and its release as `uname -r` has it.

    :raises CannotFetch: as `debian`.
    """
    target = directory() / "debian" / suite / "kernel"
    stamp = target / "VERSION"
    if not stamp.exists():
        need({"depmod": "kmod"})
        try:
            image = next(p for p in _depends("linux-image-amd64", suite) if "image" in p)
            release = image.removeprefix("linux-image-")
            parts = [p for p in _depends(image, suite) if p.endswith(release)]
            _unpack([image, *parts], suite, target)
            if not (target / "lib").exists():
                (target / "lib").symlink_to("usr/lib")
            run("depmod", "-b", str(target), release)
        except CommandFailed as error:
            stamp.unlink(missing_ok=True)
            raise CannotFetch(str(error)) from None
        stamp.write_text(release)
    return target, stamp.read_text().strip()


def venv(package: str) -> Path:
    """The `bin` directory of a virtual environment that has the PyPI package.

    :raises CannotFetch: pip failed.
    """
    target = directory() / "venv" / package
    ready = target / "READY"
    if not ready.exists():
        shutil.rmtree(target, ignore_errors=True)
        try:
            run(sys.executable, "-m", "venv", str(target), timeout=120)
            run(
                str(target / "bin" / "pip"),
                "install",
                "--quiet",
                "--only-binary=:all:",
                package,
                timeout=600,
            )
        except CommandFailed as error:
            raise CannotFetch(str(error)) from None
        ready.touch()
    return target / "bin"


def _unpack(packages: list[str], suite: str, target: Path) -> None:
    options = _apt()
    shutil.rmtree(target, ignore_errors=True)
    parts = target / "parts"
    parts.mkdir(parents=True)
    fetch = ["env", "-C", str(parts), "apt-get", *options, "download"]
    wanted = [f"{package}/{suite}" for package in packages]
    try:
        run(*fetch, *wanted, timeout=900)
    except CommandFailed:  # lists of some days ago name files that the mirror has replaced
        run("apt-get", *options, "update", timeout=300)
        run(*fetch, *wanted, timeout=900)
    archives = sorted(parts.glob("*.deb"))
    for archive in archives:
        run("dpkg", "-x", str(archive), str(target), timeout=300)
    version = run("dpkg-deb", "-f", str(archives[0]), "Version").strip()
    shutil.rmtree(parts)
    (target / "VERSION").write_text(version)


def _depends(package: str, suite: str) -> list[str]:
    """The packages that this one depends on, all the way down, kernel packages only."""
    found: list[str] = []
    todo = [package]
    while todo:
        text = run("apt-cache", *_apt(), "show", f"{todo.pop()}/{suite}")
        for line in text.splitlines():
            if line.startswith("Depends: "):
                names = [word.split()[0] for word in line.removeprefix("Depends: ").split(",")]
                new = [n for n in names if n.startswith("linux-") and n not in found]
                found += new
                todo += [n for n in new if n[-1].isdigit() or "amd64" in n]
    return found


def _apt() -> list[str]:
    """Options for an apt of its own, which knows SUITES and shares the machine's mirror."""
    root = directory() / "apt"
    sources = root / "sources.list"
    options = [
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=-",
        "-oDir::Etc::preferences=-",
        "-oDir::Etc::preferencesparts=-",
        f"-oDir::State::lists={root}/lists",
        f"-oDir::Cache={root}",
        "-oAPT::Sandbox::User=root",
    ]
    if not sources.exists():
        (root / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        mirror_here = mirror()
        sources.write_text(
            "".join(f"deb [signed-by={_KEYRING}] {mirror_here} {suite} main\n" for suite in SUITES)
        )
        try:
            run("apt-get", *options, "update", timeout=300)
        except CommandFailed:
            sources.unlink()
            raise
    return options


def mirror() -> str:
    """The mirror that this machine's own Debian comes from.

    :raises CommandFailed: apt here knows no Debian mirror.
    """
    targets = run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)").splitlines()
    for line in targets:
        label, _, mirror = line.partition(" ")
        if label == "Debian":
            return mirror
    raise CommandFailed("apt on this machine has no Debian mirror among its sources")
