"""etcd and kube-apiserver on loopback: what a cluster's nodes agree through.

Nothing else of a control plane runs: no garbage collection, no pod CIDRs, no scheduler, no
default ServiceAccounts. Tests write those objects themselves.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from interop import cache
from interop.netns import stop
from interop.shell import wait_until
from tests.cluster.api import Api, ApiError
from tests.cluster.build import kube_apiserver
from tests.cluster.certificates import write_certificates

UNDERLAY_ADDRESSES = ("198.18.0.1", "2001:2:0:1::1")
"""Where a cluster's nodes find the API server; its certificate names them too."""
GUESTS_HOST = "10.0.2.2"
"""This machine's loopback, as a virtual machine with QEMU's user network sees it."""
_ISSUER = "https://kubernetes.default.svc"
_PATIENCE = 300.0


class Access:
    """The way to a running API server, and the right to do everything there.

    :param ca: its certificate authority.
    :param token: of somebody of the group system:masters.
    """

    def __init__(self, host: str, port: int, ca: Path, token: str) -> None:
        self.host = host
        self.port = port
        self.ca = ca
        self._token = token

    @property
    def admin(self) -> Api:
        """May do everything."""
        return self.api(self._token)

    def api(self, token: str) -> Api:
        """As whoever the token names, from this machine."""
        return Api(self.host, self.port, self.ca, token)

    def account_token(self, namespace: str, account: str, pod: str = "") -> str:
        """A token of a ServiceAccount, bound to a pod if one is named.

        :raises ApiError: there is no such account or pod.
        """
        spec: dict[str, object] = {"audiences": [_ISSUER], "expirationSeconds": 3600}
        if pod:
            uid = self.admin.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")["metadata"]["uid"]
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.admin.create(path, request)["status"]["token"])

    def lend(self, host: str, path: Path) -> None:
        """Write down how it is reached from a guest, where this machine is called `host`."""
        path.touch(mode=0o600)
        path.write_text(json.dumps([host, self.port, str(self.ca), self._token]))

    @staticmethod
    def borrowed(path: Path) -> Access:
        """What `lend` wrote."""
        host, port, ca, token = json.loads(path.read_text())
        return Access(host, port, Path(ca), token)


class ControlPlane(Access):
    """One etcd and one API server; `with` it, or `start` and `stop`.

    :param directory: data, logs and keys of this run.
    """

    def __init__(self, directory: Path) -> None:
        port, self._etcd_port, self._etcd_peers = _free_ports(3)
        super().__init__("127.0.0.1", port, directory / "ca.crt", secrets.token_hex(16))
        self.directory = directory
        self._etcd: subprocess.Popen[bytes] | None = None
        self._api_server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ControlPlane:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Ready to serve when this returns.

        :raises CannotFetch: etcd could not be had, or the API server not be built.
        """
        program = kube_apiserver()
        addresses = ["127.0.0.1", GUESTS_HOST, *UNDERLAY_ADDRESSES]
        write_certificates(self.directory, addresses)
        users = self.directory / "users.csv"
        users.touch(mode=0o600)
        users.write_text(f"{self._token},admin,admin,system:masters\n")
        self.start_etcd()
        self.start_api_server(program)

    def start_etcd(self) -> None:
        """Also after `kill_etcd`: its data is still there."""
        client = f"http://127.0.0.1:{self._etcd_port}"
        peers = f"http://127.0.0.1:{self._etcd_peers}"
        package, _ = cache.debian("etcd-server", "bookworm")
        self._etcd = self._start(
            str(package / "usr" / "bin" / "etcd"),
            "--name=test",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=test={peers}",
        )

    def start_api_server(self, program: Path | None = None) -> None:
        """Also after `kill_api_server`; waits until it is ready."""
        here = self.directory
        self._api_server = self._start(
            str(program or kube_apiserver()),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--tls-cert-file={here / 'server.crt'}",
            f"--tls-private-key-file={here / 'server.key'}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={here / 'account.pub'}",
            f"--service-account-signing-key-file={here / 'account.key'}",
            f"--token-auth-file={here / 'users.csv'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=198.19.0.0/24",
            # In 1.20 a Node keeps only its first pod CIDR without it.
            "--feature-gates=IPv6DualStack=true",
            # The leases of endpoints are no business of a control plane of one.
            "--endpoint-reconciler-type=none",
        )
        wait_until(f"the API server is ready, see {here}", self._ready, _PATIENCE, every=0.2)

    def kill_etcd(self) -> None:
        """SIGKILL: from now on every request fails or hangs."""
        self._kill(self._etcd)

    def kill_api_server(self) -> None:
        """SIGKILL: connections are cut, and refused."""
        self._kill(self._api_server)

    def stop(self) -> None:
        """End both; the directory stays."""
        for child in (self._api_server, self._etcd):
            if child is not None:
                stop(child)

    def _ready(self) -> bool:
        for child in (self._etcd, self._api_server):
            assert child is not None and child.poll() is None, f"it ended, see {self.directory}"
        with contextlib.suppress(OSError, ApiError):
            return self.admin.text("/readyz") == "ok"
        return False

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{Path(argv[0]).name}.log").open("ab") as log:
            return subprocess.Popen(
                # So that nothing outlives a test run that was killed.
                ["setpriv", "--pdeathsig", "KILL", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @staticmethod
    def _kill(child: subprocess.Popen[bytes] | None) -> None:
        assert child is not None, "it was not started"
        child.kill()
        child.wait(10)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]
