"""kube-apiserver, built once from Debian's source with Debian's Go, and kept in the cache.

$WGPY_CACHE/kube-apiserver/
├── apt/             a list of source packages, apart from the machine's own
└── kube-apiserver   the program; VERSION is written last
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path

from interop import cache
from interop.shell import CommandFailed, run

_SUITE = "bookworm"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGE = "k8s.io/kubernetes"
_GENERATOR = "vendor/k8s.io/kube-openapi/cmd/openapi-gen"
_GENERATED = "pkg/generated/openapi"
# The one that is vendored crashes when built with Go 1.18 or later; Debian has its successor.
_SUCCESSOR = "golang-github-modern-go-reflect2-dev"
_REFLECT = "github.com/modern-go/reflect2"
_TAG = "+k8s:openapi-gen=true"
_PATIENCE = 1800.0


def kube_apiserver() -> Path:
    """The program, built if need be: some minutes, and 3 GB of disk while it lasts.

    :raises CannotFetch: no source, no compiler, or the build failed.
    """
    directory = cache.directory() / "kube-apiserver"
    directory.mkdir(exist_ok=True)
    program, stamp = directory / "kube-apiserver", directory / "VERSION"
    if stamp.exists():
        return program
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists():
            return program
        cache.need({"go": "golang-go", "dpkg-source": "dpkg-dev"})
        work = directory / "work"
        shutil.rmtree(work, ignore_errors=True)
        try:
            version = _fetch(directory / "apt", work / "src" / _PACKAGE)
            _replace_reflect(work / "src" / _PACKAGE)
            _build(work, program)
        except CommandFailed as error:
            raise cache.CannotFetch(str(error)) from None
        shutil.rmtree(work)
        stamp.write_text(version)
    return program


def _fetch(apt: Path, target: Path) -> str:
    """Unpack Debian's source to `target`; its version."""
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    sources = apt / "sources.list"
    sources.write_text(f"deb-src [signed-by={_KEYRING}] {cache.mirror()} {_SUITE} main\n")
    options = (
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=-",
        f"-oDir::State::lists={apt}/lists",
        f"-oDir::Cache={apt}",
        "-oAPT::Sandbox::User=root",
    )
    run("apt-get", *options, "update", timeout=300)
    parts = target.parent / "parts"
    parts.mkdir(parents=True)
    fetch = ("env", "-C", str(parts), "apt-get", *options, "source", "--download-only")
    run(*fetch, "kubernetes", timeout=900)
    description = next(parts.glob("*.dsc"))
    run("dpkg-source", "--no-check", "-x", str(description), str(target), timeout=300)
    shutil.rmtree(parts)
    changelog = run("dpkg-parsechangelog", "-l", str(target / "debian/changelog"))
    return next(
        line.removeprefix("Version: ")
        for line in changelog.splitlines()
        if line.startswith("Version: ")
    )


def _replace_reflect(source: Path) -> None:
    package, _ = cache.debian(_SUCCESSOR, _SUITE)
    target = source / "vendor" / _REFLECT
    shutil.rmtree(target)
    shutil.copytree(package / "usr/share/gocode/src" / _REFLECT, target)


def _build(work: Path, program: Path) -> None:
    """GOPATH mode: the source vendors all that it needs, and nothing is downloaded."""
    source = work / "src" / _PACKAGE
    generator = work / "openapi-gen"
    _go(work, "build", "-o", str(generator), f"{_PACKAGE}/{_GENERATOR}")
    packages = ",".join(_tagged(source))
    (source / _GENERATED).mkdir(parents=True, exist_ok=True)
    run(
        *_inside(work),
        str(generator),
        "--logtostderr",
        *("--input-dirs", packages),
        *("--output-base", str(work / "src")),
        *("--output-package", f"{_PACKAGE}/{_GENERATED}"),
        *("--output-file-base", "zz_generated.openapi"),
        *("--go-header-file", os.devnull),
        *("--report-filename", str(work / "violations")),
        timeout=_PATIENCE,
    )
    _go(work, "build", "-o", str(program), f"{_PACKAGE}/cmd/kube-apiserver")


def _tagged(source: Path) -> list[str]:
    """Import paths of the packages whose types the API server describes."""
    found = set()
    for top in ("cmd", "pkg", "plugin", "staging", "vendor"):
        for path in (source / top).rglob("*.go"):
            if not path.is_file() or path.name.endswith("_test.go"):
                continue
            if _TAG in path.read_text(errors="replace"):
                found.add(path.parent.relative_to(source))
    # What is staged is imported through links in vendor.
    names = (str(path).replace("staging/src/", "vendor/", 1) for path in found)
    return sorted({f"{_PACKAGE}/{name}" for name in names})


def _go(work: Path, *words: str) -> None:
    run(*_inside(work), "go", *words, timeout=_PATIENCE)


def _inside(work: Path) -> tuple[str, ...]:
    """Words before a command that runs in the source."""
    return (
        "env",
        *("-C", str(work / "src" / _PACKAGE)),
        "GO111MODULE=off",
        f"GOPATH={work}",
        f"GOCACHE={work}/cache",
        "CGO_ENABLED=0",
    )


if __name__ == "__main__":
    print(kube_apiserver(), file=sys.stdout)
