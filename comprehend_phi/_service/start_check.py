"""The check of a request before its job is started, and the warnings about it."""

from __future__ import annotations

import warnings

from .._shapes import check_argument
from ..errors import OverlappingLocationsWarning, PlaintextOutputWarning
from ..models import START_REQUEST, StartPHIDetectionJobRequest


def check_start(method: str, request: StartPHIDetectionJobRequest) -> None:
    """Check the request that a method of a client is about to send, and warn the method's caller.

    Call this from the method itself, before it sends anything: then the warnings show the user's
    line, and a warning that is an error starts no job.

    Args:
        method: the name of the client's method, for the error.
        request: the argument of the method.

    Raises:
        RequestValidationError: `request` is not a request.
    """
    check_argument(method, "request", START_REQUEST, request)
    if request.kms_key is None:
        warnings.warn(
            "This job has no kms_key, so the service writes its results in plain text. The results"
            " quote protected health information. Set kms_key on the request.",
            PlaintextOutputWarning,
            stacklevel=3,
        )
    if request.locations_overlap:
        warnings.warn(
            "The input and output locations of this job overlap, so a later job could read its"
            " results as notes. Use two buckets, or two folders that do not contain each other.",
            OverlappingLocationsWarning,
            stacklevel=3,
        )
