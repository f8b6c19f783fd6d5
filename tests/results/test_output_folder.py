"""Results that are read from a job's output folder, without asking the service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from comprehend_phi import (
    AsyncPHIClient,
    IncompleteResultsError,
    MissingManifestError,
    PHIClient,
    RequestValidationError,
    ResourceNotFoundException,
    ResultsError,
    S3Location,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    UnreadableObjectError,
)
from comprehend_phi.testing import FakeClock, LocalServer

JOB_ID = "0123456789abcdef0123456789abcdef"
FOLDER = f"results/123456789012-PHIDetection-{JOB_ID}/"
NOTE = "Patient: Ada Example, phone (555) 555-0142"
REDACTED = "Patient: [NAME], phone [PHONE_OR_FAX]"


@pytest.fixture(autouse=True)
def _s3_at_the_server(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)


@pytest.fixture
def location(client: PHIClient, request_: StartPHIDetectionJobRequest) -> S3Location:
    """The output folder of a job."""
    done = client.submit(request_).wait()
    assert done.output_data_config is not None
    return S3Location(done.output_data_config.s3_bucket, done.output_data_config.s3_key)


def forget(server: LocalServer) -> None:
    """Let the service forget all jobs."""
    server.service.reset()


def test_the_notes_of_a_forgotten_job_are_redacted(
    client: PHIClient, server: LocalServer, location: S3Location
) -> None:
    forget(server)
    results = client.results_at(location)
    with pytest.raises(ResourceNotFoundException):
        client.results(results.job.job_id)

    assert list(results.redacted()) == [("notes/note.txt", REDACTED)]
    assert results.manifest.success_files_count == 1
    assert results.unprocessed == ()


def test_an_asynchronous_client_reads_a_forgotten_job(
    server: LocalServer, location: S3Location
) -> None:
    async def main() -> list[tuple[str, str]]:
        async with AsyncPHIClient(endpoint_url=server.endpoint_url) as client:
            results = await client.results_at(location)
            return [each async for each in results.redacted()]

    assert asyncio.run(main()) == [("notes/note.txt", REDACTED)]


def test_the_job_has_what_the_manifest_says(client: PHIClient, location: S3Location) -> None:
    job = client.results_at(location).job

    assert location.key is not None
    assert location.key.endswith(f"-PHIDetection-{job.job_id}/")
    assert job.job_status == "COMPLETED"
    assert job.input_data_config is not None
    assert job.input_data_config.uri == f"s3://{location.bucket}/notes"
    assert job.submit_time is None


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_final_slash_makes_no_difference(
    client: PHIClient, location: S3Location, ending: str
) -> None:
    key = f"{(location.key or '').rstrip('/')}{ending}"
    assert len(list(client.results_at(S3Location(location.bucket, key)))) == 1


def test_a_note_that_was_written_after_its_document_is_left_out(
    client: PHIClient, location: S3Location, s3: Any, clock: FakeClock
) -> None:
    clock.sleep(60)
    s3.put_object(Bucket=location.bucket, Key="notes/note.txt", Body=NOTE.encode())

    with pytest.raises(IncompleteResultsError) as caught:
        list(client.results_at(location).redacted())
    [reason] = caught.value.failed.values()
    assert reason.startswith("SourceChangedError: ")
    assert "after its document was written at" in reason


def test_an_asynchronous_client_leaves_out_a_note_that_was_written_after_its_document(
    server: LocalServer, location: S3Location, s3: Any, clock: FakeClock
) -> None:
    clock.sleep(60)
    s3.put_object(Bucket=location.bucket, Key="notes/note.txt", Body=NOTE.encode())

    async def main() -> None:
        async with AsyncPHIClient(endpoint_url=server.endpoint_url) as client:
            results = await client.results_at(location)
            with pytest.raises(IncompleteResultsError) as caught:
                [each async for each in results.redacted()]
        [reason] = caught.value.failed.values()
        assert "after its document was written at" in reason

    asyncio.run(main())


@pytest.mark.parametrize(
    "key", [None, "results", "results/", f"results/{JOB_ID}", f"{FOLDER}Manifest", "-PHIDetection-"]
)
def test_a_location_that_is_no_output_folder_is_refused(client: PHIClient, key: str | None) -> None:
    with pytest.raises(RequestValidationError) as caught:
        client.results_at(S3Location("phi-results", key))
    error = caught.value
    assert (error.owner, error.field, error.shape) == ("results_at", "location", "S3Location")


def test_anything_but_a_location_is_refused(client: PHIClient) -> None:
    with pytest.raises(RequestValidationError, match=r"S3Location\.from_uri") as caught:
        client.results_at("s3://phi-results/folder")  # type: ignore[arg-type]
    error = caught.value
    assert (error.owner, error.field, error.shape) == ("results_at", "location", "S3Location")


def test_a_folder_without_a_manifest_is_an_error(client: PHIClient, bucket: str) -> None:
    with pytest.raises(MissingManifestError) as caught:
        client.results_at(S3Location(bucket, FOLDER))
    error = caught.value
    assert (error.bucket, error.key, error.job_id) == (bucket, f"{FOLDER}Manifest", JOB_ID)
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("summary", "where"),
    [
        ({"Status": "COMPLETED"}, "$.Summary"),
        ({"Status": "COMPLETED", "InputDataConfiguration": {"Path": "notes"}}, "$.Summary.Input"),
        ({"InputDataConfiguration": {"Bucket": "notes"}}, "$.Summary"),
        (None, "$.Summary"),
    ],
    ids=["no input", "no bucket", "no status", "no summary"],
)
def test_a_manifest_that_does_not_name_the_notes_is_an_error(
    client: PHIClient, server: LocalServer, bucket: str, summary: Any, where: str
) -> None:
    server.storage.write(bucket, f"{FOLDER}Manifest", json.dumps({"Summary": summary}).encode())
    with pytest.raises(UnreadableObjectError) as caught:
        client.results_at(S3Location(bucket, FOLDER))
    assert where in caught.value.reason
    assert (caught.value.bucket, caught.value.key) == (bucket, f"{FOLDER}Manifest")
    assert f"s3://{bucket}/{FOLDER}Manifest" in str(caught.value)


def test_a_missing_bucket_is_an_error(client: PHIClient) -> None:
    with pytest.raises(ResultsError, match="the bucket does not exist"):
        client.results_at(S3Location("no-such-bucket", FOLDER))


def test_a_retry_is_logged_with_the_job_id(
    make_client: Callable[..., PHIClient],
    s3: Any,
    bucket: str,
    refuse: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "comprehend_phi")
    refuse(f"{FOLDER}Manifest", status=503, code="SlowDown")
    with pytest.raises(ThrottlingException):
        make_client(s3_client=s3).results_at(S3Location(bucket, FOLDER))
    records = [vars(record) for record in caplog.records if record.name == "comprehend_phi"]
    assert {each["job_id"] for each in records if each["operation"] == "GetObject"} == {JOB_ID}
