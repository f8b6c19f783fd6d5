"""Documents to put into tables, and jobs whose results are complete or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from comprehend_phi import Document, Entity, JobResults, PHIClient, StartPHIDetectionJobRequest

from ..conftest import CANARY


def entity(number: int = 0, **fields: Any) -> Entity:
    """Return an entity whose text is the canary."""
    members: dict[str, Any] = {
        "id": number,
        "begin_offset": 10 * number,
        "end_offset": 10 * number + 7,
        "score": 0.75,
        "text": CANARY,
        "category": "PROTECTED_HEALTH_INFORMATION",
        "type": "NAME",
        **fields,
    }
    return Entity(**members)


def document(key: str, count: int = 1, version: str | None = "0.1.0") -> Document:
    """Return a document with this many entities."""
    return Document(
        input_key=key,
        output_key=f"results/{key}.out",
        entities=tuple(map(entity, range(count))),
        model_version=version,
    )


@pytest.fixture
def complete(
    make_client: Callable[..., PHIClient],
    s3: Any,
    bucket: str,
    request_: StartPHIDetectionJobRequest,
) -> JobResults:
    """The results of a job over three notes, each with the canary and a phone number."""
    for name in ("a", "b", "note"):
        s3.put_object(
            Bucket=bucket,
            Key=f"notes/{name}.txt",
            Body=f"Patient: {CANARY}, phone (555) 555-0142".encode(),
        )
    job = make_client(s3_client=s3).submit(request_)
    job.wait()
    return job.results()


@pytest.fixture
def lose(complete: JobResults, s3: Any, bucket: str) -> Callable[[str], None]:
    """Delete the result file of one of the notes."""

    def lose(name: str) -> None:
        folder = f"results/123456789012-PHIDetection-{complete.job.job_id}"
        s3.delete_object(Bucket=bucket, Key=f"{folder}/{name}.txt.out")

    return lose
