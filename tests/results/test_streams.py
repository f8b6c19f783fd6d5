"""What a job's results are, however AWS lays them out, and whatever became of the files."""

from __future__ import annotations

import gc
import json
import socketserver
import threading
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, cast
from urllib.parse import unquote
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    Document,
    Entity,
    ExpiredTokenException,
    IncompleteResultsError,
    InputDataConfig,
    JobNotEndedError,
    JobProperties,
    JobResults,
    JobStatus,
    Manifest,
    MissingManifestError,
    OutputDataConfig,
    OverlappingLocationsWarning,
    PHIClient,
    RequestValidationError,
    ResultsError,
    ServiceError,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    Trait,
    UnprocessedFile,
    UnreadableObjectError,
    entity_counts,
)
from comprehend_phi._results.layout import folder_key
from comprehend_phi._results.storage import MissingObject, StoredObject
from comprehend_phi.testing import FakeClock, LocalServer, faults

ROLE = "arn:aws:iam::123456789012:role/reads-notes"

# Planted in every file that is damaged here; it belongs into no error.
CANARY = "Zinnia Quellwasser"
NOTE = f"Patient: {CANARY}, seen."

WRITE_TEST_FILE = "ComprehendMedicalS3WriteTestFile"


def found(text: str = CANARY, begin: int = 9, type_: str = "NAME", **members: Any) -> Any:
    """An entity as the service writes it."""
    return {
        "Id": 0,
        "BeginOffset": begin,
        "EndOffset": begin + len(text),
        "Score": 0.97,
        "Text": text,
        "Category": "PROTECTED_HEALTH_INFORMATION",
        "Type": type_,
        "Traits": [],
        **members,
    }


def output(*entities: Any, **members: Any) -> Any:
    """A .out file as the service writes it."""
    return {"Entities": list(entities), "UnmappedAttributes": [], **members}


