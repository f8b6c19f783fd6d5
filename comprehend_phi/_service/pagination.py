"""Following the pages of a list of jobs."""

from __future__ import annotations

from attrs import evolve

from ..errors import MalformedResponseError
from ..models import JobPage, ListPHIDetectionJobsRequest
from .operations import LIST


class Pagination:
    """Follow the pages of one list."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def next_request(
        self, request: ListPHIDetectionJobsRequest, page: JobPage
    ) -> ListPHIDetectionJobsRequest | None:
        """Return the request for the next page, or None if `page` is the last one.

        Args:
            request: the request that returned `page`.
            page: the page.

        Raises:
            MalformedResponseError: the service repeated a NextToken, so the list would never end.
        """
        token = page.next_token
        if token is None:
            return None
        if token in self._seen:
            raise MalformedResponseError(
                operation=LIST.name,
                reason="the service repeated a NextToken, so the list would never end",
                outcome_unknown=False,
                retryable=False,
            )
        self._seen.add(token)
        return evolve(request, next_token=token)
