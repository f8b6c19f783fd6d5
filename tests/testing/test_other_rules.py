"""What the local service does under the other rules for unusual starts, folders and files.

`test_rules` shows that the SDK keeps its promises under them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from comprehend_phi.testing import FakeClock, LocalService, Rules
from comprehend_phi.testing.validation import RequestRefused

REGION = "us-east-1"
NOTE = b"Patient: Ada Example"


class Bucket:
    """A storage with one bucket in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)

    def has_bucket(self, bucket: str) -> bool:
        return bucket == "bucket"

    def keys(self, bucket: str) -> list[str]:
        return sorted(self.files)

    def read(self, bucket: str, key: str) -> bytes:
        return self.files[key]

    def write(self, bucket: str, key: str, body: bytes) -> None:
        self.files[key] = body


class Account:
    """An account with notes in its bucket, under some rules."""

    def __init__(self, files: Mapping[str, bytes], **rules: Any) -> None:
        self.clock = FakeClock()
        self.bucket = Bucket({f"notes/{name}": body for name, body in files.items()})
        self.service = LocalService(self.bucket, clock=self.clock, rules=Rules(**rules))

    def start(self, **members: Any) -> str:
        request = {
            "InputDataConfig": {"S3Bucket": "bucket", "S3Key": "notes"},
            "OutputDataConfig": {"S3Bucket": "bucket", "S3Key": "results"},
            "DataAccessRoleArn": "arn:aws:iam::123456789012:role/reads-notes",
            "LanguageCode": "en",
            **members,
        }
        job_id: str = self.service.perform("StartPHIDetectionJob", request, REGION)["JobId"]
        return job_id

    def describe(self, job_id: str) -> dict[str, Any]:
        answer = self.service.perform("DescribePHIDetectionJob", {"JobId": job_id}, REGION)
        members: dict[str, Any] = answer["ComprehendMedicalAsyncJobProperties"]
        return members

    def run(self, **members: Any) -> dict[str, Any]:
        """Return the properties of a job that has ended."""
        job_id = self.start(**members)
        self.clock.sleep(60)
        return self.describe(job_id)

    def results(self) -> dict[str, Any]:
        """Return what the only job has written, by the name of the file below its folder."""
        return {
            key.partition("PHIDetection-")[2].partition("/")[2]: json.loads(body)
            for key, body in self.bucket.files.items()
            if "PHIDetection-" in key
        }


def unprocessed(account: Account) -> list[str]:
    """Return the error codes of the files that a job did not process."""
    account.run()
    (failed,) = [body for name, body in account.results().items() if "/failed/" in name]
    return [file["ErrorCode"] for file in failed["Files"]]


# --- Starts ---------------------------------------------------------------------------------------

MISSING_ROLE = {"DataAccessRoleArn": "arn:aws:iam::123456789012:role/no-such-role-1"}
MISSING_BUCKET = {"InputDataConfig": {"S3Bucket": "no-such-bucket"}}


@pytest.mark.parametrize(
    ("rules", "members", "message"),
    [
        ({}, MISSING_ROLE, "DATA_ACCESS_ROLE_ARN_INVALID"),
        ({"missing_bucket": "refused"}, MISSING_BUCKET, "input bucket does not exist"),
        ({"kms_key_forms": "arn"}, {"KMSKey": "alias/results"}, "not an ARN"),
    ],
)
def test_a_start_is_refused(rules: dict[str, Any], members: dict[str, Any], message: str) -> None:
    account = Account({"a.txt": NOTE}, **rules)
    with pytest.raises(RequestRefused, match=message) as refusal:
        account.start(**members)
    assert refusal.value.code == "InvalidRequestException"
    assert account.service.job_ids == ()


@pytest.mark.parametrize(
    ("rules", "members", "message"),
    [
        ({"missing_role": "job-fails"}, MISSING_ROLE, "The role cannot be assumed."),
        ({}, MISSING_BUCKET, "The input bucket does not exist or cannot be accessed."),
        ({}, {"InputDataConfig": {"S3Bucket": "bucket", "S3Key": "none"}}, "no files"),
    ],
)
def test_a_job_fails(rules: dict[str, Any], members: dict[str, Any], message: str) -> None:
    job = Account({"a.txt": NOTE}, **rules).run(**members)
    assert job["JobStatus"] == "FAILED"
    assert message in job["Message"]


@pytest.mark.parametrize(
    "members", [MISSING_BUCKET, {"InputDataConfig": {"S3Bucket": "bucket", "S3Key": "none"}}]
)
def test_a_failed_job_may_have_no_message(members: dict[str, Any]) -> None:
    job = Account({}, failure_messages="absent").run(**members)
    assert job["JobStatus"] == "FAILED"
    assert "Message" not in job


@pytest.mark.parametrize("key", ["alias/results", "arn:aws:kms:us-east-1:123456789012:key/1"])
def test_every_form_of_a_kms_key_is_accepted(key: str) -> None:
    assert Account({"a.txt": NOTE}).run(KMSKey=key)["JobStatus"] == "COMPLETED"


def test_an_arn_of_a_kms_key_is_always_accepted() -> None:
    account = Account({"a.txt": NOTE}, kms_key_forms="arn")
    key = "arn:aws:kms:us-east-1:123456789012:key/1"
    assert account.run(KMSKey=key)["JobStatus"] == "COMPLETED"