class Laid:
    """A job whose description is scripted and whose results are laid by hand."""

    def __init__(self, server: LocalServer, client: PHIClient, bucket: str) -> None:
        self.job_id = uuid4().hex
        self.name = f"123456789012-PHIDetection-{self.job_id}"
        self.folder = f"results/{self.name}/"
        self.success = f"{self.folder}Manifest_{self.name}/success/the-files"
        self.failed = f"{self.folder}Manifest_{self.name}/failed/the-files"
        self.bucket = bucket
        self.written: set[str] = set()
        self._server = server
        self._client = client
        self._storage = server.storage

    def put(self, key: str, content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self._storage.write(self.bucket, key, body)
        self.written.add(key)

    def document(self, path: str, content: Any = None) -> None:
        self.put(f"{self.folder}{path}.out", output(found()) if content is None else content)

    def manifest(self, **members: Any) -> None:
        """A manifest without numbers and locations, unless they are given."""
        summary = {"Status": "COMPLETED", "JobType": "PHIDetection", **members}
        self.put(f"{self.folder}Manifest", {"Summary": summary})

    def lay(
        self,
        *paths: str,
        unprocessed: Sequence[str] = (),
        input_size: int | None = None,
        **members: Any,
    ) -> None:
        """Everything, in the form that AWS documents; the sizes of notes only if they are given."""
        for path in paths:
            self.document(path)
        self.put(
            self.success,
            {
                "Files": [
                    {
                        "Input": f"notes/{path}",
                        "Output": f"{self.folder}{path}.out",
                        **({} if input_size is None else {"InputSize": input_size}),
                    }
                    for path in paths
                ]
            },
        )
        failed = [
            {"Input": f"notes/{path}", "ErrorCode": "TOO_BIG", "ErrorMessage": "Split it"}
            for path in unprocessed
        ]
        self.put(self.failed, {"Files": failed})
        self.manifest(
            **{
                "InputFileCount": len(paths) + len(unprocessed),
                "SuccessFilesCount": len(paths),
                "UnprocessedFilesCount": len(unprocessed),
                "SuccessfulFilesListLocation": self.success,
                "UnprocessedFilesListLocation": self.failed,
                **members,
            }
        )

    def results(
        self, *, status: str = "COMPLETED", without: str | None = None, **members: Any
    ) -> JobResults:
        job = {
            "JobId": self.job_id,
            "JobStatus": status,
            "InputDataConfig": {"S3Bucket": self.bucket, "S3Key": "notes"},
            "OutputDataConfig": {"S3Bucket": self.bucket, "S3Key": self.folder},
            **members,
        }
        job = {name: value for name, value in job.items() if name != without}
        answer = json.dumps({"ComprehendMedicalAsyncJobProperties": job}).encode()
        self._server.service.script(faults.answer(200, answer), operation="DescribePHIDetectionJob")
        return self._client.job(self.job_id).results()


# One server and one client of each kind for the whole module: building them costs more than most
# tests. Every test has a bucket and a job of its own.


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def server(clock: FakeClock) -> Iterator[LocalServer]:
    with LocalServer(clock=clock, job_seconds=300) as server:
        yield server


@pytest.fixture(scope="module")
def session() -> Any:
    # Any: the stubs type a client for each of hundreds of services.
    return boto3.Session("testing", "testing", region_name="us-east-1")


@pytest.fixture(scope="module")
def s3(server: LocalServer, session: Any) -> Iterator[Any]:
    config = Config(retries={"total_max_attempts": 1})
    client = session.client("s3", endpoint_url=server.endpoint_url, config=config)
    yield client
    client.close()


@pytest.fixture(scope="module")
def client(server: LocalServer, session: Any, s3: Any, clock: FakeClock) -> Iterator[PHIClient]:
    url = server.endpoint_url
    with PHIClient(session=session, endpoint_url=url, s3_client=s3, clock=clock) as client:
        yield client


@pytest.fixture
def laid(server: LocalServer, client: PHIClient, bucket: str) -> Laid:
    return Laid(server, client, bucket)


@pytest.fixture
def gets(s3: Any) -> Iterator[list[str]]:
    """The keys of all objects that this test has fetched, in the order of the requests."""
    keys: list[str] = []

    def note(request: Any, **_: Any) -> None:
        # The path is /bucket/key.
        keys.append(unquote(request.url.partition("?")[0].split("/", 4)[4]))

    s3.meta.events.register("before-send.s3.GetObject", note)
    yield keys
    s3.meta.events.unregister("before-send.s3.GetObject", note)


def inputs(results: JobResults) -> list[str]:
    return [document.input_key for document in results]


def until_error(items: Iterator[Any]) -> tuple[list[Any], ResultsError]:
    """What comes, and the ResultsError that it ends with."""
    came: list[Any] = []
    with pytest.raises(ResultsError) as caught:
        came.extend(items)
    # `extend` keeps what came before the error.
    return came, caught.value


def until_incomplete(items: Iterator[Any]) -> tuple[list[Any], IncompleteResultsError]:
    """What comes, and the IncompleteResultsError that it ends with."""
    came, error = until_error(items)
    assert isinstance(error, IncompleteResultsError)
    return came, error


def assert_keeps_quiet(error: BaseException, secret: str = CANARY) -> None:
    """Nowhere in what is printed, logged or sent to a tracker, for the error and what it chains."""
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = [
        str(error),
        repr(error),
        repr(error.args),
        repr(error.__dict__),
        *traceback.format_exception(error),
    ]
    for word in secret.split():
        assert not [text for text in shown if word in text]


# --- A job of the local service -------------------------------------------------------------------


def test_the_documents_of_a_job_are_read(
    client: PHIClient, request_: StartPHIDetectionJobRequest, bucket: str
) -> None:
    job = client.submit(request_)
    job.wait()
    (document,) = job.results()
    folder = f"results/123456789012-PHIDetection-{job.job_id}/"
    assert document.input_key == "notes/note.txt"
    assert document.output_key == f"{folder}note.txt.out"
    assert {entity.text for entity in document.entities} == {"Ada Example", "(555) 555-0142"}


def test_a_job_without_keys_is_read(
    client: PHIClient, make_request: Callable[..., StartPHIDetectionJobRequest], bucket: str
) -> None:
    request = make_request(
        input_data_config=InputDataConfig(s3_bucket=bucket),
        output_data_config=OutputDataConfig(s3_bucket=bucket),
    )
    with pytest.warns(OverlappingLocationsWarning):
        job = client.submit(request)
    job.wait()
    assert inputs(job.results()) == ["notes/note.txt"]


def test_an_unprocessed_file_is_reported(
    client: PHIClient, request_: StartPHIDetectionJobRequest, s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/scan.txt", Body=b"\xff\xfe")
    job = client.submit(request_)
    job.wait()
    results = job.results()
    (file,) = results.unprocessed
    assert inputs(results) == ["notes/note.txt"]
    assert (file.input_key, file.error_code) == ("notes/scan.txt", "INVALID_ENCODING")


AWKWARD = [
    "a b.txt",
    " leading and trailing .txt ",
    "a+b.txt",
    "100%.txt",
    "a%20b.txt",
    "a%2Fb.txt",
    "a#b.txt",
    "a?b=c&d.txt",
    "a'b\"c<d>.txt",
    "Été/Łódź/病歴.txt",
    "cafe\u0301.txt",
    "\U0001f600.txt",
    "deep/er/still/note.txt",
    "note",
    "note.out",
    "note.txt.out.out",
    "Manifest",
    "s3:/note.txt",
    "/note.txt",
    "//note.txt",
    "deep//note.txt",
    "/deep/note.txt",
    "./note.txt",
    "deep/../note.txt",
    "..",
]


def test_awkward_keys_are_read_through_lists(
    server: LocalServer, client: PHIClient, request_: StartPHIDetectionJobRequest, bucket: str
) -> None:
    for name in AWKWARD:
        server.storage.write(bucket, f"notes/{name}", NOTE.encode())
    job = client.submit(request_)
    job.wait()
    assert sorted(inputs(job.results())) == sorted(
        ["notes/note.txt", *(f"notes/{name}" for name in AWKWARD)]
    )


def test_awkward_keys_are_read_through_the_folder(laid: Laid) -> None:
    for name in AWKWARD:
        laid.document(name)
    laid.manifest(InputFileCount=len(AWKWARD))
    assert sorted(inputs(laid.results())) == sorted(f"notes/{name}" for name in AWKWARD)


def test_notes_with_awkward_keys_are_redacted(laid: Laid) -> None:
    for name in AWKWARD:
        laid.put(f"notes/{name}", NOTE.encode())
    laid.lay(*AWKWARD)
    assert dict(laid.results().redacted()) == {
        f"notes/{name}": "Patient: [NAME], seen." for name in AWKWARD
    }


# --- The manifest ---------------------------------------------------------------------------------


def test_a_manifest_with_every_member_is_read(laid: Laid) -> None:
    laid.manifest(
        Status="PARTIAL_SUCCESS",
        InputDataConfiguration={"Bucket": "in", "Path": "notes"},
        OutputDataConfiguration={"Bucket": "out", "Path": laid.folder},
        InputFileCount=5,
        TotalMeteredCharacters=1_234,
        UnprocessedFilesCount=2,
        SuccessFilesCount=3,
        TotalDurationSeconds=390,
        SuccessfulFilesListLocation="success/list",
        UnprocessedFilesListLocation="failed/list",
        FailedJobErrorMessage="none",
    )
    assert laid.results().manifest == Manifest(
        status="PARTIAL_SUCCESS",
        job_type="PHIDetection",
        input_file_count=5,
        success_files_count=3,
        unprocessed_files_count=2,
        total_metered_characters=1_234,
        total_duration_seconds=390,
        successful_files_list_location="success/list",
        unprocessed_files_list_location="failed/list",
        failed_job_error_message="none",
    )


def test_a_manifest_with_only_a_status_is_read(laid: Laid) -> None:
    laid.put(f"{laid.folder}Manifest", {"Summary": {"Status": "COMPLETED"}})
    assert laid.results().manifest == Manifest(status="COMPLETED")


@pytest.mark.parametrize("spelling", ["SuccessFilesCount", "SuccessfulFilesCount"])
def test_both_spellings_of_the_count_of_processed_files_are_read(laid: Laid, spelling: str) -> None:
    laid.manifest(**{spelling: 7})
    assert laid.results().manifest.success_files_count == 7


@pytest.mark.parametrize("spelling", ["SuccessFilesCount", "SuccessfulFilesCount"])
def test_both_spellings_of_the_count_are_compared_with_the_documents(
    laid: Laid, spelling: str
) -> None:
    laid.document("a.txt")
    laid.manifest(**{spelling: 2})
    came, error = until_error(iter(laid.results()))
    assert len(came) == 1
    assert "counts 2 processed files, but there are 1" in str(error)


def test_a_duration_may_have_a_fraction(laid: Laid) -> None:
    laid.manifest(TotalDurationSeconds=390.25)
    assert laid.results().manifest.total_duration_seconds == 390.25


def test_unknown_members_of_a_manifest_are_ignored(laid: Laid) -> None:
    laid.put(
        f"{laid.folder}Manifest", {"Summary": {"Status": "COMPLETED", "New": [1]}, "Newer": {}}
    )
    assert laid.results().manifest.status == "COMPLETED"


def test_the_manifest_is_fetched_once(laid: Laid, gets: list[str]) -> None:
    laid.manifest()
    results = laid.results()
    assert results.manifest is results.manifest
    assert gets == [f"{laid.folder}Manifest"]


def test_nothing_is_fetched_before_it_is_needed(laid: Laid, gets: list[str]) -> None:
    laid.lay("a.txt")
    iter(laid.results())
    assert gets == []


@pytest.mark.parametrize(
    "form", ["{folder}m.json", "m.json", "{name}/m.json", "s3://{bucket}/{folder}m.json"]
)
def test_the_manifest_is_read_from_its_path_if_the_folder_has_none(laid: Laid, form: str) -> None:
    path = form.format(folder=laid.folder, name=laid.name, bucket=laid.bucket)
    laid.put(f"{laid.folder}m.json", {"Summary": {"Status": "COMPLETED"}})
    assert laid.results(ManifestFilePath=path).manifest.status == "COMPLETED"


@pytest.mark.parametrize("path", [None, "", "a-folder/", "nowhere"])
def test_a_manifest_in_the_folder_needs_no_path(laid: Laid, path: str | None) -> None:
    laid.manifest()
    assert laid.results(ManifestFilePath=path).manifest.status == "COMPLETED"


# --- The job folder -------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", ["{folder}", "{bare}", "results", "results/"])
def test_the_job_folder_is_found_whatever_describe_shows(laid: Laid, shown: str) -> None:
    laid.lay("a.txt")
    key = shown.format(folder=laid.folder, bare=laid.folder[:-1])
    results = laid.results(OutputDataConfig={"S3Bucket": laid.bucket, "S3Key": key})
    assert inputs(results) == ["notes/a.txt"]


@pytest.mark.parametrize("shown", [{"S3Key": ""}, {}])
def test_the_job_folder_is_found_at_the_top_of_the_bucket(
    laid: Laid, shown: dict[str, str]
) -> None:
    laid.folder = f"{laid.name}/"
    laid.document("a.txt")
    laid.manifest()
    results = laid.results(OutputDataConfig={"S3Bucket": laid.bucket, **shown})
    assert inputs(results) == ["notes/a.txt"]


def test_the_folder_of_another_job_is_not_used(laid: Laid) -> None:
    laid.put(f"results/123456789012-PHIDetection-{'0' * 32}/Manifest", {"Summary": {}})
    laid.lay("a.txt")
    results = laid.results(OutputDataConfig={"S3Bucket": laid.bucket, "S3Key": "results"})
    assert inputs(results) == ["notes/a.txt"]


def test_a_job_without_a_folder_is_an_error(laid: Laid) -> None:
    results = laid.results(OutputDataConfig={"S3Bucket": laid.bucket, "S3Key": "results"})
    _, error = until_error(iter(results))
    assert laid.job_id in str(error)
    assert (error.bucket, error.key) == (laid.bucket, "results/")


@pytest.mark.parametrize("member", ["InputDataConfig", "OutputDataConfig"])
def test_a_description_without_locations_is_an_error(laid: Laid, member: str) -> None:
    with pytest.raises(ResultsError, match="did not say where") as caught:
        laid.results(without=member)
    assert caught.value.job_id == laid.job_id


# --- Lists ----------------------------------------------------------------------------------------


def locations(kind: str) -> list[Any]:
    """Ways to name a list: where it lies, and what the manifest says."""
    return [
        pytest.param(f"{{lists}}/{kind}/x", f"{{lists}}/{kind}/x", id="full key"),
        pytest.param(f"{{lists}}/{kind}/x", f"Manifest_{{name}}/{kind}/x", id="below the folder"),
        pytest.param(
            f"{{lists}}/{kind}/x",
            f"{{name}}/Manifest_{{name}}/{kind}/x",
            id="below the output key",
        ),
        pytest.param(f"{{lists}}/{kind}/x", f"/{{lists}}/{kind}/x", id="leading slash"),
        pytest.param(f"{{lists}}/{kind}/x", f"s3://{{bucket}}/{{lists}}/{kind}/x", id="URI"),
        pytest.param(f"{{lists}}/{kind}/x", "", id="empty"),
        pytest.param(f"{{lists}}/{kind}/x", None, id="absent"),
        pytest.param("{folder}elsewhere", "{folder}elsewhere", id="elsewhere"),
    ]


def lay_list(laid: Laid, where: str, location: str | None, member: str, content: Any) -> None:
    names = {
        "bucket": laid.bucket,
        "folder": laid.folder,
        "name": laid.name,
        "lists": f"{laid.folder}Manifest_{laid.name}",
    }
    laid.put(where.format(**names), content)
    laid.manifest(**({} if location is None else {member: location.format(**names)}))


@pytest.mark.parametrize(("where", "location"), locations("success"))
def test_the_list_of_processed_files_is_found(laid: Laid, where: str, location: str | None) -> None:
    # Not named as the folder would have it: only the list can tell.
    laid.put(f"{laid.folder}odd name", output())
    content = {"Files": [{"Input": "notes/a.txt", "Output": f"{laid.folder}odd name"}]}
    lay_list(laid, where, location, "SuccessfulFilesListLocation", content)
    assert [(d.input_key, d.output_key) for d in laid.results()] == [
        ("notes/a.txt", f"{laid.folder}odd name")
    ]


@pytest.mark.parametrize(("where", "location"), locations("failed"))
def test_the_list_of_unprocessed_files_is_found(
    laid: Laid, where: str, location: str | None
) -> None:
    content = {"Files": [{"Input": "notes/b.txt", "ErrorCode": "C", "ErrorMessage": "M"}]}
    lay_list(laid, where, location, "UnprocessedFilesListLocation", content)
    assert laid.results().unprocessed == (
        UnprocessedFile(input_key="notes/b.txt", error_code="C", error_message="M"),
    )


@pytest.mark.parametrize("shown", ["results", "results/"])
def test_a_list_location_below_the_output_key_needs_no_folder_in_describe(
    laid: Laid, shown: str
) -> None:
    laid.lay("a.txt", SuccessfulFilesListLocation=laid.success.removeprefix("results/"))
    results = laid.results(OutputDataConfig={"S3Bucket": laid.bucket, "S3Key": shown})
    assert inputs(results) == ["notes/a.txt"]


def test_all_lists_below_the_folder_are_read(laid: Laid) -> None:
    for number in range(3):
        laid.document(f"{number}.txt")
        laid.put(
            f"{laid.folder}Manifest_{laid.name}/success/part-{number}",
            {"Files": [f"notes/{number}.txt"]},
        )
    laid.manifest(SuccessFilesCount=3)
    assert inputs(laid.results()) == ["notes/0.txt", "notes/1.txt", "notes/2.txt"]


def test_older_lists_of_plain_strings_are_read(laid: Laid) -> None:
    laid.lay("a.txt", "deep/b.txt")
    laid.put(laid.success, {"Files": ["notes/a.txt", "notes/deep/b.txt"]})
    laid.put(laid.failed, {"Files": ["notes/c.txt"]})
    laid.manifest(
        SuccessfulFilesListLocation=laid.success, UnprocessedFilesListLocation=laid.failed
    )
    results = laid.results()
    assert inputs(results) == ["notes/a.txt", "notes/deep/b.txt"]
    assert results.unprocessed == (
        UnprocessedFile(input_key="notes/c.txt", error_code=None, error_message=None),
    )


def test_a_list_may_mix_objects_and_strings(laid: Laid) -> None:
    laid.lay("a.txt", "b.txt")
    laid.put(laid.success, {"Files": [{"Input": "notes/a.txt"}, "notes/b.txt"]})
    assert inputs(laid.results()) == ["notes/a.txt", "notes/b.txt"]


def test_documents_are_yielded_in_the_order_of_the_list(laid: Laid) -> None:
    paths = [f"{number * 37 % 50:02}.txt" for number in range(50)]
    laid.lay(*paths)
    assert inputs(laid.results()) == [f"notes/{path}" for path in paths]


def test_an_entry_that_is_listed_twice_is_read_once(laid: Laid) -> None:
    laid.lay("a.txt")
    laid.put(laid.success, {"Files": ["notes/a.txt", "notes/a.txt", {"Input": "notes/a.txt"}]})
    assert inputs(laid.results()) == ["notes/a.txt"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("notes/a.txt", "a.txt", id="one source, one document"),
        pytest.param(
            {"Input": "notes/a.txt", "Output": "{folder}a.txt.out"},
            {"Input": "notes/a.txt", "Output": "{folder}b.txt.out"},
            id="one source",
        ),
        pytest.param(
            {"Input": "notes/a.txt", "Output": "{folder}a.txt.out"},
            {"Input": "notes/b.txt", "Output": "{folder}a.txt.out"},
            id="one document",
        ),
    ],
)
def test_two_entries_for_one_file_are_left_out_and_reported(
    laid: Laid, one: Any, other: Any
) -> None:
    laid.lay("a.txt", "b.txt", "c.txt")
    content = json.dumps({"Files": [one, other, "notes/c.txt"]})
    laid.put(laid.success, content.replace("{folder}", laid.folder).encode())
    came, error = until_incomplete(iter(laid.results()))
    assert [document.input_key for document in came] == ["notes/c.txt"]
    assert error.reason == "2 of 3 documents could not be delivered"
    assert error.failed.keys() <= {"notes/a.txt", "notes/b.txt"}
    for reason in error.failed.values():
        assert reason.startswith("UnreadableObjectError: s3://")
        assert "several entries" in reason


def test_unknown_members_of_a_list_are_ignored(laid: Laid) -> None:
    laid.lay("a.txt")
    laid.put(laid.success, {"Files": [{"Input": "notes/a.txt", "New": {}}], "NextPage": None})
    assert inputs(laid.results()) == ["notes/a.txt"]


@pytest.mark.parametrize("name", ["{full}", "{path}", "s3://{bucket}/{full}", "/{full}"])
@pytest.mark.parametrize(
    "out", ["{folder}{path}.out", "{path}.out", "s3://{bucket}/{folder}{path}.out", None]
)
def test_a_list_may_name_a_processed_file_in_many_ways(
    laid: Laid, name: str, out: str | None
) -> None:
    names = {
        "full": "notes/deep/a b.txt",
        "path": "deep/a b.txt",
        "bucket": laid.bucket,
        "folder": laid.folder,
    }
    laid.lay("deep/a b.txt")
    entry = {"Input": name.format(**names), "Output": out and out.format(**names)}
    laid.put(laid.success, {"Files": [entry]})
    assert [(d.input_key, d.output_key) for d in laid.results()] == [
        ("notes/deep/a b.txt", f"{laid.folder}deep/a b.txt.out")
    ]


@pytest.mark.parametrize("name", ["notes/b.txt", "b.txt", "s3://{bucket}/notes/b.txt"])
def test_a_list_may_name_an_unprocessed_file_in_many_ways(laid: Laid, name: str) -> None:
    laid.manifest(UnprocessedFilesListLocation=laid.failed)
    laid.put(laid.failed, {"Files": [{"Input": name.format(bucket=laid.bucket)}]})
    assert [file.input_key for file in laid.results().unprocessed] == ["notes/b.txt"]


@pytest.mark.parametrize(
    ("name", "out", "key"),
    [
        ("notes/a.txt", "notes/a.txt.out", "notes/notes/a.txt"),
        ("notes/a.txt", "a.txt.out", "notes/a.txt"),
        ("notes/notes/a.txt", "notes/a.txt.out", "notes/notes/a.txt"),
    ],
    ids=["relative", "full", "full, twice"],
)
def test_the_output_decides_whether_a_path_that_begins_like_the_input_key_is_a_key(
    laid: Laid, name: str, out: str, key: str
) -> None:
    laid.put(f"{laid.folder}{out}", output())
    laid.put(laid.success, {"Files": [{"Input": name, "Output": f"{laid.folder}{out}"}]})
    laid.manifest(SuccessfulFilesListLocation=laid.success)
    assert inputs(laid.results()) == [key]


@pytest.mark.parametrize("key", ["", None])
@pytest.mark.parametrize("listed", [True, False])
def test_without_an_input_key_paths_are_keys(laid: Laid, key: str | None, listed: bool) -> None:
    laid.document("ward/a.txt")
    laid.manifest()
    if listed:
        laid.put(laid.success, {"Files": [{"Input": "ward/a.txt", "Output": "ward/a.txt.out"}]})
    source = {"S3Bucket": laid.bucket, **({} if key is None else {"S3Key": key})}
    assert inputs(laid.results(InputDataConfig=source)) == ["ward/a.txt"]


def test_an_input_key_may_end_in_a_slash(laid: Laid) -> None:
    laid.document("a.txt")
    laid.manifest()
    source = {"S3Bucket": laid.bucket, "S3Key": "notes/"}
    assert inputs(laid.results(InputDataConfig=source)) == ["notes/a.txt"]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param([{"Input": "notes/note.txt", "Output": "{folder}note.txt.out"}], id="objects"),
        pytest.param([{"Input": "note.txt", "Output": "note.txt.out"}], id="relative objects"),
        pytest.param(["notes/note.txt"], id="strings"),
        pytest.param(None, id="no list"),
    ],
)
def test_the_input_key_may_be_a_single_object(laid: Laid, files: Any) -> None:
    # Where AWS puts such a job's document is not known: here it lies where the local service does.
    laid.document("note.txt")
    laid.manifest(InputFileCount=1)
    if files is not None:
        laid.put(
            laid.success, json.dumps({"Files": files}).replace("{folder}", laid.folder).encode()
        )
    source = {"S3Bucket": laid.bucket, "S3Key": "notes/note.txt"}
    assert [(d.input_key, d.output_key) for d in laid.results(InputDataConfig=source)] == [
        ("notes/note.txt", f"{laid.folder}note.txt.out")
    ]


