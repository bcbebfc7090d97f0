"""The agent's manifests, applied as kubectl does it."""

from __future__ import annotations

from agent.kube import PUBLISHED
from interop.shell import wait_until
from tests.agent.kustomize import MANIFESTS, build
from tests.cluster.api import Api, ApiError, Json

_PATIENCE = 30.0
_PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "DaemonSet": "daemonsets",
    "Namespace": "namespaces",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ServiceAccount": "serviceaccounts",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
# Since 1.30; the server of these tests is older.
NEWER = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def _collection(one: Json) -> str:
    version = one["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = one["metadata"].get("namespace")
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{_PLURALS[one['kind']]}"


def apply(admin: Api, objects: list[Json]) -> list[str]:
    """As `kubectl create -k`; kinds that the server does not have, by name."""
    missing = []
    for one in objects:
        path = _collection(one)
        try:
            admin.create(path, one)
        except ApiError as error:
            if error.status == 409:
                admin.merge(f"{path}/{one['metadata']['name']}", one)
            elif error.status == 404 and one["kind"] in NEWER:
                missing.append(one["kind"])
            else:
                raise
    return missing


def install(admin: Api) -> None:
    """The generic base, once or again."""
    apply(admin, build(MANIFESTS / "generic"))
    wait_until("the CRD is served", lambda: _is_served(admin), _PATIENCE)


def _is_served(admin: Api) -> bool:
    try:
        admin.get(PUBLISHED)
    except ApiError:
        return False
    return True
