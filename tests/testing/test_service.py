"""The operations of the local service: states, output, validation, tokens and quotas.

The storage is a dict, except in tests that depend on S3's behavior. These use moto's S3 over HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from comprehend_phi import Entity
from comprehend_phi.testing import (
    FakeClock,
    Limits,
    LocalServer,
    LocalService,
    StartRecord,
    faults,
)
from comprehend_phi.testing.validation import RequestRefused

from ..conftest import DESCRIBE, JOB_ID, LIST, START, STOP
from ..entities import entity

REGION = "us-east-1"
ACCOUNT = "123456789012"

NOTE = "Patient: Ada Example, phone (555) 555-0142"


class MemoryStorage:
    """A storage in memory: a dict of keys and bodies for each bucket."""

    def __init__(self, **buckets: dict[str, bytes]) -> None:
        self.buckets = buckets

    def has_bucket(self, bucket: str) -> bool:
        return bucket in self.buckets

    def keys(self, bucket: str) -> Sequence[str]:
        return sorted(self.buckets[bucket], key=lambda key: key.encode())

    def read(self, bucket: str, key: str) -> bytes:
        return self.buckets[bucket][key]

    def write(self, bucket: str, key: str, body: bytes) -> None:
        self.buckets[bucket][key] = body


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage(bucket={"notes/note.txt": NOTE.encode()})


@pytest.fixture
def service(storage: MemoryStorage, clock: FakeClock) -> LocalService:
    return LocalService(storage, clock=clock, job_seconds=300)


def request(**members: Any) -> dict[str, Any]:
    """Return the members of a start request, without those that are None."""
    all_members = {
        "InputDataConfig": {"S3Bucket": "bucket", "S3Key": "notes"},
        "OutputDataConfig": {"S3Bucket": "bucket", "S3Key": "results"},
        "DataAccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/reads-notes",
        "LanguageCode": "en",
        **members,
    }
    return {name: value for name, value in all_members.items() if value is not None}


def start(service: LocalService, region: str = REGION, **members: Any) -> str:
    job_id: str = service.perform(START, request(**members), region)["JobId"]
    return job_id


def describe(service: LocalService, job_id: str, region: str = REGION) -> dict[str, Any]:
    answer = service.perform(DESCRIBE, {"JobId": job_id}, region)
    assert answer.keys() == {"ComprehendMedicalAsyncJobProperties"}
    members: dict[str, Any] = answer["ComprehendMedicalAsyncJobProperties"]
    return members


def status(service: LocalService, job_id: str) -> str:
    members: str = describe(service, job_id)["JobStatus"]
    return members


def listed(service: LocalService, region: str = REGION, **members: Any) -> list[str]:
    answer = service.perform(LIST, members, region)
    return [job["JobId"] for job in answer["ComprehendMedicalAsyncJobPropertiesList"]]


def refused(call: Callable[[], object]) -> RequestRefused:
    with pytest.raises(RequestRefused) as refusal:
        call()
    return refusal.value


# --- States ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (0, "SUBMITTED"),
        (59.75, "SUBMITTED"),
        (60, "IN_PROGRESS"),
        (299.75, "IN_PROGRESS"),
        (300, "COMPLETED"),
        (10**6, "COMPLETED"),
    ],
)
def test_a_job_moves_on_with_the_clock(
    service: LocalService, clock: FakeClock, seconds: float, state: str
) -> None:
    job_id = start(service)
    clock.sleep(seconds)
    assert status(service, job_id) == state


@pytest.mark.parametrize(
    ("asked", "seconds", "state"),
    [
        (0, 0, "STOP_REQUESTED"),
        (0, 59.75, "STOP_REQUESTED"),
        (0, 60, "STOPPED"),
        (0, 10**6, "STOPPED"),
        (100, 59.75, "STOP_REQUESTED"),
        (100, 60, "STOPPED"),
        # The job would have ended in the meantime.
        (290, 30, "STOP_REQUESTED"),
        (290, 60, "STOPPED"),
    ],
)
def test_a_stop_takes_a_fifth_of_a_job(
    service: LocalService, clock: FakeClock, asked: float, seconds: float, state: str
) -> None:
    job_id = start(service)
    clock.sleep(asked)
    assert service.perform(STOP, {"JobId": job_id}, REGION) == {"JobId": job_id}
    clock.sleep(seconds)
    assert status(service, job_id) == state


def test_a_stopped_job_writes_nothing(
    service: LocalService, clock: FakeClock, storage: MemoryStorage
) -> None:
    job_id = start(service)
    service.perform(STOP, {"JobId": job_id}, REGION)
    clock.sleep(10**6)
    assert describe(service, job_id)["EndTime"] == FakeClock().now() + timedelta(seconds=60)
    assert storage.keys("bucket") == ["notes/note.txt"]


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_job_that_is_being_stopped_can_be_stopped_again(
    service: LocalService, clock: FakeClock, seconds: float
) -> None:
    job_id = start(service)
    service.perform(STOP, {"JobId": job_id}, REGION)
    clock.sleep(seconds)
    assert service.perform(STOP, {"JobId": job_id}, REGION) == {"JobId": job_id}


def test_a_second_stop_does_not_delay_the_first(service: LocalService, clock: FakeClock) -> None:
    job_id = start(service)
    service.perform(STOP, {"JobId": job_id}, REGION)
    clock.sleep(30)
    service.perform(STOP, {"JobId": job_id}, REGION)
    clock.sleep(30)
    assert status(service, job_id) == "STOPPED"


@pytest.mark.parametrize(
    ("bucket", "notes", "state"),
    [
        ("bucket", {"notes/a": b"a"}, "COMPLETED"),
        ("bucket", {"notes/a": b"a", "notes/b": b"\xff"}, "PARTIAL_SUCCESS"),
        ("bucket", {"notes/b": b"\xff"}, "FAILED"),
    ],
)
def test_a_job_that_has_ended_cannot_be_stopped(
    clock: FakeClock, bucket: str, notes: dict[str, bytes], state: str
) -> None:
    service = LocalService(MemoryStorage(bucket=notes), clock=clock, job_seconds=300)
    job_id = start(service)
    clock.sleep(300)
    refusal = refused(lambda: service.perform(STOP, {"JobId": job_id}, REGION))
    assert refusal.code == "InvalidRequestException"
    assert state in refusal.message
    assert status(service, job_id) == state


def test_the_end_time_does_not_depend_on_when_somebody_asks(
    service: LocalService, clock: FakeClock
) -> None:
    job_id = start(service)
    clock.sleep(10_000)
    job = describe(service, job_id)
    assert job["EndTime"] - job["SubmitTime"] == timedelta(seconds=300)


def test_settle_moves_jobs_on_without_a_request(
    service: LocalService, clock: FakeClock, storage: MemoryStorage
) -> None:
    start(service)
    clock.sleep(300)
    before = len(storage.keys("bucket"))
    service.settle()
    assert len(storage.keys("bucket")) > before


# --- DescribePHIDetectionJob ----------------------------------------------------------------------


def test_a_job_id_is_32_lower_case_hex_digits(service: LocalService) -> None:
    assert re.fullmatch("[0-9a-f]{32}", start(service))


def test_a_completed_job_without_optional_members(service: LocalService, clock: FakeClock) -> None:
    locations = {"S3Bucket": "bucket"}
    job_id = start(service, InputDataConfig=locations, OutputDataConfig=locations)
    clock.sleep(300)
    submitted = FakeClock().now()
    folder = f"{ACCOUNT}-PHIDetection-{job_id}/"
    # AWS leaves out JobName, KMSKey and Message if they have no value.
    assert describe(service, job_id) == {
        "JobId": job_id,
        "JobStatus": "COMPLETED",
        "SubmitTime": submitted,
        "EndTime": submitted + timedelta(seconds=300),
        "ExpirationTime": submitted + timedelta(days=120),
        "InputDataConfig": {"S3Bucket": "bucket", "S3Key": ""},
        "OutputDataConfig": {"S3Bucket": "bucket", "S3Key": folder},
        "LanguageCode": "en",
        "DataAccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/reads-notes",
        "ManifestFilePath": f"{folder}Manifest",
        "ModelVersion": "0.1.0",
    }


def test_a_description_contains_the_optional_members_of_the_request(service: LocalService) -> None:
    job = describe(service, start(service, JobName="nightly", KMSKey="alias/notes"))
    assert (job["JobName"], job["KMSKey"]) == ("nightly", "alias/notes")
    assert job["InputDataConfig"] == {"S3Bucket": "bucket", "S3Key": "notes"}


def test_a_running_job_has_no_end_time_no_message_and_no_manifest(service: LocalService) -> None:
    assert not describe(service, start(service)).keys() & {"EndTime", "ManifestFilePath", "Message"}


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        ("results", "results/"),
        ("results/", "results/"),
        ("/", "/"),
        ("/results", "/results/"),
    ],
)
def test_the_folder_of_a_job_is_below_its_output_key(
    service: LocalService, key: str, folder: str
) -> None:
    job_id = start(service, OutputDataConfig={"S3Bucket": "bucket", "S3Key": key})
    assert describe(service, job_id)["OutputDataConfig"] == {
        "S3Bucket": "bucket",
        "S3Key": f"{folder}{ACCOUNT}-PHIDetection-{job_id}/",
    }


def test_a_null_is_treated_like_a_missing_member(
    service: LocalService, clock: FakeClock, storage: MemoryStorage
) -> None:
    locations = {"S3Bucket": "bucket", "S3Key": None}
    members = request(InputDataConfig=locations, OutputDataConfig=locations)
    nulls = {"JobName": None, "KMSKey": None, "ClientRequestToken": None}
    job_id = service.perform(START, {**members, **nulls}, REGION)["JobId"]
    clock.sleep(300)
    job = describe(service, job_id)
    assert job["JobStatus"] == "COMPLETED"
    assert job["InputDataConfig"]["S3Key"] == ""
    assert job["OutputDataConfig"]["S3Key"] == f"{ACCOUNT}-PHIDetection-{job_id}/"


def test_a_job_expires_120_days_after_the_whole_second_of_its_submission(
    storage: MemoryStorage,
) -> None:
    clock = FakeClock(datetime(2031, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC))
    service = LocalService(storage, clock=clock, job_seconds=300)
    job_id = start(service)
    expires = datetime(2031, 5, 2, 3, 4, 5, tzinfo=UTC)
    assert describe(service, job_id)["ExpirationTime"] == expires
    assert describe(service, job_id)["SubmitTime"] == clock.now()


def test_a_job_is_forgotten_when_it_has_expired(service: LocalService, clock: FakeClock) -> None:
    job_id = start(service, ClientRequestToken="token")
    clock.sleep(120 * 86_400 - 1)
    assert status(service, job_id) == "COMPLETED"
    clock.sleep(1)
    refusal = refused(lambda: describe(service, job_id))
    assert refusal.code == "ResourceNotFoundException"
    assert listed(service) == []
    assert service.job_ids == ()
    # The token is forgotten, too.
    assert start(service, ClientRequestToken="token") != job_id


def test_a_job_runs_even_if_nobody_asks_before_it_expires(
    service: LocalService, clock: FakeClock, storage: MemoryStorage
) -> None:
    job_id = start(service)
    clock.sleep(121 * 86_400)
    service.settle()
    assert f"results/{ACCOUNT}-PHIDetection-{job_id}/Manifest" in storage.keys("bucket")


@pytest.mark.parametrize("operation", [DESCRIBE, STOP])
def test_an_unknown_job_is_not_found(service: LocalService, operation: str) -> None:
    refusal = refused(lambda: service.perform(operation, {"JobId": JOB_ID}, REGION))
    assert (refusal.code, refusal.status) == ("ResourceNotFoundException", 400)


@pytest.mark.parametrize("operation", [DESCRIBE, STOP])
@pytest.mark.parametrize("members", [{}, {"JobId": None}, {"JobId": ""}])
def test_an_invalid_job_id_is_refused(
    service: LocalService, operation: str, members: dict[str, Any]
) -> None:
    refusal = refused(lambda: service.perform(operation, members, REGION))
    assert refusal.code == "InvalidRequestException"
    assert "at 'jobId' failed to satisfy constraint" in refusal.message


# --- Output ---------------------------------------------------------------------------------------


def finished(service: LocalService, clock: FakeClock, **members: Any) -> dict[str, Any]:
    """Run a job that is started with these members and return its properties."""
    job_id = start(service, **members)
    clock.sleep(300)
    return describe(service, job_id)


def summary(storage: MemoryStorage, job: Mapping[str, Any]) -> dict[str, Any]:
    manifest = json.loads(storage.buckets["bucket"][job["ManifestFilePath"]])
    assert manifest.keys() == {"Summary"}
    members: dict[str, Any] = manifest["Summary"]
    return members


def test_the_whole_output_of_a_job(clock: FakeClock) -> None:
    big, odd = b"x" * (70 * 1024 + 1), b"caf\xe9"
    notes = {
        "notes/a.txt": NOTE.encode(),
        "notes/ward/b": "Zoë 😀".encode(),
        "notes/big.txt": big,
        "notes/odd.txt": odd,
        "elsewhere/c.txt": b"not asked for",
    }
    storage = MemoryStorage(bucket=dict(notes), out={})
    service = LocalService(storage, clock=clock, job_seconds=300)
    job = finished(service, clock, OutputDataConfig={"S3Bucket": "out", "S3Key": "results"})
    name = f"{ACCOUNT}-PHIDetection-{job['JobId']}"
    folder = f"results/{name}/"
    success = f"{folder}Manifest_{name}/success/files"
    failed = f"{folder}Manifest_{name}/failed/files"
    assert storage.buckets["bucket"] == notes
    assert {key: json.loads(body) for key, body in storage.buckets["out"].items()} == {
        f"{folder}a.txt.out": {
            "Entities": [
                {
                    "Id": 0,
                    "BeginOffset": 9,
                    "EndOffset": 20,
                    "Score": 0.98,
                    "Text": "Ada Example",
                    "Category": "PROTECTED_HEALTH_INFORMATION",
                    "Type": "NAME",
                    "Traits": [],
                },
                {
                    "Id": 1,
                    "BeginOffset": 28,
                    "EndOffset": 42,
                    "Score": 0.98,
                    "Text": "(555) 555-0142",
                    "Category": "PROTECTED_HEALTH_INFORMATION",
                    "Type": "PHONE_OR_FAX",
                    "Traits": [],
                },
            ],
            "UnmappedAttributes": [],
            "ModelVersion": "0.1.0",
        },
        f"{folder}ward/b.out": {
            "Entities": [],
            "UnmappedAttributes": [],
            "ModelVersion": "0.1.0",
        },
        success: {
            "Files": [
                {
                    "Input": "notes/a.txt",
                    "Output": f"{folder}a.txt.out",
                    "InputSize": len(NOTE),
                },
                {
                    "Input": "notes/ward/b",
                    "Output": f"{folder}ward/b.out",
                    "InputSize": len("Zoë 😀".encode()),
                },
            ]
        },
        failed: {
            "Files": [
                {
                    "Input": "notes/big.txt",
                    "ErrorCode": "DOCUMENT_SIZE_EXCEEDED",
                    "ErrorMessage": "The file has 71681 bytes; the limit is 71680.",
                },
                {
                    "Input": "notes/odd.txt",
                    "ErrorCode": "INVALID_ENCODING",
                    "ErrorMessage": "The file is not UTF-8: the byte at 3 cannot be decoded.",
                },
            ]
        },
        f"{folder}Manifest": {
            "Summary": {
                "Status": "PARTIAL_SUCCESS",
                "JobType": "PHIDetection",
                "InputDataConfiguration": {"Bucket": "bucket", "Path": "notes"},
                "OutputDataConfiguration": {"Bucket": "out", "Path": folder},
                "InputFileCount": 4,
                # Characters are code points.
                "TotalMeteredCharacters": len(NOTE) + len("Zoë 😀"),
                "UnprocessedFilesCount": 2,
                "SuccessFilesCount": 2,
                "TotalDurationSeconds": 300,
                "SuccessfulFilesListLocation": success,
                "UnprocessedFilesListLocation": failed,
                "FailedJobErrorMessage": "",
            }
        },
    }
    assert job["JobStatus"] == "PARTIAL_SUCCESS"
    assert job["Message"] == "2 files were not processed."


@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("notes", ["a", "ward/b"]),
        ("notes/", ["a", "ward/b"]),
        ("notes/ward", ["b"]),
        ("notes/a", ["a"]),  # a single object
        ("", ["notes", "notes-2/c", "notes/a", "notes/ward/b"]),
        (None, ["notes", "notes-2/c", "notes/a", "notes/ward/b"]),
        ("notes-2", ["c"]),
    ],
)
def test_the_input_key_names_a_folder_or_an_object(
    clock: FakeClock, key: str | None, read: list[str]
) -> None:
    notes = dict.fromkeys(["notes/a", "notes/ward/b", "notes/ward/", "notes-2/c"], b"text")
    if key in ("", None):
        notes["notes"] = b"text"
    storage = MemoryStorage(bucket=notes, out={})
    service = LocalService(storage, clock=clock, job_seconds=300)
    source = {"S3Bucket": "bucket"} if key is None else {"S3Bucket": "bucket", "S3Key": key}
    job = finished(service, clock, InputDataConfig=source, OutputDataConfig={"S3Bucket": "out"})
    folder = job["OutputDataConfig"]["S3Key"]
    outputs = {key for key in storage.keys("out") if key.endswith(".out")}
    assert outputs == {f"{folder}{path}.out" for path in read}


UNUSUAL_KEYS = [
    "plain.txt",
    "with space.txt",
    "plus+plus.txt",
    "100%.txt",
    "50%20percent.txt",
    "a&b=c;d.txt",
    "question?hash#.txt",
    "quote'and\"double.txt",
    "Łódź/病歴 2.txt",
    "cafe\u0301 decomposed.txt",
    "emoji \N{GRINNING FACE}.txt",
    "deep/er/and/deeper/note.txt",
    "dot.in.name",
    "no-extension",
    "already.txt.out",
    "Manifest_of_cargo.txt",
    "back\\slash.txt",
    "tilde~(round)[square]{curly}.txt",
    " leading and trailing ",
]


def test_unusual_keys_keep_their_spelling_in_s3(
    server: LocalServer, clock: FakeClock, s3: Any, bucket: str
) -> None:
    s3.delete_object(Bucket=bucket, Key="notes/note.txt")
    for number, name in enumerate(UNUSUAL_KEYS):
        body = f"Phone: (555) 555-01{number:02}".encode()
        s3.put_object(Bucket=bucket, Key=f"notes/{name}", Body=body)
    locations = {"S3Bucket": bucket, "S3Key": "notes"}
    job_id = start(server.service, InputDataConfig=locations, OutputDataConfig={"S3Bucket": bucket})
    clock.sleep(300)
    folder = f"{ACCOUNT}-PHIDetection-{job_id}/"
    found: dict[str, str] = {}
    for name in UNUSUAL_KEYS:
        body = s3.get_object(Bucket=bucket, Key=f"{folder}{name}.out")["Body"].read()
        (entity,) = json.loads(body)["Entities"]
        found[name] = entity["Text"]
    assert found == {name: f"(555) 555-01{number:02}" for number, name in enumerate(UNUSUAL_KEYS)}
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=f"{folder}Manifest")["Body"].read())
    success = manifest["Summary"]["SuccessfulFilesListLocation"]
    files = json.loads(s3.get_object(Bucket=bucket, Key=success)["Body"].read())["Files"]
    assert sorted(file["Input"] for file in files) == sorted(
        f"notes/{name}" for name in UNUSUAL_KEYS
    )


def test_files_are_processed_in_the_order_of_s3s_lists(
    server: LocalServer, clock: FakeClock, s3: Any, bucket: str
) -> None:
    for name in ["b", "B", "a", "é", "z", "\N{GRINNING FACE}", "\uffee"]:
        s3.put_object(Bucket=bucket, Key=f"notes/{name}", Body=b"text")
    locations = {"S3Bucket": bucket, "S3Key": "notes"}
    job_id = start(server.service, InputDataConfig=locations, OutputDataConfig=locations)
    clock.sleep(300)
    name = f"{ACCOUNT}-PHIDetection-{job_id}"
    key = f"notes/{name}/Manifest_{name}/success/files"
    files = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["Files"]
    inputs = [file["Input"].removeprefix("notes/") for file in files]
    # S3 sorts keys by their UTF-8 bytes, which is the order of code points.
    assert inputs == ["B", "a", "b", "note.txt", "z", "é", "\uffee", "\N{GRINNING FACE}"]


def test_an_empty_file_is_processed(clock: FakeClock) -> None:
    storage = MemoryStorage(bucket={"notes/empty": b""})
    job = finished(LocalService(storage, clock=clock, job_seconds=300), clock)
    assert job["JobStatus"] == "COMPLETED"
    assert summary(storage, job)["TotalMeteredCharacters"] == 0


def test_line_ends_and_byte_order_marks_count_in_offsets(clock: FakeClock) -> None:
    text = "\ufeffline one\r\nPhone: (555) 555-0142\r\n"
    storage = MemoryStorage(bucket={"notes/crlf": text.encode()})
    job = finished(LocalService(storage, clock=clock, job_seconds=300), clock)
    body = storage.buckets["bucket"][f"{job['OutputDataConfig']['S3Key']}crlf.out"]
    (entity,) = json.loads(body)["Entities"]
    assert text[entity["BeginOffset"] : entity["EndOffset"]] == entity["Text"] == "(555) 555-0142"


# --- Jobs that fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"InputDataConfig": {"S3Bucket": "no-such-bucket"}},
            "The input bucket does not exist or cannot be accessed.",
        ),
        (
            {"OutputDataConfig": {"S3Bucket": "no-such-bucket"}},
            "The output bucket does not exist or cannot be accessed.",
        ),
    ],
)
def test_a_job_without_a_bucket_fails_without_a_manifest(
    service: LocalService,
    clock: FakeClock,
    storage: MemoryStorage,
    members: dict[str, Any],
    message: str,
) -> None:
    job = finished(service, clock, **members)
    assert (job["JobStatus"], job["Message"]) == ("FAILED", message)
    assert "ManifestFilePath" not in job
    assert storage.keys("bucket") == ["notes/note.txt"]


@pytest.mark.parametrize(
    ("notes", "limits", "message", "unprocessed"),
    [
        ({}, Limits(), "The input location contains no files.", 0),
        ({"notes/": b""}, Limits(), "The input location contains no files.", 0),
        ({"notes2": b"a"}, Limits(), "The input location contains no files.", 0),
        ({"notes/a": b"\xff"}, Limits(), "None of the input files could be processed.", 1),
        (
            {"notes/a": b"aa", "notes/b": b"bb"},
            Limits(file_bytes=1),
            "None of the input files could be processed.",
            2,
        ),
        (
            {"notes/a": b"a", "notes/b": b"b", "notes/c": b"c"},
            Limits(files=2),
            "The job has 3 files; the limit is 2.",
            0,
        ),
    ],
    ids=["no files", "a folder marker", "another name", "not UTF-8", "too large", "too many"],
)
def test_the_manifest_of_a_failed_job_contains_the_reason(
    clock: FakeClock, notes: dict[str, bytes], limits: Limits, message: str, unprocessed: int
) -> None:
    storage = MemoryStorage(bucket=notes)
    service = LocalService(storage, clock=clock, job_seconds=300, limits=limits)
    job = finished(service, clock)
    assert (job["JobStatus"], job["Message"]) == ("FAILED", message)
    manifest = summary(storage, job)
    assert (manifest["Status"], manifest["FailedJobErrorMessage"]) == ("FAILED", message)
    assert manifest["SuccessFilesCount"] == 0
    assert manifest["UnprocessedFilesCount"] == unprocessed


# --- Quotas ---------------------------------------------------------------------------------------


def test_the_default_quotas_are_those_that_aws_documents() -> None:
    limits = Limits()
    assert limits.active_jobs == 10
    assert limits.file_bytes == 71_680
    assert limits.files == 5_000_000
    assert limits.total_bytes == 1_000_000_000


def test_a_file_may_be_as_large_as_the_limit(clock: FakeClock) -> None:
    # The limit counts bytes: é has two.
    storage = MemoryStorage(bucket={"notes/fits": "éé".encode(), "notes/not": "ééa".encode()})
    limits = Limits(file_bytes=4)
    service = LocalService(storage, clock=clock, job_seconds=300, limits=limits)
    job = finished(service, clock)
    key = summary(storage, job)["UnprocessedFilesListLocation"]
    failed = json.loads(storage.buckets["bucket"][key])["Files"]
    assert [(file["Input"], file["ErrorCode"]) for file in failed] == [
        ("notes/not", "DOCUMENT_SIZE_EXCEEDED")
    ]


def test_a_job_may_have_as_many_files_as_the_limit(clock: FakeClock) -> None:
    storage = MemoryStorage(bucket={"notes/a": b"a", "notes/b": b"b"})
    limits = Limits(files=2, total_bytes=2)
    service = LocalService(storage, clock=clock, job_seconds=300, limits=limits)
    assert finished(service, clock)["JobStatus"] == "COMPLETED"


def test_a_job_whose_files_are_too_large_together_fails(clock: FakeClock) -> None:
    storage = MemoryStorage(bucket={"notes/a": b"aa", "notes/b": b"bb"})
    limits = Limits(total_bytes=3)
    service = LocalService(storage, clock=clock, job_seconds=300, limits=limits)
    job = finished(service, clock)
    assert job["JobStatus"] == "FAILED"
    assert job["Message"] == "Together, the job's files are larger than 3 bytes."


def test_there_are_ten_job_slots(service: LocalService, clock: FakeClock) -> None:
    ids = [start(service) for _ in range(10)]
    refusal = refused(lambda: start(service))
    assert (refusal.code, refusal.message, refusal.status) == (
        "TooManyRequestsException",
        "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is 10.",
        400,
    )
    assert service.job_ids == tuple(ids)
    # A job that is being stopped keeps its slot until it has ended.
    service.perform(STOP, {"JobId": ids[0]}, REGION)
    assert refused(lambda: start(service)).code == "TooManyRequestsException"
    clock.sleep(60)
    start(service)
    assert refused(lambda: start(service)).code == "TooManyRequestsException"


def test_a_repeated_start_needs_no_second_slot(storage: MemoryStorage, clock: FakeClock) -> None:
    service = LocalService(storage, clock=clock, limits=Limits(active_jobs=1))
    job_id = start(service, ClientRequestToken="token")
    assert start(service, ClientRequestToken="token") == job_id


# --- The rate of starts ---------------------------------------------------------------------------


def accepted(service: LocalService, count: int, region: str = REGION) -> int:
    """Send `count` starts at once, and return how many are accepted."""
    refusals: list[tuple[str, str, int]] = []
    for _ in range(count):
        try:
            start(service, region)
        except RequestRefused as error:
            refusals.append((error.code, error.message, error.status))
    assert set(refusals) <= {("ThrottlingException", "Rate exceeded", 429)}
    return count - len(refusals)


def limited(storage: MemoryStorage, clock: FakeClock, per_second: float | None) -> LocalService:
    limits = Limits(active_jobs=1_000, starts_per_second=per_second)
    return LocalService(storage, clock=clock, job_seconds=300, limits=limits)


@pytest.mark.parametrize(
    ("per_second", "first", "after_a_second"), [(5.0, 5, 5), (2.5, 2, 2), (1, 1, 1), (0.5, 1, 0)]
)
def test_starts_beyond_the_rate_are_throttled(
    storage: MemoryStorage, clock: FakeClock, per_second: float, first: int, after_a_second: int
) -> None:
    service = limited(storage, clock, per_second)
    assert accepted(service, 10) == first
    clock.sleep(1)
    assert accepted(service, 10) == after_a_second


def test_starts_at_an_even_rate_are_never_throttled(
    storage: MemoryStorage, clock: FakeClock
) -> None:
    service = limited(storage, clock, 5.0)
    for _ in range(100):
        start(service)
        clock.sleep(0.2)


def test_a_long_pause_does_not_allow_more_than_a_second_of_starts(
    storage: MemoryStorage, clock: FakeClock
) -> None:
    service = limited(storage, clock, 5.0)
    start(service)
    clock.sleep(3600)
    assert accepted(service, 10) == 5


def test_repeated_and_invalid_starts_count(storage: MemoryStorage, clock: FakeClock) -> None:
    service = limited(storage, clock, 2.0)
    start(service, ClientRequestToken="token")
    refused(lambda: start(service, JobName=""))
    assert refused(lambda: start(service, ClientRequestToken="token")).status == 429
    clock.sleep(0.5)
    assert start(service, ClientRequestToken="token") in service.job_ids


def test_the_rate_belongs_to_one_region_and_to_starts(
    storage: MemoryStorage, clock: FakeClock
) -> None:
    service = limited(storage, clock, 1.0)
    job_id = start(service)
    assert accepted(service, 1) == 0
    assert accepted(service, 1, "eu-west-1") == 1
    for _ in range(20):
        describe(service, job_id)


def test_the_rate_is_not_limited_by_default(storage: MemoryStorage, clock: FakeClock) -> None:
    assert Limits().starts_per_second is None
    assert accepted(limited(storage, clock, None), 100) == 100


def test_a_reset_forgets_earlier_starts(storage: MemoryStorage, clock: FakeClock) -> None:
    service = limited(storage, clock, 1.0)
    start(service)
    service.reset()
    start(service)


# --- Tokens ---------------------------------------------------------------------------------------


def test_one_token_is_one_job(service: LocalService, clock: FakeClock) -> None:
    job_id = start(service, ClientRequestToken="token")
    assert start(service, ClientRequestToken="token") == job_id
    clock.sleep(10_000)
    assert start(service, ClientRequestToken="token") == job_id
    assert service.job_ids == (job_id,)


def test_another_token_is_another_job(service: LocalService) -> None:
    assert start(service, ClientRequestToken="a") != start(service, ClientRequestToken="b")


def test_without_tokens_every_start_is_a_job(service: LocalService) -> None:
    assert start(service) != start(service)


@pytest.mark.parametrize(
    "change",
    [
        {"JobName": "other"},
        {"KMSKey": "alias/other"},
        {"InputDataConfig": {"S3Bucket": "bucket"}},
        {"OutputDataConfig": {"S3Bucket": "other-bucket", "S3Key": "results"}},
        {"DataAccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_token_with_other_parameters_is_refused(
    service: LocalService, change: dict[str, Any]
) -> None:
    job_id = start(service, ClientRequestToken="token")
    refusal = refused(lambda: start(service, ClientRequestToken="token", **change))
    assert refusal.code == "InvalidRequestException"
    assert "ClientRequestToken" in refusal.message
    assert service.job_ids == (job_id,)


def test_a_refused_start_does_not_use_up_its_token(service: LocalService) -> None:
    refused(lambda: start(service, ClientRequestToken="token", JobName="\N{SNOWMAN}"))
    assert start(service, ClientRequestToken="token", JobName="snow") in service.job_ids


# --- Regions --------------------------------------------------------------------------------------


def test_jobs_and_tokens_belong_to_one_region(service: LocalService) -> None:
    here = start(service, ClientRequestToken="token")
    there = start(service, "eu-west-1", ClientRequestToken="token")
    assert here != there
    assert (listed(service), listed(service, "eu-west-1")) == ([here], [there])
    assert refused(lambda: describe(service, here, "eu-west-1")).code == "ResourceNotFoundException"
    refusal = refused(lambda: service.perform(STOP, {"JobId": here}, "eu-west-1"))
    assert refusal.code == "ResourceNotFoundException"
    assert status(service, here) == "SUBMITTED"


def test_each_region_has_its_own_job_slots(storage: MemoryStorage, clock: FakeClock) -> None:
    service = LocalService(storage, clock=clock, limits=Limits(active_jobs=1))
    start(service)
    start(service, "eu-west-1")
    assert refused(lambda: start(service)).code == "TooManyRequestsException"


# --- Validation -----------------------------------------------------------------------------------

BAD_STARTS: list[tuple[dict[str, Any], str]] = [
    ({"JobName": "snow\N{SNOWMAN}"}, "Value 'snow\N{SNOWMAN}' at 'jobName'"),
    ({"JobName": ""}, "Value '' at 'jobName'"),
    ({"JobName": "a" * 257}, f"Value '{'a' * 257}' at 'jobName'"),
    ({"LanguageCode": "de"}, "Value 'de' at 'languageCode'"),
    ({"LanguageCode": None}, "Value null at 'languageCode'"),
    ({"DataAccessRoleArn": "arn:aws:iam::1:role/short"}, "at 'dataAccessRoleArn'"),
    ({"DataAccessRoleArn": None}, "Value null at 'dataAccessRoleArn'"),
    ({"InputDataConfig": {"S3Bucket": "ab"}}, "Value 'ab' at 'inputDataConfig.s3Bucket'"),
    ({"InputDataConfig": {}}, "Value null at 'inputDataConfig.s3Bucket'"),
    ({"InputDataConfig": None}, "Value null at 'inputDataConfig"),
    ({"OutputDataConfig": None}, "Value null at 'outputDataConfig"),
    (
        {"OutputDataConfig": {"S3Bucket": "Bucket"}},
        "Value 'Bucket' at 'outputDataConfig.s3Bucket'",
    ),
    (
        {"InputDataConfig": {"S3Bucket": "bucket", "S3Key": "a" * 1025}},
        f"Value '{'a' * 1025}' at 'inputDataConfig.s3Key'",
    ),
    ({"KMSKey": ""}, "Value '' at 'kMSKey'"),
    ({"ClientRequestToken": "not a token"}, "Value 'not a token' at 'clientRequestToken'"),
    ({"ClientRequestToken": ""}, "Value '' at 'clientRequestToken'"),
]


@pytest.mark.parametrize(
    ("members", "words"), BAD_STARTS, ids=[words[-40:] for _, words in BAD_STARTS]
)
def test_an_invalid_start_is_refused_with_aws_message(
    service: LocalService, members: dict[str, Any], words: str
) -> None:
    refusal = refused(lambda: start(service, **members))
    assert (refusal.code, refusal.status) == ("InvalidRequestException", 400)
    assert refusal.message.startswith("1 validation error detected: Value ")
    assert words in refusal.message
    assert "' failed to satisfy constraint: Member must " in refusal.message
    assert service.job_ids == ()


WRONG_TYPES: list[tuple[str, dict[str, Any], str]] = [
    (START, {"JobName": 5}, "NUMBER_VALUE can not be converted to a String"),
    (START, {"JobName": True}, "TRUE_VALUE can not be converted to a String"),
    (START, {"KMSKey": ["a"]}, "Start of list found where not expected"),
    (START, {"KMSKey": {}}, "Start of structure or map found where not expected."),
    (
        START,
        {"InputDataConfig": {"S3Bucket": 1.5}},
        "NUMBER_VALUE can not be converted to a String",
    ),
    (START, {"InputDataConfig": "s3://bucket/notes"}, "Unexpected field type"),
    (START, {"OutputDataConfig": ["bucket"]}, "Unexpected field type"),
    (DESCRIBE, {"JobId": 5}, "NUMBER_VALUE can not be converted to a String"),
    (STOP, {"JobId": False}, "FALSE_VALUE can not be converted to a String"),
    (LIST, {"MaxResults": "5"}, "STRING_VALUE can not be converted to an Integer"),
    (LIST, {"MaxResults": 5.5}, "NUMBER_VALUE can not be converted to an Integer"),
    (LIST, {"NextToken": 5}, "NUMBER_VALUE can not be converted to a String"),
    (LIST, {"Filter": "COMPLETED"}, "Unexpected field type"),
    (
        LIST,
        {"Filter": {"SubmitTimeBefore": "soon"}},
        "STRING_VALUE can not be converted to a Timestamp",
    ),
]


@pytest.mark.parametrize(("operation", "members", "message"), WRONG_TYPES, ids=str)
def test_a_member_of_the_wrong_type_is_a_serialization_exception(
    service: LocalService, operation: str, members: dict[str, Any], message: str
) -> None:
    base = request() if operation == START else {}
    refusal = refused(lambda: service.perform(operation, {**base, **members}, REGION))
    assert (refusal.code, refusal.status) == ("SerializationException", 400)
    assert refusal.message == message
    assert service.job_ids == ()


def test_types_are_checked_before_values(service: LocalService) -> None:
    refusal = refused(lambda: start(service, LanguageCode="de", ClientRequestToken=5))
    assert refusal.code == "SerializationException"


@pytest.mark.parametrize("name", ["n" * 256, "Été Łódź 病歴 2", "a_b.c:d/e=f+g-h%i@j"])
def test_a_job_name_that_matches_the_pattern_is_accepted(service: LocalService, name: str) -> None:
    assert describe(service, start(service, JobName=name))["JobName"] == name


# --- ListPHIDetectionJobs -------------------------------------------------------------------------


@pytest.fixture
def five_jobs(service: LocalService, clock: FakeClock) -> list[str]:
    """Start five jobs, one second apart, and return their ids, oldest first."""
    ids: list[str] = []
    for number in range(5):
        ids.append(start(service, JobName=f"even-{number % 2 == 0}"))
        clock.sleep(1)
    return ids


def test_an_unfiltered_list_begins_with_the_newest_job(
    service: LocalService, five_jobs: list[str]
) -> None:
    assert listed(service) == five_jobs[::-1]


def test_jobs_of_the_same_moment_are_listed_in_the_order_of_their_starts(
    service: LocalService,
) -> None:
    ids = [start(service) for _ in range(3)]
    assert listed(service) == ids[::-1]


@pytest.mark.parametrize(
    ("filter_", "numbers"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"JobName": "even-True"}, [4, 2, 0]),
        ({"JobName": "even"}, []),
        ({"JobStatus": "SUBMITTED"}, [4, 3, 2, 1, 0]),
        ({"JobStatus": "COMPLETED"}, []),
        ({"JobName": "even-True", "JobStatus": None}, [4, 2, 0]),
    ],
)
def test_a_filter_selects_by_name_or_status(
    service: LocalService, five_jobs: list[str], filter_: dict[str, Any], numbers: list[int]
) -> None:
    assert listed(service, Filter=filter_) == [five_jobs[number] for number in numbers]


@pytest.mark.parametrize(
    ("member", "seconds", "numbers"),
    [
        ("SubmitTimeBefore", 2, [0, 1]),
        ("SubmitTimeBefore", 0, []),
        ("SubmitTimeBefore", 100, [0, 1, 2, 3, 4]),
        ("SubmitTimeAfter", 2, [4, 3]),
        ("SubmitTimeAfter", -1, [4, 3, 2, 1, 0]),
        ("SubmitTimeAfter", 4, []),
    ],
)
@pytest.mark.parametrize("page_size", [1, 2, 500])
def test_a_filter_by_time_determines_the_order(
    service: LocalService,
    five_jobs: list[str],
    member: str,
    seconds: float,
    numbers: list[int],
    page_size: int,
) -> None:
    members = {"Filter": {member: FakeClock().now().timestamp() + seconds}, "MaxResults": page_size}
    found: list[str] = []
    token: dict[str, Any] = {}
    while True:
        answer = service.perform(LIST, {**members, **token}, REGION)
        page = answer["ComprehendMedicalAsyncJobPropertiesList"]
        assert len(page) <= page_size
        found += [job["JobId"] for job in page]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert found == [five_jobs[number] for number in numbers]


@pytest.mark.parametrize(
    "filter_",
    [
        {"JobName": "a", "JobStatus": "FAILED"},
        {"SubmitTimeBefore": 1, "SubmitTimeAfter": 0},
        {"JobName": "a", "SubmitTimeAfter": 0},
    ],
)
def test_two_filters_at_the_same_time_are_refused(
    service: LocalService, filter_: dict[str, Any]
) -> None:
    refusal = refused(lambda: listed(service, Filter=filter_))
    assert (refusal.code, refusal.status) == ("ValidationException", 400)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"MaxResults": 0}, "Value '0' at 'maxResults'"),
        ({"MaxResults": 501}, "Value '501' at 'maxResults'"),
        ({"Filter": {"JobName": "\N{SNOWMAN}"}}, "Value '\N{SNOWMAN}' at 'filter.jobName'"),
        ({"Filter": {"JobStatus": "DONE"}}, "Value 'DONE' at 'filter.jobStatus'"),
    ],
)
def test_an_invalid_list_is_refused_with_aws_message(
    service: LocalService, members: dict[str, Any], words: str
) -> None:
    refusal = refused(lambda: listed(service, **members))
    assert refusal.code == "ValidationException"
    assert words in refusal.message


@pytest.mark.parametrize(
    "members",
    [
        {"NextToken": "of another service"},
        {"NextToken": "--5"},
        {"NextToken": ""},
        {"Filter": {"SubmitTimeAfter": {}}},
        {"Filter": "COMPLETED"},
    ],
    ids=str,
)
def test_tokens_and_filters_without_meaning_are_refused(
    service: LocalService, five_jobs: list[str], members: dict[str, Any]
) -> None:
    refusal = refused(lambda: listed(service, **members))
    assert refusal.code in ("ValidationException", "SerializationException")


def test_a_page_has_a_hundred_jobs_by_default(clock: FakeClock) -> None:
    limits = Limits(active_jobs=1000)
    service = LocalService(MemoryStorage(), clock=clock, job_seconds=300, limits=limits)
    ids = [start(service) for _ in range(101)]
    answer = service.perform(LIST, {}, REGION)
    assert len(answer["ComprehendMedicalAsyncJobPropertiesList"]) == 100
    assert listed(service, NextToken=answer["NextToken"]) == ids[:1]


def test_the_last_page_has_no_next_token(service: LocalService, five_jobs: list[str]) -> None:
    assert "NextToken" not in service.perform(LIST, {"MaxResults": 5}, REGION)
    assert "NextToken" in service.perform(LIST, {"MaxResults": 4}, REGION)


# --- Detector -------------------------------------------------------------------------------------


def test_the_detector_can_be_replaced(storage: MemoryStorage, clock: FakeClock) -> None:
    asked: list[str] = []

    def detector(text: str) -> list[Entity]:
        asked.append(text)
        return [entity(text, 0, 7, "SOMETHING_NEW", id_=7, score=0.5)]

    service = LocalService(storage, clock=clock, job_seconds=300, detector=detector)
    job = finished(service, clock)
    body = storage.buckets["bucket"][f"{job['OutputDataConfig']['S3Key']}note.txt.out"]
    (found,) = json.loads(body)["Entities"]
    assert (found["Id"], found["Type"], found["Text"]) == (7, "SOMETHING_NEW", "Patient")
    assert asked == [NOTE]


def broken_detector(text: str) -> list[Entity]:
    raise ValueError(text)


def test_a_job_whose_detector_raises_fails(storage: MemoryStorage, clock: FakeClock) -> None:
    service = LocalService(storage, clock=clock, job_seconds=300, detector=broken_detector)
    job = finished(service, clock)
    assert (job["JobStatus"], job["Message"]) == ("FAILED", "The detector raised ValueError.")


# --- Faults and the record of requests ------------------------------------------------------------


def test_calls_meet_faults_in_the_order_of_the_script(service: LocalService) -> None:
    first, second = faults.throttle(), faults.cut()
    service.script(first)
    service.script(second)
    met = [service.next_fault(operation, {}) for operation in (START, LIST, STOP)]
    assert met == [first, second, None]


def test_a_fault_for_one_operation_waits_for_it(service: LocalService) -> None:
    lists, any_ = [faults.throttle(), faults.unavailable()], faults.html()
    service.script(*lists, operation=LIST)
    service.script(any_)
    calls = [START, START, LIST, STOP, LIST, LIST]
    met = [service.next_fault(operation, {}) for operation in calls]
    assert met == [any_, None, lists[0], None, lists[1], None]


def test_random_faults_follow_the_seed(service: LocalService, storage: MemoryStorage) -> None:
    other = LocalService(storage)
    service.fail_randomly(17, 0.5)
    other.fail_randomly(17, 0.5)
    met = [service.next_fault(LIST, {}) for _ in range(200)]
    assert [fault is None for fault in met] == [
        other.next_fault(LIST, {}) is None for _ in range(200)
    ]
    assert 60 < met.count(None) < 140


@pytest.mark.parametrize(("share", "count"), [(0, 0), (1, 50)])
def test_a_share_of_all_calls_meets_random_faults(
    service: LocalService, share: float, count: int
) -> None:
    service.fail_randomly(1, share)
    met = [service.next_fault(LIST, {}) for _ in range(50)]
    assert sum(fault is not None for fault in met) == count


def test_scheduled_faults_come_before_random_ones(service: LocalService) -> None:
    service.fail_randomly(1, 1)
    scheduled = faults.job_limit()
    service.script(scheduled)
    assert service.next_fault(LIST, {}) is scheduled
    assert service.next_fault(LIST, {}) is not scheduled


def test_each_processed_start_is_recorded(storage: MemoryStorage, clock: FakeClock) -> None:
    records: list[StartRecord] = []
    limits = Limits(active_jobs=1)
    service = LocalService(storage, clock=clock, limits=limits, on_start=records.append)
    job_id = start(service, ClientRequestToken="token", JobName="Zinnia Quellwasser")
    clock.sleep(0.1)
    start(service, ClientRequestToken="token", JobName="Zinnia Quellwasser")
    refused(lambda: start(service, "us-east-1"))
    refused(lambda: start(service, ClientRequestToken="Zinnia Quellwasser"))
    common: dict[str, Any] = {"operation": START, "region": REGION}
    assert records == [
        StartRecord(time=FakeClock().now(), token="token", job_id=job_id, **common),
        StartRecord(time=clock.now(), token="token", job_id=job_id, repeated=True, **common),
        StartRecord(time=clock.now(), token=None, error="TooManyRequestsException", **common),
        StartRecord(time=clock.now(), token=None, error="InvalidRequestException", **common),
    ]
    assert "Zinnia" not in "".join(map(StartRecord.to_json, records))


def test_requests_are_recorded_but_their_repr_hides_the_members(
    service: LocalService,
) -> None:
    service.next_fault(START, {"JobName": "Zinnia Quellwasser"})
    service.script(faults.throttle())
    service.next_fault(LIST, {})
    assert [(one.operation, one.members) for one in service.received] == [
        (START, {"JobName": "Zinnia Quellwasser"}),
        (LIST, {}),
    ]
    assert "Zinnia" not in repr(service.received)
    assert [service.attempts(operation) for operation in (START, LIST, STOP)] == [1, 1, 0]


def test_the_record_of_requests_is_bounded(service: LocalService) -> None:
    for _ in range(10_001):
        service.next_fault(LIST, {})
    assert len(service.received) == service.attempts(LIST) == 10_000