segments = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=8
).filter(lambda segment: segment not in (".", ".."))
paths_ = st.lists(segments, min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize("spelling", ["notes/{}", "{}"])
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(paths=st.lists(paths_, min_size=1, max_size=3, unique=True))
def test_any_path_is_found_again(
    server: LocalServer, client: PHIClient, bucket: str, spelling: str, paths: list[str]
) -> None:
    # A job of its own for each example, in the one bucket of the test.
    laid = Laid(server, client, bucket)
    laid.lay(*paths)
    entries = [
        {"Input": spelling.format(path), "Output": f"{laid.folder}{path}.out"} for path in paths
    ]
    laid.put(laid.success, {"Files": entries})
    assert inputs(laid.results()) == [f"notes/{path}" for path in paths]


# Where readings of a name could meet: keys of slashes, dots and what the input keys begin with.
slashed = st.text(st.sampled_from("//.an"), min_size=1, max_size=5)
output_keys = st.sampled_from(["", "out", "out/", "/", "/out", "/out/", "n"])


class Kept:
    """A `Storage` of one bucket for sources and results, which are in memory."""

    connections = 2

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    def check_open(self) -> None:
        """Stay open."""

    def read(self, bucket: str, key: str) -> StoredObject:
        if key not in self._objects:
            raise MissingObject("the key does not exist", bucket=bucket, key=key)
        return StoredObject(self._objects[key], None)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        return sorted(key for key in self._objects if key.startswith(prefix))

    def folders(self, bucket: str, prefix: str) -> list[str]:
        names = [key.removeprefix(prefix).partition("/") for key in self.keys(bucket, prefix)]
        return sorted({f"{prefix}{name}/" for name, slash, _ in names if slash})


@settings(max_examples=300)
@given(
    input_key=st.sampled_from(["", "n", "n/", "/", "/n", "/n/"]),
    output_key=output_keys,
    paths=st.sets(slashed, min_size=1, max_size=4),
    spelling=st.sampled_from(["{key}", "{path}", "/{key}", "/{path}", "s3://bucket/{key}"]),
    document_spelling=st.sampled_from(["{key}", "{path}", "/{path}", None]),
    lost=st.booleans(),
)
def test_a_note_is_never_paired_with_the_entities_of_another_note(
    input_key: str,
    output_key: str,
    paths: set[str],
    spelling: str,
    document_spelling: str | None,
    lost: bool,
) -> None:
    job_id = uuid4().hex
    name = f"123456789012-PHIDetection-{job_id}"
    out = f"{folder_key(output_key)}{name}/"
    objects: dict[str, bytes] = {}
    entries: list[Any] = []
    for path in sorted(paths):
        key = folder_key(input_key) + path
        # Each note says which it is, and the model was found by nobody else's.
        objects[key] = key.encode()
        objects[f"{out}{path}.out"] = json.dumps({"Entities": [], "ModelVersion": key}).encode()
        entry: dict[str, Any] = {"Input": spelling.format(key=key, path=path)}
        if document_spelling is not None:
            entry["Output"] = document_spelling.format(key=f"{out}{path}.out", path=f"{path}.out")
        entries.append(entry)
    if lost:
        del objects[f"{out}{min(paths)}.out"]
    objects[f"{out}success"] = json.dumps({"Files": entries}).encode()
    summary = {"Status": "COMPLETED", "SuccessfulFilesListLocation": f"{out}success"}
    objects[f"{out}Manifest"] = json.dumps({"Summary": summary}).encode()
    job = JobProperties(
        job_id=job_id,
        job_status=JobStatus.COMPLETED,
        input_data_config=InputDataConfig(s3_bucket="bucket", s3_key=input_key),
        output_data_config=OutputDataConfig(s3_bucket="bucket", s3_key=output_key),
    )
    came: list[tuple[Document, str]] = []
    error = None
    try:
        came.extend(JobResults(job, Kept(objects)).with_text())
    except ResultsError as caught:
        error = caught
    for document, text in came:
        assert document.model_version == document.input_key == text
    assert len(came) == len(paths) or error is not None
    if spelling == document_spelling == "{key}" and not lost:
        assert len(came) == len(paths)


@settings(max_examples=20)
@given(
    input_key=st.sampled_from([None, "n", "n/", "/", "/2031/02", "/n/"]),
    output_key=output_keys,
    paths=st.sets(slashed.filter(lambda path: not path.endswith("/")), min_size=1, max_size=4),
)
def test_each_note_is_redacted_with_its_own_entities(
    client: PHIClient, s3: Any, input_key: str | None, output_key: str, paths: set[str]
) -> None:
    source, target = f"source-{uuid4().hex}", f"target-{uuid4().hex}"
    for name in (source, target):
        s3.create_bucket(Bucket=name)
    keys = [folder_key(input_key or "") + path for path in sorted(paths)]
    for number, key in enumerate(keys):
        # A name in every other note: what is redacted with the entities of another one shows.
        body = f"Note {number}\nPatient: {'Jo Sample' if number % 2 else '-'}\n"
        s3.put_object(Bucket=source, Key=key, Body=body.encode())
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket=source, s3_key=input_key),
        output_data_config=OutputDataConfig(s3_bucket=target, s3_key=output_key or None),
        data_access_role_arn=ROLE,
        kms_key="alias/results",
    )
    job = client.submit(request)
    job.wait()
    assert dict(job.results().redacted()) == {
        key: f"Note {number}\nPatient: {'[NAME]' if number % 2 else '-'}\n"
        for number, key in enumerate(keys)
    }


