"""What the service looks up before a job can begin: its role, its buckets and its KMS key.

Nobody outside AWS knows when it does so; these are our rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .object_store import ObjectStore
from .rules import Rules
from .validation import RequestRefused

# No role whose name begins like this can be assumed, so that tests can ask for such a role.
NO_SUCH_ROLE = "no-such-role"

INVALID_ROLE = "DATA_ACCESS_ROLE_ARN_INVALID"  # seen in public logs


def check_start(request: Mapping[str, Any], store: ObjectStore, rules: Rules) -> None:
    """Check a request before the service accepts it.

    Raises:
        RequestRefused: the start is refused.
    """
    key = request.get("KMSKey")
    problem: str | None = None
    if rules.missing_role == "refused" and (missing := _missing_role(request)):
        problem = f"{INVALID_ROLE}: {missing}"
    elif rules.missing_bucket == "refused":
        problem = _missing_bucket(request, store)
    if rules.kms_key_forms == "arn" and key is not None and not key.startswith("arn:"):
        problem = "The KMSKey is not an ARN."
    if problem:
        raise RequestRefused("InvalidRequestException", problem)


def obstacle(request: Mapping[str, Any], store: ObjectStore) -> str | None:
    """Return why an accepted job fails before it reads anything, or None."""
    return _missing_role(request) or _missing_bucket(request, store)


def _missing_role(request: Mapping[str, Any]) -> str | None:
    name: str = request["DataAccessRoleArn"].rpartition("/")[2]
    return "The role cannot be assumed." if name.startswith(NO_SUCH_ROLE) else None


def _missing_bucket(request: Mapping[str, Any], store: ObjectStore) -> str | None:
    for member, role in (("InputDataConfig", "input"), ("OutputDataConfig", "output")):
        if not store.has_bucket(request[member]["S3Bucket"]):
            return f"The {role} bucket does not exist or cannot be accessed."
    return None
