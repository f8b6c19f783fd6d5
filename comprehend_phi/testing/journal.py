"""Records of starts: which tokens started which jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from attrs import asdict, frozen


@frozen(kw_only=True)
class StartRecord:
    """One start that the service has processed, even if its response was lost.

    Attributes:
        time: when it was processed.
        operation: `StartPHIDetectionJob`.
        region: the region of the request.
        token: the request's `ClientRequestToken`; None if it has no valid one.
        job_id: the id of the job; None if the start was refused.
        repeated: whether the token was known, so that no new job was started.
        error: the code of the refusal; None if the start was accepted.
    """

    time: datetime
    operation: str
    region: str
    token: str | None
    job_id: str | None = None
    repeated: bool = False
    error: str | None = None

    def to_json(self) -> str:
        """Return the record as one line of JSON, with the time in ISO 8601 and UTC."""
        return json.dumps({**asdict(self), "time": self.time.astimezone(UTC).isoformat()})