# --- Without lists --------------------------------------------------------------------------------


def test_without_lists_every_document_in_the_folder_is_read(laid: Laid) -> None:
    for path in ("a.txt", "deep/b.txt"):
        laid.document(path)
    laid.manifest(SuccessFilesCount=2, InputFileCount=2)
    assert [(d.input_key, d.output_key) for d in laid.results()] == [
        ("notes/a.txt", f"{laid.folder}a.txt.out"),
        ("notes/deep/b.txt", f"{laid.folder}deep/b.txt.out"),
    ]


def test_without_lists_other_files_are_skipped(laid: Laid) -> None:
    laid.document("a.txt")
    for path in (WRITE_TEST_FILE, f"Manifest_{laid.name}/", f"Manifest_{laid.name}/other.out"):
        laid.put(f"{laid.folder}{path}", b"not JSON")
    laid.put(f"results/{WRITE_TEST_FILE}", b"not JSON")
    laid.manifest()
    assert inputs(laid.results()) == ["notes/a.txt"]


@pytest.mark.parametrize("path", ["Manifest_of_ward_7.txt", "Manifest_x/success/a.txt"])
def test_a_note_named_like_a_manifest_is_read(laid: Laid, path: str) -> None:
    laid.document(path)
    laid.manifest(SuccessFilesCount=1)
    assert inputs(laid.results()) == [f"notes/{path}"]


def test_without_lists_nothing_is_unprocessed(laid: Laid) -> None:
    laid.document("a.txt")
    laid.manifest()
    assert laid.results().unprocessed == ()


def test_all_pages_of_a_folder_are_listed(laid: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # a page; S3's own has 1,000
    for number in range(25):
        laid.document(f"{number:02}.txt", output())
    laid.manifest()
    assert inputs(laid.results()) == [f"notes/{number:02}.txt" for number in range(25)]


def test_the_job_folder_is_found_on_a_later_page(
    laid: Laid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    for number in range(25):
        laid.put(f"results/000000000000-PHIDetection-{number:032}/Manifest", {})
    laid.lay("a.txt")
    results = laid.results(OutputDataConfig={"S3Bucket": laid.bucket, "S3Key": "results"})
    assert inputs(results) == ["notes/a.txt"]


# --- Completeness ---------------------------------------------------------------------------------


def test_a_missing_document_is_reported_after_all_others(laid: Laid) -> None:
    paths = [f"{number}.txt" for number in range(60)]
    laid.lay(*paths)
    lost = f"{laid.folder}lost.txt.out"
    entries: list[Any] = [f"notes/{path}" for path in paths]
    entries.insert(3, {"Input": "notes/lost.txt", "Output": lost})
    laid.put(laid.success, {"Files": entries})
    came, error = until_error(iter(laid.results()))
    assert [document.input_key for document in came] == [f"notes/{path}" for path in paths]
    assert isinstance(error, IncompleteResultsError)
    assert error.missing == (lost,)
    assert error.failed == {
        "notes/lost.txt": f"MissingObject: s3://{laid.bucket}/{lost}: the key does not exist"
    }
    assert (error.bucket, error.job_id) == (laid.bucket, laid.job_id)
    assert lost in str(error)
    assert "1 of 61 documents" in str(error)


def test_redacting_reports_a_missing_document_after_all_others(laid: Laid) -> None:
    for path in ("a.txt", "b.txt"):
        laid.put(f"notes/{path}", NOTE.encode())
    laid.lay("a.txt", "b.txt")
    laid.put(laid.success, {"Files": ["lost.txt", "a.txt", "b.txt"]})
    came, error = until_error(laid.results().redacted())
    assert [key for key, _ in came] == ["notes/a.txt", "notes/b.txt"]
    assert isinstance(error, IncompleteResultsError)
    assert error.missing == (f"{laid.folder}lost.txt.out",)


def test_the_message_names_at_most_twenty_missing_documents(laid: Laid) -> None:
    laid.lay()
    laid.put(laid.success, {"Files": [f"notes/{number:02}.txt" for number in range(50)]})
    _, error = until_error(iter(laid.results()))
    assert isinstance(error, IncompleteResultsError)
    keys = [f"{laid.folder}{number:02}.txt.out" for number in range(50)]
    assert error.missing == tuple(keys)
    assert [key in str(error) for key in keys] == [True] * 20 + [False] * 30
    assert str(error).endswith("and 30 more")


def test_the_message_names_all_of_twenty_missing_documents(laid: Laid) -> None:
    laid.lay()
    laid.put(laid.success, {"Files": [f"notes/{number:02}.txt" for number in range(20)]})
    _, error = until_error(iter(laid.results()))
    assert all(f"{number:02}.txt.out" in str(error) for number in range(20))
    assert "more" not in str(error)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"SuccessFilesCount": 3}, "counts 3 processed files, but there are 2"),
        ({"SuccessFilesCount": 1}, "counts 1 processed files, but there are 2"),
        ({"SuccessFilesCount": 0}, "counts 0 processed files, but there are 2"),
        ({"UnprocessedFilesCount": 2}, "counts 2 unprocessed files, but there are 1"),
        ({"UnprocessedFilesCount": 0}, "counts 0 unprocessed files, but there are 1"),
        ({"InputFileCount": 4}, "counts 4 input files, but there are 3"),
        ({"InputFileCount": 2}, "counts 2 input files, but there are 3"),
    ],
    ids=str,
)
def test_a_wrong_count_is_reported_after_all_documents(
    laid: Laid, members: dict[str, int], reason: str
) -> None:
    laid.lay("a.txt", "b.txt", unprocessed=["c.txt"], **members)
    came, error = until_error(iter(laid.results(status="PARTIAL_SUCCESS")))
    assert len(came) == 2
    assert isinstance(error, IncompleteResultsError)
    assert reason in str(error)
    assert error.bucket == laid.bucket
    assert error.missing == ()


@pytest.mark.parametrize("promised", [0, 2])
def test_unprocessed_raises_if_the_manifest_counts_another_number(
    laid: Laid, promised: int
) -> None:
    laid.lay("a.txt", unprocessed=["c.txt"], UnprocessedFilesCount=promised, InputFileCount=2)
    with pytest.raises(
        IncompleteResultsError,
        match=f"the manifest counts {promised} unprocessed files, but there are 1",
    ):
        _ = laid.results(status="PARTIAL_SUCCESS").unprocessed


def test_all_wrong_counts_are_reported_together(laid: Laid) -> None:
    laid.lay("a.txt", SuccessFilesCount=5, UnprocessedFilesCount=6, InputFileCount=11)
    _, error = until_error(iter(laid.results()))
    assert isinstance(error, IncompleteResultsError)
    assert error.reason == (
        "the manifest counts 5 processed files, but there are 1;"
        " the manifest counts 6 unprocessed files, but there are 0;"
        " the manifest counts 11 input files, but there are 1"
    )


def test_counts_are_compared_with_a_folder_without_lists(laid: Laid) -> None:
    laid.document("a.txt")
    laid.manifest(SuccessFilesCount=2)
    came, error = until_error(iter(laid.results()))
    assert len(came) == 1
    assert isinstance(error, IncompleteResultsError)


def test_unprocessed_files_without_a_list_are_reported(laid: Laid) -> None:
    laid.document("a.txt")
    laid.manifest(InputFileCount=3, SuccessFilesCount=1, UnprocessedFilesCount=2)
    came, error = until_error(iter(laid.results(status="PARTIAL_SUCCESS")))
    assert len(came) == 1
    assert isinstance(error, IncompleteResultsError)


def test_a_missing_list_of_processed_files_is_an_error(laid: Laid) -> None:
    laid.manifest(SuccessfulFilesListLocation=laid.success)
    _, error = until_error(iter(laid.results()))
    assert isinstance(error, IncompleteResultsError)
    assert error.reason == "the list of processed files is missing"
    assert error.bucket == laid.bucket
    assert error.missing == (laid.success,)
    assert laid.success in str(error)


def test_a_missing_list_of_unprocessed_files_is_reported_after_all_documents(laid: Laid) -> None:
    laid.lay("a.txt", "b.txt", UnprocessedFilesListLocation=f"{laid.folder}lost")
    came, error = until_error(iter(laid.results()))
    assert len(came) == 2
    assert isinstance(error, IncompleteResultsError)
    assert error.missing == (f"{laid.folder}lost",)


def test_a_missing_list_hides_no_missing_document(laid: Laid) -> None:
    laid.lay("a.txt", UnprocessedFilesListLocation=f"{laid.folder}lost")
    laid.put(laid.success, {"Files": ["notes/a.txt", "notes/b.txt"]})
    _, error = until_error(iter(laid.results()))
    assert isinstance(error, IncompleteResultsError)
    assert f"{laid.folder}b.txt.out" in error.missing


def test_unprocessed_raises_if_its_list_is_missing(laid: Laid) -> None:
    laid.manifest(UnprocessedFilesListLocation=laid.failed)
    with pytest.raises(IncompleteResultsError) as caught:
        _ = laid.results().unprocessed
    assert caught.value.missing == (laid.failed,)