def test_a_repeated_start_may_be_refused() -> None:
    account = Account({"a.txt": NOTE}, same_parameters="refused")
    job_id = account.start(ClientRequestToken="one")
    with pytest.raises(RequestRefused, match="same parameters"):
        account.start(ClientRequestToken="one")
    assert account.service.job_ids == (job_id,)


@pytest.mark.parametrize("state", ["STOP_REQUESTED", "STOPPED"])
def test_a_job_that_was_just_stopped_has_the_state_of_the_rule(state: str) -> None:
    account = Account({"a.txt": NOTE}, state_after_stop=state)
    job_id = account.start()
    account.service.perform("StopPHIDetectionJob", {"JobId": job_id}, REGION)
    assert account.describe(job_id)["JobStatus"] == state
    account.clock.sleep(60)
    assert account.describe(job_id)["JobStatus"] == "STOPPED"


# --- Folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "key", "folder"),
    [
        ("ignored", "results/", "results/123456789012-"),
        ("kept", "results/", "results//123456789012-"),
        ("kept", "results", "results/123456789012-"),
    ],
)
def test_the_folder_of_a_job_is_below_its_output_key(rule: str, key: str, folder: str) -> None:
    account = Account({"a.txt": NOTE}, final_slash=rule)
    job = account.run(OutputDataConfig={"S3Bucket": "bucket", "S3Key": key})
    assert job["ManifestFilePath"].startswith(folder)


def test_an_empty_location_may_complete() -> None:
    account = Account({}, empty_location="completes")
    assert account.run()["JobStatus"] == "COMPLETED"
    assert account.results()["Manifest"]["Summary"]["InputFileCount"] == 0


@pytest.mark.parametrize(("rule", "count"), [("ignored", 1), ("read", 2)])
def test_a_folder_marker_counts_as_a_file_if_it_is_read(rule: str, count: int) -> None:
    account = Account({"a.txt": NOTE, "sub/": b""}, folder_markers=rule)
    account.run()
    assert account.results()["Manifest"]["Summary"]["InputFileCount"] == count


@pytest.mark.parametrize(
    ("rule", "metered"), [("exact", 250), ("units-per-file", 400), ("units", 300)]
)
def test_metered_characters_are_rounded_as_the_rule_says(rule: str, metered: int) -> None:
    account = Account({"a.txt": b"x" * 120, "b.txt": b"x" * 130}, metered_characters=rule)
    account.run()
    assert account.results()["Manifest"]["Summary"]["TotalMeteredCharacters"] == metered


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "name", "body", "codes"),
    [
        ({}, "a.txt", b"", []),
        ({"empty_files": "unprocessed"}, "a.txt", b"", ["EMPTY_DOCUMENT"]),
        ({}, "a.txt", b"caf\xe9", ["INVALID_ENCODING"]),
        ({"not_utf8": "processed"}, "a.txt", b"caf\xe9", []),
        ({}, "a.txt", b"\0", []),
        ({"nul_characters": "unprocessed"}, "a.txt", b"\0", ["INVALID_CHARACTER"]),
        ({}, "a.json", b"not JSON", []),
        ({"json_files": "text-member"}, "a.json", b"not JSON", ["INVALID_JSON"]),
        ({"json_files": "text-member"}, "a.json", b'{"text": ""}', ["INVALID_JSON"]),
        ({"json_files": "text-member"}, "a.json", b'{"Text": 5}', ["INVALID_JSON"]),
        ({}, "a.txt", b"x" * 71_680, []),
        ({}, "a.txt", b"x" * 71_681, ["DOCUMENT_SIZE_EXCEEDED"]),
    ],
)
def test_a_file_is_processed_or_has_a_code(
    rules: dict[str, Any], name: str, body: bytes, codes: list[str]
) -> None:
    assert unprocessed(Account({"note.txt": NOTE, name: body}, **rules)) == codes


@pytest.mark.parametrize(
    ("rules", "name", "body", "offsets"),
    [
        ({}, "a.txt", NOTE, (9, 20)),
        ({}, "a.txt", b"\xef\xbb\xbf" + NOTE, (10, 21)),
        ({"byte_order_marks": "removed"}, "a.txt", b"\xef\xbb\xbf" + NOTE, (9, 20)),
        ({}, "a.txt", b"\r\n" + NOTE, (11, 22)),
        ({"line_ends": "converted"}, "a.txt", b"\r\n" + NOTE, (10, 21)),
        ({}, "a.txt", "\U0001f642".encode() + NOTE, (10, 21)),
        ({"offsets": "utf-16"}, "a.txt", "\U0001f642".encode() + NOTE, (11, 22)),
        ({"offsets": "utf-16"}, "a.txt", NOTE, (9, 20)),
        ({}, "a.json", b'{"Text": "Patient: Ada Example"}', (19, 30)),
        (
            {"json_files": "text-member"},
            "a.json",
            b'{"Text": "Patient: Ada Example"}',
            (9, 20),
        ),
        ({"json_files": "text-member"}, "a.txt", NOTE, (9, 20)),
    ],
)
def test_offsets_count_what_the_rules_say(
    rules: dict[str, Any], name: str, body: bytes, offsets: tuple[int, int]
) -> None:
    account = Account({name: body}, **rules)
    account.run()
    (entity,) = account.results()[f"{name}.out"]["Entities"]
    assert (entity["BeginOffset"], entity["EndOffset"]) == offsets
