"""The answer to a question, or the reason why there is none."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen


class Reason(StrEnum):
    """Why a question has no answer."""

    NEEDS_KMS_KEY = "NEEDS_KMS_KEY"  # the user gave no KMS key
    OVER_BUDGET = "OVER_BUDGET"  # asking would exceed the maximum cost
    CALL_FAILED = "CALL_FAILED"  # the detail is the error code or the class of the error
    JOB_NOT_STARTED = "JOB_NOT_STARTED"  # the detail is the code of the refusal
    JOB_NOT_ENDED = "JOB_NOT_ENDED"  # it ran longer than the kit waits
    JOB_ENDED = "JOB_ENDED"  # while the run was interrupted, so it was too late to ask
    JOB_FAILED = "JOB_FAILED"  # it left no results that would answer the question
    JOB_DID_NOT_FAIL = "JOB_DID_NOT_FAIL"  # so there is no message of a failed job
    RESULT_MISSING = "RESULT_MISSING"  # a file, or a member of one, is not there
    NO_ENTITY = "NO_ENTITY"  # no entity shows what offsets count

    @property
    def is_choice(self) -> bool:
        """Whether the user chose not to ask."""
        return self in (Reason.NEEDS_KMS_KEY, Reason.OVER_BUDGET)


class NotAnswered(Exception):
    """A question has no answer.

    Attributes:
        reason: why.
        detail: an error code or a name, without any value. Empty if there is nothing to add.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@frozen(kw_only=True)
class Answer:
    """What was observed, or why nothing was.

    Attributes:
        observed: the answer; None if there is none.
        reason: why there is none.
        detail: as for `NotAnswered`.
    """

    observed: str | None = None
    reason: Reason | None = None
    detail: str = ""