@pytest.mark.parametrize("status", ["COMPLETED", "PARTIAL_SUCCESS"])
@pytest.mark.parametrize("path", [None, "{folder}Manifest"])
def test_a_completed_job_without_a_manifest_is_an_error(
    laid: Laid, status: str, path: str | None
) -> None:
    path = path and path.format(folder=laid.folder)
    _, error = until_error(iter(laid.results(status=status, ManifestFilePath=path)))
    assert isinstance(error, IncompleteResultsError)
    assert isinstance(error, MissingManifestError)
    assert error.missing == (f"{laid.folder}Manifest",)
    assert "manifest is missing" in str(error)
    assert laid.job_id in str(error)
    assert error.job_id == laid.job_id


def test_the_error_names_both_possible_keys_of_a_missing_manifest(laid: Laid) -> None:
    _, error = until_error(iter(laid.results(ManifestFilePath="other")))
    assert isinstance(error, IncompleteResultsError)
    assert error.missing == (f"{laid.folder}Manifest", f"{laid.folder}other")


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_stopped_or_failed_job_without_a_manifest_is_an_error(laid: Laid, status: str) -> None:
    _, error = until_error(iter(laid.results(status=status)))
    assert type(error) is MissingManifestError
    assert error.job_id == laid.job_id
    assert f"{laid.job_id} is {status} and left no manifest" in str(error)


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_job_without_a_folder_has_no_manifest(laid: Laid, status: str) -> None:
    target = {"S3Bucket": laid.bucket, "S3Key": "results"}
    _, error = until_error(iter(laid.results(status=status, OutputDataConfig=target)))
    assert type(error) is MissingManifestError
    assert status in str(error)
    assert error.job_id == laid.job_id


@pytest.mark.parametrize("status", ["SUBMITTED", "IN_PROGRESS", "STOP_REQUESTED", "PAUSED"])
def test_a_job_that_has_not_ended_has_no_results(laid: Laid, status: str) -> None:
    with pytest.raises(
        JobNotEndedError, match=rf"is {status}.*no results yet; wait until it has ended"
    ) as caught:
        laid.results(status=status)
    assert caught.value.job_id == laid.job_id


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_results_of_a_stopped_or_failed_job_are_read(laid: Laid, status: str) -> None:
    # It did not come to the other 98.
    laid.lay("a.txt", unprocessed=["b.txt"], Status=status, InputFileCount=100)
    results = laid.results(status=status)
    assert inputs(results) == ["notes/a.txt"]
    assert [file.input_key for file in results.unprocessed] == ["notes/b.txt"]
    assert results.manifest.status == status


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_listed_documents_that_a_stopped_or_failed_job_lacks_are_reported(
    laid: Laid, status: str
) -> None:
    laid.lay("a.txt")
    laid.put(laid.success, {"Files": ["notes/a.txt", "notes/b.txt"]})
    came, error = until_error(iter(laid.results(status=status)))
    assert len(came) == 1
    assert isinstance(error, IncompleteResultsError)


# --- Documents ------------------------------------------------------------------------------------


def test_every_member_of_an_entity_is_read(laid: Laid) -> None:
    entity = {
        "Id": 7,
        "BeginOffset": 3,
        "EndOffset": 12,
        "Score": 0.5,
        "Text": "Ada\u2003\U0001f600",
        "Category": "PROTECTED_HEALTH_INFORMATION",
        "Type": "NAME",
        "Traits": [{"Name": "NEGATION", "Score": 0.25}],
    }
    laid.lay("a.txt")
    laid.document("a.txt", output(entity, ModelVersion="0.1.0", PaginationToken="x"))
    (document,) = laid.results()
    assert document == Document(
        input_key="notes/a.txt",
        output_key=f"{laid.folder}a.txt.out",
        model_version="0.1.0",
        entities=(
            Entity(
                id=7,
                begin_offset=3,
                end_offset=12,
                score=0.5,
                text="Ada\u2003\U0001f600",
                category="PROTECTED_HEALTH_INFORMATION",
                type="NAME",
                traits=(Trait(name="NEGATION", score=0.25),),
            ),
        ),
    )


def test_a_document_without_entities_is_yielded(laid: Laid) -> None:
    laid.lay("a.txt")
    laid.document("a.txt", {"Entities": []})
    (document,) = laid.results()
    assert document.entities == ()
    assert document.model_version is None


def test_an_entity_may_lack_traits(laid: Laid) -> None:
    entity = found()
    del entity["Traits"]
    laid.lay("a.txt")
    laid.document("a.txt", output(entity))
    (document,) = laid.results()
    assert document.entities[0].traits == ()


def test_a_score_may_be_an_integer(laid: Laid) -> None:
    laid.lay("a.txt")
    laid.document("a.txt", output(found(Score=1)))
    (document,) = laid.results()
    assert document.entities[0].score == 1.0


def test_unknown_members_of_a_document_are_ignored(laid: Laid) -> None:
    laid.lay("a.txt")
    laid.document("a.txt", output(found(New={"er": [None]}), Newer="still"))
    (document,) = laid.results()
    assert document.entities[0].text == CANARY


def test_an_unknown_type_is_kept_as_its_string(laid: Laid) -> None:
    laid.lay("a.txt")
    laid.document("a.txt", output(found(type_="GENOME", Category="ELSE")))
    (document,) = laid.results()
    assert (document.entities[0].type, document.entities[0].category) == ("GENOME", "ELSE")


@pytest.mark.parametrize("value", ["entity", "document"])
def test_documents_and_manifests_are_immutable(laid: Laid, value: str) -> None:
    laid.lay("a.txt")
    (document,) = laid.results()
    target: Any = document if value == "document" else document.entities[0]
    with pytest.raises(AttributeError):
        target.model_version = target.type = "other"


def test_iterating_again_reads_again(laid: Laid, gets: list[str]) -> None:
    laid.lay("a.txt")
    results = laid.results()
    first = list(results)
    assert list(results) == first
    assert gets.count(f"{laid.folder}a.txt.out") == 2
    assert gets.count(f"{laid.folder}Manifest") == 1


def test_entity_counts_counts_types_over_all_documents(laid: Laid) -> None:
    laid.lay("a.txt", "b.txt", "c.txt")
    laid.document("b.txt", output(found(), found(type_="DATE"), found(type_="GENOME")))
    laid.document("c.txt", output())
    assert entity_counts(laid.results()) == Counter({"NAME": 2, "DATE": 1, "GENOME": 1})


# --- What is shown --------------------------------------------------------------------------------

SECRETIVE = [
    Entity(
        id=1,
        begin_offset=9,
        end_offset=27,
        score=0.9,
        text=CANARY,
        category="PROTECTED_HEALTH_INFORMATION",
        type="NAME",
    ),
    Document(
        input_key=f"notes/{CANARY}.txt",
        output_key=f"out/{CANARY}.txt.out",
        entities=(
            Entity(
                id=1,
                begin_offset=9,
                end_offset=27,
                score=0.9,
                text=CANARY,
                category="PROTECTED_HEALTH_INFORMATION",
                type="NAME",
            ),
        ),
        model_version="0.1.0",
    ),
    UnprocessedFile(
        input_key=f"notes/{CANARY}.txt", error_code="TOO_BIG", error_message=f"{CANARY}.txt"
    ),
    Manifest(
        status="FAILED",
        successful_files_list_location=CANARY,
        unprocessed_files_list_location=CANARY,
        failed_job_error_message=CANARY,
    ),
]


@pytest.mark.parametrize("value", SECRETIVE, ids=lambda value: type(value).__name__)
def test_no_repr_shows_text_or_keys(value: Any) -> None:
    for shown in (repr(value), str(value), f"{value}", repr([value]), repr(value.__rich_repr__())):
        assert "Zinnia" not in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SECRETIVE[0], "type='NAME'"),
        (SECRETIVE[1], "model_version='0.1.0'"),
        (SECRETIVE[2], "error_code='TOO_BIG'"),
        (SECRETIVE[3], "status='FAILED'"),
    ],
    ids=["Entity", "Document", "UnprocessedFile", "Manifest"],
)
def test_a_repr_shows_all_other_fields(value: Any, shown: str) -> None:
    assert repr(value).startswith(f"{type(value).__name__}(")
    assert shown in repr(value)
    name, _, member = shown.partition("=")
    assert (name, member.strip("'")) in value.__rich_repr__()


def test_a_repr_shows_fields_in_their_order() -> None:
    assert repr(SECRETIVE[0]) == (
        "Entity(id=1, begin_offset=9, end_offset=27, score=0.9,"
        " category='PROTECTED_HEALTH_INFORMATION', type='NAME', traits=())"
    )


def test_the_repr_of_results_shows_the_job_id(laid: Laid) -> None:
    assert repr(laid.results()) == f"JobResults({laid.job_id!r})"


# --- Damage ---------------------------------------------------------------------------------------

NOT_UTF8, NOT_JSON = "is not UTF-8", "is not JSON"
NOT_ITS_FORM = "does not have the documented structure"

# A whole file of each kind, with the canary in known and unknown members.
WHOLE = {
    "manifest": {
        "Summary": {
            "Status": CANARY,
            "JobType": "PHIDetection",
            "FailedJobErrorMessage": CANARY,
            "New": CANARY,
        },
        "New": CANARY,
    },
    "success": {"Files": [{"Input": CANARY, "Output": CANARY, "New": CANARY}], "New": CANARY},
    "failed": {
        "Files": [{"Input": CANARY, "ErrorCode": CANARY, "ErrorMessage": CANARY, "New": CANARY}],
        "New": CANARY,
    },
    "document": {"Entities": [found(New=CANARY)], "ModelVersion": CANARY, "New": CANARY},
}

# Since Python 3.14, only the stack limits the depth: 8 MB are enough for some 250,000 lists.
DEPTH = 1_000_000

