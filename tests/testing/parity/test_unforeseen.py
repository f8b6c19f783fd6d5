"""Answers that none of our alternatives foresees are reported as they are, or have a reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import evolve

from comprehend_phi import (
    AccessDeniedException,
    InvalidRequestException,
    JobProperties,
    JobStatus,
    OutputDataConfig,
)
from comprehend_phi.testing import faults
from comprehend_phi.testing.parity.answers import NotAnswered
from comprehend_phi.testing.parity.questions import QUESTIONS

from ...conftest import JOB_ID
from .conftest import BUCKET, World

NAME = f"123456789012-PHIDetection-{JOB_ID}"


@pytest.fixture
def here(world: Callable[..., World]) -> World:
    """An account in which nothing has happened."""
    return world()


def ended(here: World, job: str, files: Mapping[str, Any], **properties: Any) -> None:
    """Let a job be over that wrote these files below its folder."""
    here.account.state.jobs[job] = JOB_ID
    complete = JobProperties(job_id=JOB_ID, job_status=JobStatus.COMPLETED)
    here.account.ended[job] = evolve(complete, **properties)
    for name, content in files.items():
        key = f"{here.account.folder(job)}results/{NAME}/{name.replace('NAME', NAME)}"
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        here.server.storage.write(BUCKET, key, body)


def ask(here: World, name: str) -> str:
    """Return the answer to a question, or the reason why there is none."""
    (question,) = [question for question in QUESTIONS if question.name == name]
    try:
        return question.ask(here.account)
    except NotAnswered as error:
        return f"{error.reason} {error.detail}".rstrip()


SUCCESS, FAILED = "Manifest_NAME/success/a", "Manifest_NAME/failed/b"


def manifest(**members: Any) -> dict[str, Any]:
    return {"Manifest": {"Summary": members}}


def files(*processed: Any, failed: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {**manifest(), SUCCESS: {"Files": processed}, FAILED: {"Files": failed}}


@pytest.mark.parametrize(
    ("question", "written", "answer"),
    [
        ("list-name", files(), "a and b"),
        ("list-name", {**files(), FAILED: {}}, "a and b"),
        ("list-name", manifest(), "RESULT_MISSING success"),
        ("list-name", {}, "RESULT_MISSING Manifest"),
        ("success-count", manifest(), "RESULT_MISSING SuccessFilesCount"),
        ("success-count", {"Manifest": b"not JSON"}, "RESULT_MISSING member of Manifest"),
        ("success-count", {"Manifest": {}}, "RESULT_MISSING member of Manifest"),
        ("file-names", files(), "RESULT_MISSING Input"),
        ("file-names", files({"Name": "one.txt"}), "RESULT_MISSING member of List"),
        ("file-names", files("one.txt"), "path"),
        ("file-names", files({"Input": "/2031/one.txt"}), "other: /2031/one.txt"),
        (
            "metered-characters",
            {**files("one.txt"), **manifest(TotalMeteredCharacters=17)},
            "17 for files with [130]",
        ),
        ("metered-characters", files("one.txt", "two.txt"), "-1 for files with [130, 120]"),
        ("folder-or-prefix", {**files(), SUCCESS: {}}, "RESULT_MISSING member of List"),
    ],
)
def test_what_the_job_wrote_decides(
    question: str, written: dict[str, Any], answer: str, here: World
) -> None:
    ended(here, "base", written)
    assert ask(here, question) == answer


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (f"results/{NAME}/Manifest", f"other: results/{NAME}/Manifest"),
        ("", "absent"),
    ],
)
def test_a_path_of_the_manifest_that_is_no_key_is_reported(
    path: str, answer: str, here: World
) -> None:
    ended(here, "base", manifest(), manifest_file_path=path)
    assert ask(here, "manifest-path") == answer


def test_folders_of_the_run_are_replaced_in_names(here: World) -> None:
    folder = here.account.folder("base")
    path = f"/{folder}results/{NAME}/Manifest"
    ended(here, "base", manifest(), manifest_file_path=path)
    assert ask(here, "manifest-path") == "other: /<folder>/Manifest"


@pytest.mark.parametrize("key", [None, "elsewhere"])
def test_a_described_output_key_that_is_neither_is_reported(key: str | None, here: World) -> None:
    location = OutputDataConfig(s3_bucket=BUCKET, s3_key=key) if key else None
    ended(here, "base", manifest(), output_data_config=location)
    assert ask(here, "described-output-key") == f"other: {key}/" if key else "other: "


@pytest.mark.parametrize(
    ("entries", "answer"),
    [
        ([], "RESULT_MISSING unprocessed file"),
        (["latin-1.txt"], "names"),
        ([{"Input": "notes/latin-1.txt"}], "objects"),
    ],
)
def test_the_list_of_unprocessed_files_has_objects_or_names(
    entries: list[Any], answer: str, here: World
) -> None:
    ended(here, "files", files(failed=tuple(entries)))
    assert ask(here, "unprocessed-files") == answer


@pytest.mark.parametrize(
    ("entries", "answer"),
    [
        ([{"Input": "notes/latin-1.txt", "ErrorCode": "BAD"}], "BAD"),
        ([{"Input": "notes/latin-1.txt"}], "RESULT_MISSING ErrorCode"),
        ([{"Input": "notes/other.txt", "ErrorCode": "BAD"}], "RESULT_MISSING ErrorCode"),
    ],
)
def test_the_code_of_a_file_is_reported(entries: list[Any], answer: str, here: World) -> None:
    ended(here, "files", files(failed=tuple(entries)))
    assert ask(here, "latin-1-code") == answer


@pytest.mark.parametrize("fate", ["latin-1", "too-large-file", "largest-file"])
def test_a_file_in_neither_list_is_absent(fate: str, here: World) -> None:
    ended(here, "files", files())
    assert ask(here, fate) == "absent"


@pytest.mark.parametrize(
    ("entities", "answer"),
    [
        ([], "NO_ENTITY"),
        ([{"Text": "not in the note", "BeginOffset": 0}], "NO_ENTITY"),
        ([{"Text": "555", "BeginOffset": 0}], "NO_ENTITY"),  # occurs twice
        ([{"Text": "Ada Example"}], "RESULT_MISSING member of Document"),
        (
            [{"Text": "555", "BeginOffset": 0}, {"Text": "Ada Example", "BeginOffset": 26}],
            "offsets differ by 7",
        ),
        ([{"Text": "Ada Example", "BeginOffset": 19}], "as-text"),
    ],
)
def test_an_entity_that_occurs_once_shows_what_offsets_count(
    entities: list[Any], answer: str, here: World
) -> None:
    ended(here, "texts", {**manifest(), "note.json.out": {"Entities": entities}})
    assert ask(here, "json") == answer


def test_a_note_without_a_document_has_no_offsets(here: World) -> None:
    ended(here, "texts", manifest())
    assert ask(here, "json") == "RESULT_MISSING document"


@pytest.mark.parametrize(
    ("status", "answer"),
    [(JobStatus.FAILED, "JOB_FAILED"), (JobStatus.COMPLETED, "RESULT_MISSING Manifest")],
)
def test_without_a_manifest_the_state_of_the_job_is_the_reason(
    status: JobStatus, answer: str, here: World
) -> None:
    ended(here, "base", {}, job_status=status)
    assert ask(here, "list-name") == answer


def test_a_final_slash_may_hide_the_note(here: World) -> None:
    ended(here, "final-slash", files())
    assert ask(here, "final-slash") == "the note is not read"


@pytest.mark.parametrize(
    ("statuses", "answer"),
    [
        ((JobStatus.FAILED, JobStatus.FAILED), "JOB_FAILED"),
        ((JobStatus.FAILED, JobStatus.COMPLETED), "short"),
        ((JobStatus.COMPLETED, JobStatus.FAILED), "arn"),
    ],
)
def test_a_form_of_a_key_with_which_the_job_fails_is_not_accepted(
    statuses: tuple[JobStatus, JobStatus], answer: str, here: World
) -> None:
    for job, status in zip(("kms-arn", "kms-short"), statuses, strict=True):
        ended(here, job, {}, job_status=status)
    assert ask(here, "kms-key-forms") == answer


@pytest.mark.parametrize(
    ("refusal", "answer"),
    [
        (
            InvalidRequestException(
                operation="", code="InvalidRequestException", message="No such role."
            ),
            "refused with another message",
        ),
        (
            AccessDeniedException(operation="", code="AccessDeniedException", message=""),
            "JOB_NOT_STARTED AccessDeniedException",
        ),
    ],
)
def test_a_role_may_be_refused_in_other_ways(refusal: Any, answer: str, here: World) -> None:
    here.account.refusals["missing-role"] = refusal
    assert ask(here, "missing-role") == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (faults.error("InvalidRequestException"), "InvalidRequestException"),
        (
            faults.error("ResourceNotFoundException", status=410),
            "ResourceNotFoundException with 410",
        ),
    ],
)
def test_an_unknown_job_may_be_answered_in_other_ways(
    response: faults.Fault, answer: str, here: World
) -> None:
    here.service.script(response)
    assert ask(here, "error-status") == answer


def test_an_unknown_job_may_be_found(here: World) -> None:
    job = {"JobId": here.account.state.run * 2, "JobStatus": "COMPLETED"}
    body = json.dumps({"ComprehendMedicalAsyncJobProperties": job}).encode()
    here.service.script(faults.answer(200, body))
    assert ask(here, "error-status") == "found"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (faults.error("InvalidRequestException"), "InvalidRequestException"),
        (
            faults.answer(200, b'{"ComprehendMedicalAsyncJobPropertiesList": [{}]}'),
            "only one applies",
        ),
    ],
)
def test_two_filters_may_be_answered_in_other_ways(
    response: faults.Fault, answer: str, here: World
) -> None:
    ended(here, "base", {})
    here.service.script(response)
    assert ask(here, "two-filters") == answer


def test_a_list_may_be_in_no_order(here: World) -> None:
    jobs = [{"JobId": "1", "JobStatus": "COMPLETED", "SubmitTime": time} for time in (1, 3, 2)]
    body = json.dumps({"ComprehendMedicalAsyncJobPropertiesList": jobs}).encode()
    for job in ("base", "final-slash"):
        ended(here, job, {})
    here.service.script(faults.answer(200, body))
    assert ask(here, "unfiltered-list") == "in no order"
