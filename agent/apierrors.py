"""What can go wrong with the API server: what, where, and what to do about it."""

import json

_MAX_TEXT = 300


class KubeError(Exception):
    """The API server could not be asked, or refused."""

    def __init__(self, what: str, where: str, advice: str = "", wait: float = 0.0) -> None:
        """`wait`: seconds that the server asks us to stay away."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.advice = advice
        self.wait = wait

    def __str__(self) -> str:
        told = f"{self.where}: {self.what}"
        return f"{told}; {self.advice}" if self.advice else told


class AccessError(KubeError):
    """There is nothing to sign in with."""


class UnreachableError(KubeError):
    """No answer, or none that makes sense; another try may succeed."""


class OverloadedError(KubeError):
    """429 or 5xx; another try may succeed."""


class UnauthorizedError(KubeError):
    """401."""


class ForbiddenError(KubeError):
    """403."""


class NotFoundError(KubeError):
    """404."""


class ConflictError(KubeError):
    """409."""


class ExpiredError(KubeError):
    """410, or a version that the server does not have: only a new list helps."""


class InvalidError(KubeError):
    """Any other refusal: the request itself is wrong."""


_KINDS: dict[int, tuple[type[KubeError], str]] = {
    401: (UnauthorizedError, "see whether the agent's ServiceAccount and its pod still exist"),
    403: (ForbiddenError, "apply the RBAC manifests of this version of the agent"),
    404: (NotFoundError, "see whether its namespace and the CRD of this version are there"),
    409: (ConflictError, ""),
    410: (ExpiredError, ""),
    429: (OverloadedError, ""),
}
# How the watch cache says that it is behind the version it was asked for.
_FROM_THE_FUTURE = "ResourceVersionTooLarge"


def refusal(status: int, body: bytes, retry_after: str | None, where: str) -> KubeError:
    """The answer of that HTTP status; `body` is a Status as JSON, or what a proxy says."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = body.decode(errors="replace")
    return refusal_from_status(status, told, where, _seconds(retry_after))


def refusal_from_status(status: int, told: object, where: str, wait: float = 0.0) -> KubeError:
    """A Status object as an error; also that of a watch, which has no HTTP status."""
    message = told.get("message") if isinstance(told, dict) else told
    text = "".join(c if c.isprintable() else " " for c in str(message or ""))[:_MAX_TEXT]
    what = f"{status} {text}".strip()
    if _from_the_future(told):
        return ExpiredError(what, where)
    default = (OverloadedError if status >= 500 else InvalidError, "")
    kind, advice = _KINDS.get(status, default)
    return kind(what, where, advice, wait)


def _from_the_future(told: object) -> bool:
    details = told.get("details") if isinstance(told, dict) else None
    causes = details.get("causes") if isinstance(details, dict) else None
    return isinstance(causes, list) and any(
        isinstance(cause, dict) and cause.get("reason") == _FROM_THE_FUTURE for cause in causes
    )


def _seconds(retry_after: str | None) -> float:
    # A date is allowed too; no API server sends one.
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