# What can become of any file.
COMMON: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("empty", lambda whole: b"", NOT_JSON),
    ("white space", lambda whole: b" \r\n", NOT_JSON),
    ("first half", lambda whole: whole[: len(whole) // 2], NOT_JSON),
    ("last byte gone", lambda whole: whole[:-1], NOT_JSON),
    ("twice", lambda whole: whole * 2, NOT_JSON),
    ("text", lambda whole: NOTE.encode(), NOT_JSON),
    ("Python", lambda whole: repr(json.loads(whole)).encode(), NOT_JSON),
    ("HTML", lambda whole: f"<html>{CANARY}</html>".encode(), NOT_JSON),
    ("byte order mark", lambda whole: b"\xef\xbb\xbf" + whole, NOT_JSON),
    ("NUL", lambda whole: whole.replace(b"New", b"N\0w"), NOT_JSON),
    ("half a surrogate", lambda whole: whole.replace(b'"New": "', b'"New": "\\ud83d'), NOT_JSON),
    ("UTF-16", lambda whole: whole.decode().encode("utf-16"), NOT_UTF8),
    ("Latin-1", lambda whole: whole.replace(b"Zinnia", b"Zinni\xe4"), NOT_UTF8),
    ("Latin-1, unknown", lambda whole: whole.replace(b'"New": "', b'"New": "\xe4'), NOT_UTF8),
    ("Latin-1, a name", lambda whole: whole.replace(b'"New"', b'"N\xe4w"'), NOT_UTF8),
    ("Latin-1, after it", lambda whole: whole + b"\xe4", NOT_UTF8),
    ("list", lambda whole: b"[" + whole + b"]", NOT_ITS_FORM),
    ("string", lambda whole: json.dumps(CANARY).encode(), NOT_ITS_FORM),
    ("number", lambda whole: b"5550142", NOT_ITS_FORM),
    ("null", lambda whole: b"null", NOT_ITS_FORM),
    ("object of nothing", lambda whole: b"{}", NOT_ITS_FORM),
    ("object of another", lambda whole: json.dumps({CANARY: CANARY}).encode(), NOT_ITS_FORM),
    (
        "deeper than anything",
        lambda whole: whole.replace(
            b'"New": "', b'"Deep": ' + b"[" * DEPTH + b"]" * DEPTH + b', "New": "'
        ),
        "",
    ),
]
COMMON_DAMAGE = [
    pytest.param(kind, damage(json.dumps(whole).encode()), reason, id=f"{kind}: {name}")
    for kind, whole in WHOLE.items()
    for name, damage, reason in COMMON
]


def misshapen(kind: str, *contents: Any) -> list[Any]:
    return [
        pytest.param(
            kind,
            json.dumps(content).encode(),
            NOT_ITS_FORM,
            id=f"{kind}: {json.dumps(content)}"[:100],
        )
        for content in contents
    ]


MISSHAPEN_MANIFESTS = misshapen(
    "manifest",
    {"Summary": [CANARY]},
    {"Summary": CANARY},
    {"Summary": None},
    {"Summary": {}},
    {"Summary": {"Status": None, "JobType": CANARY}},
    {"Summary": {"Status": 5}},
    {"Summary": {"Status": [CANARY]}},
    {"Summary": {"Status": "COMPLETED", "InputFileCount": CANARY}},
    {"Summary": {"Status": "COMPLETED", "InputFileCount": "12"}},
    {"Summary": {"Status": "COMPLETED", "SuccessFilesCount": 1.5}},
    {"Summary": {"Status": "COMPLETED", "SuccessfulFilesCount": {CANARY: CANARY}}},
    {"Summary": {"Status": "COMPLETED", "UnprocessedFilesCount": True}},
    {"Summary": {"Status": "COMPLETED", "TotalDurationSeconds": CANARY}},
    {"Summary": {"Status": "COMPLETED", "SuccessfulFilesListLocation": [CANARY]}},
    {"Summary": {"Status": "COMPLETED", "FailedJobErrorMessage": {"x": CANARY}}},
)
MISSHAPEN_LISTS = [
    case
    for kind in ("success", "failed")
    for case in misshapen(
        kind,
        {"Files": CANARY},
        {"Files": {CANARY: CANARY}},
        {"Files": None},
        {"Files": [5550142]},
        {"Files": [None]},
        {"Files": [[CANARY]]},
        {"Files": [{}]},
        {"Files": [{"Output": CANARY}]},
        {"Files": [{"Input": [CANARY]}]},
        {"Files": ["fine", {"Input": "fine", "Output": {CANARY: 1}}]},
        {"Files": [{"Input": "fine", "ErrorCode": [CANARY]}]},
        {"Files": [{"Input": "fine", "ErrorMessage": 5}]},
    )
]
WRONG_TYPES: dict[str, list[Any]] = {
    "Id": [CANARY, None, 1.5],
    "BeginOffset": ["9", None, 9.5, True],
    "EndOffset": ["27", None, [CANARY]],
    "Score": [CANARY, None, [0.5]],
    "Text": [5, None, [CANARY], {CANARY: CANARY}],
    "Category": [None, [CANARY]],
    "Type": [None, 5, [CANARY]],
    "Traits": [CANARY, None, {CANARY: CANARY}, [CANARY], [{}], [{"Name": CANARY}]],
}
MISSHAPEN_DOCUMENTS = misshapen(
    "document",
    {"Entities": CANARY},
    {"Entities": None, "X": CANARY},
    {"Entities": {CANARY: CANARY}},
    {"Entities": [CANARY]},
    {"Entities": [found(), {"Text": CANARY}]},
    {"Entities": [found(), [CANARY]]},
    {"Entities": [], "ModelVersion": [CANARY]},
    *(
        {"Entities": [found(), {**found(), name: value}]}
        for name, values in WRONG_TYPES.items()
        for value in values
    ),
    *(
        {"Entities": [{key: value for key, value in found().items() if key != name}]}
        for name in ("Id", "BeginOffset", "EndOffset", "Score", "Text", "Category", "Type")
    ),
)


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [*COMMON_DAMAGE, *MISSHAPEN_MANIFESTS, *MISSHAPEN_LISTS, *MISSHAPEN_DOCUMENTS],
)
def test_a_damaged_file_is_reported_without_its_content(
    laid: Laid, kind: str, body: bytes, reason: str
) -> None:
    laid.lay("a.txt", "b.txt", "c.txt")
    key = {
        "manifest": f"{laid.folder}Manifest",
        "success": laid.success,
        "failed": laid.failed,
        "document": f"{laid.folder}b.txt.out",
    }[kind]
    laid.put(key, body)
    came, error = until_error(iter(laid.results()))
    words = f"s3://{laid.bucket}/{key}: the file {reason}"
    if kind == "document":
        assert [document.input_key for document in came] == ["notes/a.txt", "notes/c.txt"]
        assert isinstance(error, IncompleteResultsError)
        assert error.failed.keys() == {"notes/b.txt"}
        assert error.failed["notes/b.txt"].startswith(f"UnreadableObjectError: {words}")
        assert error.missing == ()
    else:
        assert type(error) is UnreadableObjectError
        assert (error.bucket, error.key) == (laid.bucket, key)
        assert str(error).startswith(words)
    assert_keeps_quiet(error)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (json.dumps({"Entities": [found(), found(EndOffset="27")]}), "$.Entities[1].EndOffset"),
        (json.dumps({"Entities": [found(Traits=[{"Name": "x"}])]}), "$.Entities[0].Traits[0]"),
    ],
)
def test_the_error_names_the_path_of_a_wrong_type(laid: Laid, body: str, where: str) -> None:
    laid.lay("a.txt")
    laid.document("a.txt", body.encode())
    _, error = until_error(iter(laid.results()))
    assert where in str(error)


def test_the_error_names_the_position_of_an_invalid_byte(laid: Laid) -> None:
    laid.lay("a.txt")
    laid.document("a.txt", b'{"Entities": [], "New": "\xff"}')
    _, error = until_error(iter(laid.results()))
    assert "byte 25" in str(error)


def test_a_broken_manifest_is_reported_by_every_method(laid: Laid) -> None:
    laid.put(f"{laid.folder}Manifest", NOTE.encode())
    results = laid.results()
    for ask in (lambda: results.manifest, lambda: results.unprocessed, lambda: list(results)):
        with pytest.raises(ResultsError) as caught:
            ask()
        assert_keeps_quiet(caught.value)


def test_a_broken_manifest_is_not_replaced_by_another(laid: Laid) -> None:
    laid.put(f"{laid.folder}Manifest", b"{}")
    laid.put(f"{laid.folder}other", {"Summary": {"Status": "COMPLETED"}})
    with pytest.raises(ResultsError):
        _ = laid.results(ManifestFilePath="other").manifest


# --- Texts and redacted copies --------------------------------------------------------------------


def test_with_text_yields_every_document_and_its_text(laid: Laid) -> None:
    paths = ("a.txt", "deep/b.txt", "empty.txt")
    laid.lay(*paths)
    laid.document("empty.txt", output())
    texts = {"notes/a.txt": NOTE, "notes/deep/b.txt": f"{NOTE}\r\n", "notes/empty.txt": ""}
    for key, text in texts.items():
        laid.put(key, text.encode())
    results = laid.results()
    assert list(results.with_text()) == [
        (document, texts[f"notes/{path}"]) for document, path in zip(results, paths, strict=True)
    ]


def test_redacted_yields_key_and_text_of_every_document(laid: Laid) -> None:
    for path in ("a.txt", "deep/b.txt"):
        laid.put(f"notes/{path}", NOTE.encode())
    laid.lay("a.txt", "deep/b.txt")
    assert list(laid.results().redacted()) == [
        ("notes/a.txt", "Patient: [NAME], seen."),
        ("notes/deep/b.txt", "Patient: [NAME], seen."),
    ]


def test_redacting_reads_from_the_input_bucket(laid: Laid, s3: Any) -> None:
    source = f"sources-{uuid4().hex}"
    s3.create_bucket(Bucket=source)
    s3.put_object(Bucket=source, Key="notes/a.txt", Body=NOTE.encode())
    laid.lay("a.txt")
    results = laid.results(InputDataConfig={"S3Bucket": source, "S3Key": "notes"})
    assert dict(results.redacted()) == {"notes/a.txt": "Patient: [NAME], seen."}


@pytest.mark.parametrize("around", ["\r\n", "\n", "\r", "\x0b\x1c\u2028", "\0", "\ufeff"])
def test_redacting_changes_neither_line_endings_nor_other_characters(
    laid: Laid, around: str
) -> None:
    text = f"{around}{around}{CANARY}{around}"
    laid.put("notes/a.txt", text.encode())
    laid.lay("a.txt")
    laid.document("a.txt", output(found(begin=2 * len(around))))
    assert dict(laid.results().redacted()) == {"notes/a.txt": f"{around}{around}[NAME]{around}"}


def test_a_note_without_entities_is_unchanged(laid: Laid) -> None:
    laid.put("notes/a.txt", b"Nobody is here.\r\n")
    laid.lay("a.txt")
    laid.document("a.txt", output())
    assert dict(laid.results().redacted()) == {"notes/a.txt": "Nobody is here.\r\n"}


# --- Notes that cannot be delivered ---------------------------------------------------------------

each_reading_of_text = pytest.mark.parametrize("read", [JobResults.redacted, JobResults.with_text])


def others(laid: Laid) -> list[str]:
    """Lay a job of three notes, the second of which is for the test; the keys of the others."""
    for path in ("a.txt", "b.txt", "c.txt"):
        laid.put(f"notes/{path}", NOTE.encode())
    laid.lay("a.txt", "b.txt", "c.txt")
    return ["notes/a.txt", "notes/c.txt"]


def keys_of(came: list[Any]) -> list[str]:
    """The input keys of what `redacted` or `with_text` yielded."""
    return [first if isinstance(first, str) else first.input_key for first, _ in came]


@each_reading_of_text
def test_a_deleted_note_is_left_out_and_reported(
    laid: Laid, s3: Any, read: Callable[[JobResults], Iterator[Any]]
) -> None:
    keys = others(laid)
    s3.delete_object(Bucket=laid.bucket, Key="notes/b.txt")
    came, error = until_incomplete(read(laid.results()))
    assert keys_of(came) == keys
    where = f"s3://{laid.bucket}/notes/b.txt"
    assert error.failed == {
        "notes/b.txt": f"SourceChangedError: {where}: the note no longer exists"
    }
    assert error.missing == ()
    assert error.reason == "1 of 3 documents could not be delivered"
    assert_keeps_quiet(error)


@pytest.mark.parametrize(
    "source",
    [
        NOTE.encode("utf-16"),
        NOTE.replace(" ", "\xa0").encode("latin-1"),
        NOTE.encode() + b"\xe2\x82",
        NOTE.encode() + b"\xed\xa0\x80",
    ],
    ids=["UTF-16", "Latin-1", "cut within a character", "surrogate"],
)
@each_reading_of_text
def test_a_note_that_is_not_utf8_is_left_out_and_reported_without_its_content(
    laid: Laid, read: Callable[[JobResults], Iterator[Any]], source: bytes
) -> None:
    keys = others(laid)
    laid.put("notes/b.txt", source)
    came, error = until_incomplete(read(laid.results()))
    assert keys_of(came) == keys
    where = f"s3://{laid.bucket}/notes/b.txt"
    assert error.failed.keys() == {"notes/b.txt"}
    assert error.failed["notes/b.txt"].startswith(
        f"SourceChangedError: {where}: the note is not UTF-8"
    )
    assert_keeps_quiet(error)


@pytest.mark.parametrize(
    "source",
    [f" {NOTE}", NOTE[1:], NOTE.replace("n", "m"), "", f"\ufeff{NOTE}", NOTE[:20]],
    ids=["moved on", "moved back", "another", "empty", "byte order mark", "shorter"],
)
@each_reading_of_text
def test_a_note_that_does_not_match_its_entities_is_left_out_and_reported_without_its_content(
    laid: Laid, read: Callable[[JobResults], Iterator[Any]], source: str
) -> None:
    keys = others(laid)
    laid.put("notes/b.txt", source.encode())
    came, error = until_incomplete(read(laid.results()))
    assert keys_of(came) == keys
    assert error.failed.keys() == {"notes/b.txt"}
    assert error.failed["notes/b.txt"].startswith(
        f"RedactionError: s3://{laid.bucket}/notes/b.txt: Entity 0 at offsets"
        f" 9 to {9 + len(CANARY)} "
    )
    assert_keeps_quiet(error)
    assert "Patient" not in str(error)


def without_entities(laid: Laid, input_size: int | None = None) -> list[str]:
    """Lay a job of three notes in which nothing was found, so that no offset can tell a change."""
    keys = others(laid)
    laid.lay("a.txt", "b.txt", "c.txt", input_size=input_size)
    for path in ("a.txt", "b.txt", "c.txt"):
        laid.document(path, output())
    return keys


@each_reading_of_text
def test_a_note_with_another_size_than_the_job_read_is_left_out_and_reported(
    laid: Laid, read: Callable[[JobResults], Iterator[Any]]
) -> None:
    keys = without_entities(laid, input_size=len(NOTE))
    laid.put("notes/b.txt", f"{NOTE}!".encode())
    came, error = until_incomplete(read(laid.results()))
    assert keys_of(came) == keys
    where = f"s3://{laid.bucket}/notes/b.txt"
    assert error.failed == {
        "notes/b.txt": f"SourceChangedError: {where}: the note has {len(NOTE) + 1} bytes, but the"
        f" job read {len(NOTE)}. The note was left out because it is not the text that the job"
        " read. Start another job for the current note."
    }
    assert_keeps_quiet(error)


@pytest.mark.parametrize(
    "note", [f"{NOTE} \U0001f600", "Caf\xe9", "line\r\nline"], ids=["astral", "accent", "CRLF"]
)
@each_reading_of_text
def test_sizes_are_compared_in_bytes(
    laid: Laid, read: Callable[[JobResults], Iterator[Any]], note: str
) -> None:
    laid.put("notes/a.txt", note.encode())
    laid.lay("a.txt", input_size=len(note.encode()))
    laid.document("a.txt", output())
    assert keys_of(list(read(laid.results()))) == ["notes/a.txt"]


def written(s3: Any, laid: Laid, key: str) -> float:
    """When S3 says that an object was written, in seconds since 1970."""
    at: datetime = s3.head_object(Bucket=laid.bucket, Key=key)["LastModified"]
    return at.timestamp()


@each_reading_of_text
def test_a_note_written_after_the_submission_is_left_out_and_reported(
    laid: Laid, s3: Any, read: Callable[[JobResults], Iterator[Any]]
) -> None:
    without_entities(laid)
    submitted = written(s3, laid, "notes/a.txt") - 0.001  # S3's time is in whole seconds
    came, error = until_incomplete(read(laid.results(SubmitTime=submitted)))
    assert came == []
    assert error.failed.keys() == {"notes/a.txt", "notes/b.txt", "notes/c.txt"}
    where = f"s3://{laid.bucket}/notes/a.txt"
    assert error.failed["notes/a.txt"].startswith(
        f"SourceChangedError: {where}: the note was written at 20"
    )
    assert ", after the job was submitted at 20" in error.failed["notes/a.txt"]
    assert_keeps_quiet(error)


@pytest.mark.parametrize("later", [0.0, 0.001, 0.999, 86_400.0])
@each_reading_of_text
def test_a_note_written_in_the_second_of_the_submission_or_before_is_read(
    laid: Laid, s3: Any, read: Callable[[JobResults], Iterator[Any]], later: float
) -> None:
    laid.put("notes/a.txt", NOTE.encode())
    laid.lay("a.txt")
    submitted = written(s3, laid, "notes/a.txt") + later
    came = list(read(laid.results(SubmitTime=submitted)))
    assert keys_of(came) == ["notes/a.txt"]


@each_reading_of_text
def test_a_note_replaced_by_one_of_the_same_size_is_left_out_and_reported(
    client: PHIClient,
    clock: FakeClock,
    s3: Any,
    bucket: str,
    make_request: Callable[..., StartPHIDetectionJobRequest],
    read: Callable[[JobResults], Iterator[Any]],
) -> None:
    # Nothing is found in it, so neither an offset nor the size can tell.
    before, after = b"To be dictated later.\n", b"Patient: Noor Sample.\n"
    assert len(before) == len(after)
    s3.put_object(Bucket=bucket, Key="notes/blank.txt", Body=before)
    job = client.submit(make_request())
    job.wait()
    assert len(list(read(job.results()))) == 2
    s3.put_object(Bucket=bucket, Key="notes/blank.txt", Body=after)
    came, error = until_incomplete(read(job.results()))
    assert keys_of(came) == ["notes/note.txt"]
    assert error.failed.keys() == {"notes/blank.txt"}
    assert "after the job was submitted" in error.failed["notes/blank.txt"]
    assert_keeps_quiet(error, "Noor Sample")


def test_documents_are_read_without_their_notes(laid: Laid) -> None:
    without_entities(laid, input_size=1)
    assert len(inputs(laid.results(SubmitTime=0))) == 3


def test_a_file_with_two_sizes_in_the_list_is_left_out(laid: Laid) -> None:
    laid.put("notes/a.txt", NOTE.encode())
    laid.lay("a.txt")
    files = [
        {"Input": "notes/a.txt", "Output": f"{laid.folder}a.txt.out", "InputSize": size}
        for size in (len(NOTE), 7)
    ]
    laid.put(laid.success, {"Files": files})
    came, error = until_incomplete(laid.results().redacted())
    assert came == []
    assert error.failed["notes/a.txt"].startswith("UnreadableObjectError: ")


@each_reading_of_text
def test_a_broken_document_is_left_out_and_reported(
    laid: Laid, read: Callable[[JobResults], Iterator[Any]]
) -> None:
    keys = others(laid)
    laid.document("b.txt", NOTE.encode())
    came, error = until_incomplete(read(laid.results()))
    assert keys_of(came) == keys
    assert error.failed == {
        "notes/b.txt": f"UnreadableObjectError: s3://{laid.bucket}/{laid.folder}b.txt.out:"
        " the file is not JSON"
    }
    assert_keeps_quiet(error)


def test_all_kinds_of_failures_are_in_one_error(laid: Laid, s3: Any) -> None:
    paths = [f"{number}.txt" for number in range(20)]
    for path in paths:
        laid.put(f"notes/{path}", NOTE.encode())
    laid.lay(*paths)
    laid.document("3.txt", b"broken")
    s3.delete_object(Bucket=laid.bucket, Key=f"{laid.folder}5.txt.out")
    s3.delete_object(Bucket=laid.bucket, Key="notes/7.txt")
    laid.put("notes/11.txt", b"\xff")
    laid.put("notes/13.txt", b"another")
    came, error = until_incomplete(laid.results().redacted())
    bad = {"3": "Unreadable", "5": "Missing", "7": "Source", "11": "Source", "13": "Redaction"}
    assert keys_of(came) == [
        f"notes/{number}.txt" for number in range(20) if str(number) not in bad
    ]
    assert {text for _, text in came} == {"Patient: [NAME], seen."}
    assert {key: reason.split("Object")[0] for key, reason in error.failed.items()}.keys() == {
        f"notes/{number}.txt" for number in bad
    }
    for number, kind in bad.items():
        assert error.failed[f"notes/{number}.txt"].startswith(kind)
    assert error.missing == (f"{laid.folder}5.txt.out",)
    assert error.reason == "5 of 20 documents could not be delivered"


def test_failed_notes_are_reported_before_wrong_counts(laid: Laid) -> None:
    laid.lay("a.txt", "b.txt", SuccessFilesCount=9)
    laid.document("b.txt", b"")
    _, error = until_incomplete(iter(laid.results()))
    assert error.failed.keys() == {"notes/b.txt"}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        pytest.param(403, "AccessDenied", "UnreadableObjectError: s3://", id="denied"),
        pytest.param(403, "InvalidObjectState", "UnreadableObjectError: s3://", id="archived"),
        pytest.param(503, "SlowDown", "ThrottlingException: GetObject of s3://", id="throttled"),
        pytest.param(500, "InternalError", "InternalServerException: GetObject of", id="failing"),
    ],
)
@pytest.mark.parametrize("what", ["notes/b.txt", "{folder}b.txt.out"])
@each_reading_of_text
def test_an_object_that_s3_refuses_is_left_out_and_reported(
    laid: Laid,
    refuse: Callable[..., None],
    read: Callable[[JobResults], Iterator[Any]],
    what: str,
    status: int,
    code: str,
    kind: str,
) -> None:
    keys = others(laid)
    key = what.format(folder=laid.folder)
    refuse(key, status=status, code=code)
    came, error = until_incomplete(read(laid.results()))
    assert keys_of(came) == keys
    assert error.failed.keys() == {"notes/b.txt"}
    assert error.failed["notes/b.txt"].startswith(kind)
    assert f"s3://{laid.bucket}/{key}" in error.failed["notes/b.txt"]
    assert_keeps_quiet(error)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "ExpiredToken", ExpiredTokenException),
        (403, "InvalidAccessKeyId", ServiceError),
        (404, "NoSuchBucket", ResultsError),
    ],
)
@each_reading_of_text
def test_an_error_about_all_notes_stops_reading(
    laid: Laid,
    refuse: Callable[..., None],
    read: Callable[[JobResults], Iterator[Any]],
    status: int,
    code: str,
    error: type[Exception],
) -> None:
    others(laid)
    refuse("notes/b.txt", status=status, code=code)
    came: list[Any] = []
    with pytest.raises(error) as caught:
        came.extend(read(laid.results()))
    assert keys_of(came) == ["notes/a.txt"]
    assert not isinstance(caught.value, IncompleteResultsError)


@pytest.mark.parametrize(
    ("failing", "comes"),
    [
        pytest.param(range(10, 109), True, id="99 in a row"),
        pytest.param(range(10, 110), False, id="100 in a row"),
        pytest.param([n for n in range(10, 130) if n != 60], True, id="119, one between them"),
    ],
)
def test_an_outage_stops_reading(
    laid: Laid, refuse: Callable[..., None], failing: Sequence[int], comes: bool
) -> None:
    laid.lay(*(f"{number:03}.txt" for number in range(140)))
    refuse(
        *(f"{laid.folder}{number:03}.txt.out" for number in failing), status=503, code="SlowDown"
    )
    came: list[Document] = []
    with pytest.raises((IncompleteResultsError, ThrottlingException)) as caught:
        came.extend(laid.results())
    if comes:
        assert isinstance(caught.value, IncompleteResultsError)
        assert len(caught.value.failed) == len(failing)
        assert len(came) == 140 - len(failing)
    else:
        assert isinstance(caught.value, ThrottlingException)
        assert caught.value.key == f"{laid.folder}109.txt.out"
        assert len(came) == 10


def test_errors_about_single_notes_never_stop_reading(laid: Laid) -> None:
    laid.lay(*(f"{number:03}.txt" for number in range(150)))
    for number in range(149):
        laid.document(f"{number:03}.txt", b"")
    came, error = until_incomplete(iter(laid.results()))
    assert [document.input_key for document in came] == ["notes/149.txt"]
    assert len(error.failed) == 149


# --- Redacting ------------------------------------------------------------------------------------


def test_redacting_keeps_entities_below_the_minimum_score(laid: Laid) -> None:
    laid.put("notes/a.txt", NOTE.encode())
    laid.lay("a.txt")
    laid.document("a.txt", output(found(Score=0.4), found("Patient", 0, "PROFESSION", Score=0.6)))
    results = laid.results()
    assert dict(results.redacted(min_score=0.5)) == {
        "notes/a.txt": f"[PROFESSION]: {CANARY}, seen."
    }


def test_redacting_uses_the_replacement(laid: Laid) -> None:
    laid.put("notes/a.txt", NOTE.encode())
    laid.lay("a.txt")
    results = laid.results()
    assert dict(results.redacted(replacement="<{type}>")) == {
        "notes/a.txt": "Patient: <NAME>, seen."
    }


@pytest.mark.parametrize("bad", [{"replacement": "{0}"}, {"min_score": 2}], ids=str)
def test_a_wrong_argument_is_refused_before_anything_is_read(
    laid: Laid, gets: list[str], bad: dict[str, Any]
) -> None:
    laid.lay("a.txt")
    results = laid.results()
    with pytest.raises(RequestValidationError):
        results.redacted(**bad)
    assert gets == []


# --- Many documents -------------------------------------------------------------------------------

OurThreads = Callable[[], list[threading.Thread]]
MANY = 5_000
MEASURED, MEASURED_BYTES = 500, 40_000  # fewer and larger ones, since tracemalloc is slow


class Objects(socketserver.ThreadingTCPServer):
    """An S3 that makes its objects up as they are asked for: moto keeps and copies too much.

    The answer to GET /bucket/key is what `body` makes of the key; None is a missing key.
    """

    daemon_threads = True

    body: Callable[[str], bytes | None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ObjectHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.keys: list[str] = []  # all that were asked for


class _ObjectHandler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        objects = cast("Objects", self.server)
        while request := self.rfile.readline():
            while self.rfile.readline().strip():  # headers
                pass
            key = unquote(request.split()[1].decode()).split("/", 2)[2]
            objects.keys.append(key)
            body = objects.body(key)
            status = "200 OK"
            if body is None:
                status, body = "404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)


class Many:
    """Jobs of many documents, and the S3 that they lie in."""

    def __init__(self, server: LocalServer, client: PHIClient, objects: Objects) -> None:
        self.objects = objects
        self._server = server
        self._client = client

    def results(self, count: int = MANY, size: int = 5) -> JobResults:
        """A job of `count` documents, each with an entity whose text has `size` characters."""
        laid = Laid(self._server, self._client, "a-bucket")
        summary = {
            "Status": "COMPLETED",
            "InputFileCount": count,
            "SuccessFilesCount": count,
            "SuccessfulFilesListLocation": "success",
            "UnprocessedFilesListLocation": "failed",
        }
        contents: dict[str, Any] = {
            "Manifest": {"Summary": summary},
            "success": {
                "Files": [
                    {"Input": f"notes/{number}.txt", "Output": f"{laid.folder}{number}.txt.out"}
                    for number in range(count)
                ]
            },
            "failed": {"Files": []},
        }

        def body(key: str) -> bytes | None:
            path = key.removeprefix(laid.folder)
            content = contents.get(path)
            if content is None:
                number = int(path.removesuffix(".txt.out"))
                content = {"Entities": [found(f"{number:05}".ljust(size, "."), number)]}
            return json.dumps(content).encode()

        self.objects.body = body
        self.objects.keys.clear()
        return laid.results()


@pytest.fixture(scope="module")
def many(
    server: LocalServer,
    session: Any,
    clock: FakeClock,
    serving: Callable[[Objects], AbstractContextManager[None]],
) -> Iterator[Many]:
    objects = Objects()
    config = Config(retries={"total_max_attempts": 1})
    s3 = session.client("s3", endpoint_url=objects.url, config=config)
    url = server.endpoint_url
    with (
        serving(objects),
        PHIClient(session=session, endpoint_url=url, s3_client=s3, clock=clock) as client,
    ):
        yield Many(server, client, objects)
    s3.close()


def test_each_of_many_documents_is_yielded_once(many: Many) -> None:
    numbers = [int(document.entities[0].text) for document in many.results()]
    assert numbers == list(range(MANY))
    assert max(Counter(many.objects.keys).values()) == 1


def test_many_documents_take_constant_memory(many: Many) -> None:
    documents = iter(many.results(MEASURED, MEASURED_BYTES))
    # boto3 loads its models for the first, and the list of files stays as long as the results.
    next(documents)
    gc.collect()
    tracemalloc.start()
    try:
        count = sum(1 for _ in documents)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == MEASURED - 1
    # All of them take 20 MB; the 21 in the window less than 1 MB, and decoding them some more.
    assert peak < 5_000_000


def test_fetching_waits_for_a_slow_consumer(many: Many) -> None:
    results = many.results()
    documents = iter(results)
    for _ in range(30):
        next(documents)
    documents.close()
    # 10 connections, so 21 begun and not taken, and two manifest files.
    assert len(many.objects.keys) <= 2 + 30 + 21


def test_closing_the_iterator_stops_fetching(many: Many, our_threads: OurThreads) -> None:
    results = many.results()
    documents = iter(results)
    next(documents)
    documents.close()
    asked = len(many.objects.keys)
    assert our_threads() == []
    assert asked <= 2 + 1 + 21
    assert list(documents) == []


def test_leaving_the_loop_stops_fetching(many: Many, our_threads: OurThreads) -> None:
    results = many.results()
    for _ in results:
        break
    gc.collect()
    assert our_threads() == []
    assert len(many.objects.keys) <= 2 + 1 + 21


def test_no_thread_is_left_at_the_end(laid: Laid, our_threads: OurThreads) -> None:
    laid.lay("a.txt", "b.txt")
    assert len(list(laid.results())) == 2
    assert our_threads() == []


def test_no_thread_is_left_after_an_error(laid: Laid, our_threads: OurThreads) -> None:
    laid.lay("a.txt", "b.txt")
    laid.document("a.txt", b"")
    until_error(iter(laid.results()))
    assert our_threads() == []


def test_two_iterators_do_not_disturb_each_other(laid: Laid) -> None:
    paths = [f"{number:02}.txt" for number in range(40)]
    laid.lay(*paths)
    results = laid.results()
    keys = [f"notes/{path}" for path in paths]
    pairs = [(one.input_key, two.input_key) for one, two in zip(results, results, strict=True)]
    assert pairs == [(key, key) for key in keys]
