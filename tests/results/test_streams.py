"""The results of a job in every layout that AWS may use, and with every kind of damage."""

from __future__ import annotations

import gc
import json
import socketserver
import threading
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar, cast
from urllib.parse import unquote
from uuid import uuid4

import boto3
import msgspec
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
    MissingObjectError,
    OutputDataConfig,
    OverlappingLocationsWarning,
    PHIClient,
    RequestValidationError,
    ResultsError,
    ServiceError,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    Trait,
    TransportError,
    UnprocessedFile,
    UnreadableObjectError,
    entity_counts,
    same_length,
)
from comprehend_phi._keys import folder_key
from comprehend_phi._results.listing import Listing
from comprehend_phi._results.storage import StoredObject
from comprehend_phi.review import AddedMark, Decisions, DocumentDecisions
from comprehend_phi.testing import FakeClock, LocalServer, faults

from ..conftest import CANARY, ROLE
from ..entities import entity

# Every damaged file contains the canary, which must not appear in any error.
NOTE = f"Patient: {CANARY}, seen."

Read = Callable[[JobResults], Iterator[Any]]
Refuse = Callable[..., None]
_E = TypeVar("_E", bound=Exception)

WRITE_TEST_FILE = "ComprehendMedicalS3WriteTestFile"


def found(text: str = CANARY, begin: int = 9, type_: str = "NAME", **members: Any) -> Any:
    """Return an entity as the service writes it."""
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
    """Return a `.out` file as the service writes it."""
    return {"Entities": list(entities), "UnmappedAttributes": [], **members}


class StoredJob:
    """A job with a scripted description and hand-written results."""

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
        """Write a manifest with only the given counts and locations."""
        summary = {"Status": "COMPLETED", "JobType": "PHIDetection", **members}
        self.put(f"{self.folder}Manifest", {"Summary": summary})

    def store(
        self,
        *paths: str,
        unprocessed: Sequence[str] = (),
        input_size: int | None = None,
        **members: Any,
    ) -> None:
        """Write all result files in the documented form, with sizes only if they are given."""
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

    def store_notes(self, *paths: str) -> None:
        """Write notes, and all files of a job that has read them."""
        for path in paths:
            self.put(f"notes/{path}", NOTE.encode())
        self.store(*paths)

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


# The whole module shares a server and its clients, because building them takes longer than most
# tests. Each test has its own bucket and job.


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def server(clock: FakeClock) -> Iterator[LocalServer]:
    with LocalServer(clock=clock, job_seconds=300) as server:
        yield server


@pytest.fixture(scope="module")
def session() -> Any:
    # Any: the stubs overload `client` for hundreds of services.
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
def stored(server: LocalServer, client: PHIClient, bucket: str) -> StoredJob:
    return StoredJob(server, client, bucket)


@pytest.fixture
def gets(s3: Any) -> Iterator[list[str]]:
    """Return the keys of all objects that this test has fetched, in the order of the requests."""
    keys: list[str] = []

    def note(request: Any, **_: Any) -> None:
        # The path is /bucket/key.
        keys.append(unquote(request.url.partition("?")[0].split("/", 4)[4]))

    s3.meta.events.register("before-send.s3.GetObject", note)
    yield keys
    s3.meta.events.unregister("before-send.s3.GetObject", note)


def inputs(results: JobResults) -> list[str]:
    return [document.input_key for document in results]


def until(error: type[_E], items: Iterable[Any]) -> tuple[list[Any], _E]:
    """Return the items that are yielded, and the error that follows them."""
    yielded: list[Any] = []
    with pytest.raises(error) as caught:
        yielded.extend(items)
    # `extend` keeps the items before the error.
    return yielded, caught.value


def until_incomplete(items: Iterable[Any]) -> tuple[list[Any], IncompleteResultsError]:
    return until(IncompleteResultsError, items)


def assert_keeps_quiet(error: BaseException, secret: str = CANARY) -> None:
    """Check that nothing that prints or serializes the error shows the secret."""
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


def test_awkward_keys_are_read_through_the_folder(stored: StoredJob) -> None:
    for name in AWKWARD:
        stored.document(name)
    stored.manifest(InputFileCount=len(AWKWARD))
    assert sorted(inputs(stored.results())) == sorted(f"notes/{name}" for name in AWKWARD)


def test_notes_with_awkward_keys_are_redacted(stored: StoredJob) -> None:
    for name in AWKWARD:
        stored.put(f"notes/{name}", NOTE.encode())
    stored.store(*AWKWARD)
    assert dict(stored.results().redacted()) == {
        f"notes/{name}": "Patient: [NAME], seen." for name in AWKWARD
    }


# --- The manifest ---------------------------------------------------------------------------------


def test_a_manifest_with_every_member_is_read(stored: StoredJob) -> None:
    stored.manifest(
        Status="PARTIAL_SUCCESS",
        InputDataConfiguration={"Bucket": "in", "Path": "notes"},
        OutputDataConfiguration={"Bucket": "out", "Path": stored.folder},
        InputFileCount=5,
        TotalMeteredCharacters=1_234,
        UnprocessedFilesCount=2,
        SuccessFilesCount=3,
        TotalDurationSeconds=390,
        SuccessfulFilesListLocation="success/list",
        UnprocessedFilesListLocation="failed/list",
        FailedJobErrorMessage="none",
    )
    assert stored.results().manifest == Manifest(
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


def test_a_manifest_with_only_a_status_is_read(stored: StoredJob) -> None:
    stored.put(f"{stored.folder}Manifest", {"Summary": {"Status": "COMPLETED"}})
    assert stored.results().manifest == Manifest(status="COMPLETED")


each_spelling = pytest.mark.parametrize("spelling", ["SuccessFilesCount", "SuccessfulFilesCount"])


@each_spelling
def test_both_spellings_of_the_count_of_processed_files_are_read(
    stored: StoredJob, spelling: str
) -> None:
    stored.manifest(**{spelling: 7})
    assert stored.results().manifest.success_files_count == 7


@each_spelling
def test_both_spellings_of_the_count_are_compared_with_the_documents(
    stored: StoredJob, spelling: str
) -> None:
    stored.document("a.txt")
    stored.manifest(**{spelling: 2})
    yielded, error = until(ResultsError, stored.results())
    assert len(yielded) == 1
    assert "counts 2 processed files, but there are 1" in str(error)


def test_a_duration_may_have_a_fraction(stored: StoredJob) -> None:
    stored.manifest(TotalDurationSeconds=390.25)
    assert stored.results().manifest.total_duration_seconds == 390.25


def test_unknown_members_of_a_manifest_are_ignored(stored: StoredJob) -> None:
    stored.put(
        f"{stored.folder}Manifest", {"Summary": {"Status": "COMPLETED", "New": [1]}, "Newer": {}}
    )
    assert stored.results().manifest.status == "COMPLETED"


def test_the_manifest_is_fetched_once(stored: StoredJob, gets: list[str]) -> None:
    stored.manifest()
    results = stored.results()
    assert results.manifest is results.manifest
    assert gets == [f"{stored.folder}Manifest"]


def test_nothing_is_fetched_before_it_is_needed(stored: StoredJob, gets: list[str]) -> None:
    stored.store("a.txt")
    iter(stored.results())
    assert gets == []


@pytest.mark.parametrize(
    "form", ["{folder}m.json", "m.json", "{name}/m.json", "s3://{bucket}/{folder}m.json"]
)
def test_the_manifest_is_read_from_its_path_if_the_folder_has_none(
    stored: StoredJob, form: str
) -> None:
    path = form.format(folder=stored.folder, name=stored.name, bucket=stored.bucket)
    stored.put(f"{stored.folder}m.json", {"Summary": {"Status": "COMPLETED"}})
    assert stored.results(ManifestFilePath=path).manifest.status == "COMPLETED"


@pytest.mark.parametrize("path", [None, "", "a-folder/", "nowhere"])
def test_a_manifest_in_the_folder_needs_no_path(stored: StoredJob, path: str | None) -> None:
    stored.manifest()
    assert stored.results(ManifestFilePath=path).manifest.status == "COMPLETED"


# --- The job folder -------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", ["{folder}", "{bare}", "results", "results/"])
def test_the_job_folder_is_found_whatever_describe_shows(stored: StoredJob, shown: str) -> None:
    stored.store("a.txt")
    key = shown.format(folder=stored.folder, bare=stored.folder[:-1])
    results = stored.results(OutputDataConfig={"S3Bucket": stored.bucket, "S3Key": key})
    assert inputs(results) == ["notes/a.txt"]


@pytest.mark.parametrize("shown", [{"S3Key": ""}, {}])
def test_the_job_folder_is_found_at_the_top_of_the_bucket(
    stored: StoredJob, shown: dict[str, str]
) -> None:
    stored.folder = f"{stored.name}/"
    stored.document("a.txt")
    stored.manifest()
    results = stored.results(OutputDataConfig={"S3Bucket": stored.bucket, **shown})
    assert inputs(results) == ["notes/a.txt"]


def test_the_folder_of_another_job_is_not_used(stored: StoredJob) -> None:
    stored.put(f"results/123456789012-PHIDetection-{'0' * 32}/Manifest", {"Summary": {}})
    stored.store("a.txt")
    results = stored.results(OutputDataConfig={"S3Bucket": stored.bucket, "S3Key": "results"})
    assert inputs(results) == ["notes/a.txt"]


def test_a_job_without_a_folder_is_an_error(stored: StoredJob) -> None:
    results = stored.results(OutputDataConfig={"S3Bucket": stored.bucket, "S3Key": "results"})
    _, error = until(ResultsError, results)
    assert stored.job_id in str(error)
    assert (error.bucket, error.key) == (stored.bucket, "results/")


@pytest.mark.parametrize("member", ["InputDataConfig", "OutputDataConfig"])
def test_a_description_without_locations_is_an_error(stored: StoredJob, member: str) -> None:
    with pytest.raises(ResultsError, match="did not say where") as caught:
        stored.results(without=member)
    assert caught.value.job_id == stored.job_id


# --- Lists ----------------------------------------------------------------------------------------


def locations(kind: str) -> list[Any]:
    """Return ways to name a list: its key, and its location in the manifest."""
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


def lay_list(
    stored: StoredJob, where: str, location: str | None, member: str, content: Any
) -> None:
    names = {
        "bucket": stored.bucket,
        "folder": stored.folder,
        "name": stored.name,
        "lists": f"{stored.folder}Manifest_{stored.name}",
    }
    stored.put(where.format(**names), content)
    stored.manifest(**({} if location is None else {member: location.format(**names)}))


@pytest.mark.parametrize(("where", "location"), locations("success"))
def test_the_list_of_processed_files_is_found(
    stored: StoredJob, where: str, location: str | None
) -> None:
    # The keys do not follow the layout, so only the list shows them.
    stored.put(f"{stored.folder}odd name", output())
    content = {"Files": [{"Input": "notes/a.txt", "Output": f"{stored.folder}odd name"}]}
    lay_list(stored, where, location, "SuccessfulFilesListLocation", content)
    assert [(d.input_key, d.output_key) for d in stored.results()] == [
        ("notes/a.txt", f"{stored.folder}odd name")
    ]


@pytest.mark.parametrize(("where", "location"), locations("failed"))
def test_the_list_of_unprocessed_files_is_found(
    stored: StoredJob, where: str, location: str | None
) -> None:
    content = {"Files": [{"Input": "notes/b.txt", "ErrorCode": "C", "ErrorMessage": "M"}]}
    lay_list(stored, where, location, "UnprocessedFilesListLocation", content)
    assert stored.results().unprocessed == (
        UnprocessedFile(input_key="notes/b.txt", error_code="C", error_message="M"),
    )


@pytest.mark.parametrize("shown", ["results", "results/"])
def test_a_list_location_below_the_output_key_needs_no_folder_in_describe(
    stored: StoredJob, shown: str
) -> None:
    stored.store("a.txt", SuccessfulFilesListLocation=stored.success.removeprefix("results/"))
    results = stored.results(OutputDataConfig={"S3Bucket": stored.bucket, "S3Key": shown})
    assert inputs(results) == ["notes/a.txt"]


def test_all_lists_below_the_folder_are_read(stored: StoredJob) -> None:
    for number in range(3):
        stored.document(f"{number}.txt")
        stored.put(
            f"{stored.folder}Manifest_{stored.name}/success/part-{number}",
            {"Files": [f"notes/{number}.txt"]},
        )
    stored.manifest(SuccessFilesCount=3)
    assert inputs(stored.results()) == ["notes/0.txt", "notes/1.txt", "notes/2.txt"]


def test_older_lists_of_plain_strings_are_read(stored: StoredJob) -> None:
    stored.store("a.txt", "deep/b.txt")
    stored.put(stored.success, {"Files": ["notes/a.txt", "notes/deep/b.txt"]})
    stored.put(stored.failed, {"Files": ["notes/c.txt"]})
    stored.manifest(
        SuccessfulFilesListLocation=stored.success, UnprocessedFilesListLocation=stored.failed
    )
    results = stored.results()
    assert inputs(results) == ["notes/a.txt", "notes/deep/b.txt"]
    assert results.unprocessed == (
        UnprocessedFile(input_key="notes/c.txt", error_code=None, error_message=None),
    )


def test_a_list_may_mix_objects_and_strings(stored: StoredJob) -> None:
    stored.store("a.txt", "b.txt")
    stored.put(stored.success, {"Files": [{"Input": "notes/a.txt"}, "notes/b.txt"]})
    assert inputs(stored.results()) == ["notes/a.txt", "notes/b.txt"]


def test_documents_are_yielded_in_the_order_of_the_list(stored: StoredJob) -> None:
    paths = [f"{number * 37 % 50:02}.txt" for number in range(50)]
    stored.store(*paths)
    assert inputs(stored.results()) == [f"notes/{path}" for path in paths]


def test_an_entry_that_is_listed_twice_is_read_once(stored: StoredJob) -> None:
    stored.store("a.txt")
    stored.put(stored.success, {"Files": ["notes/a.txt", "notes/a.txt", {"Input": "notes/a.txt"}]})
    assert inputs(stored.results()) == ["notes/a.txt"]


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
    stored: StoredJob, one: Any, other: Any
) -> None:
    stored.store("a.txt", "b.txt", "c.txt")
    content = json.dumps({"Files": [one, other, "notes/c.txt"]})
    stored.put(stored.success, content.replace("{folder}", stored.folder).encode())
    yielded, error = until_incomplete(stored.results())
    assert [document.input_key for document in yielded] == ["notes/c.txt"]
    assert error.reason == "2 of 3 documents could not be delivered"
    assert error.failed.keys() <= {"notes/a.txt", "notes/b.txt"}
    for reason in error.failed.values():
        assert reason.startswith("UnreadableObjectError: s3://")
        assert "several entries" in reason


def test_unknown_members_of_a_list_are_ignored(stored: StoredJob) -> None:
    stored.store("a.txt")
    stored.put(stored.success, {"Files": [{"Input": "notes/a.txt", "New": {}}], "NextPage": None})
    assert inputs(stored.results()) == ["notes/a.txt"]


@pytest.mark.parametrize("name", ["{full}", "{path}", "s3://{bucket}/{full}", "/{full}"])
@pytest.mark.parametrize(
    "out", ["{folder}{path}.out", "{path}.out", "s3://{bucket}/{folder}{path}.out", None]
)
def test_a_list_may_name_a_processed_file_in_many_ways(
    stored: StoredJob, name: str, out: str | None
) -> None:
    names = {
        "full": "notes/deep/a b.txt",
        "path": "deep/a b.txt",
        "bucket": stored.bucket,
        "folder": stored.folder,
    }
    stored.store("deep/a b.txt")
    entry = {"Input": name.format(**names), "Output": out and out.format(**names)}
    stored.put(stored.success, {"Files": [entry]})
    assert [(d.input_key, d.output_key) for d in stored.results()] == [
        ("notes/deep/a b.txt", f"{stored.folder}deep/a b.txt.out")
    ]


# The name "notes/a.txt" may be a key, or a path below notes/.
@pytest.mark.parametrize("path", ["a.txt", "notes/a.txt"])
def test_the_document_that_exists_decides_between_two_readings_of_a_name(
    stored: StoredJob, path: str
) -> None:
    stored.store(path)
    stored.put(stored.success, {"Files": ["notes/a.txt"]})
    assert [(d.input_key, d.output_key) for d in stored.results()] == [
        (f"notes/{path}", f"{stored.folder}{path}.out")
    ]


@pytest.mark.parametrize("name", ["notes/b.txt", "b.txt", "s3://{bucket}/notes/b.txt"])
def test_a_list_may_name_an_unprocessed_file_in_many_ways(stored: StoredJob, name: str) -> None:
    stored.manifest(UnprocessedFilesListLocation=stored.failed)
    stored.put(stored.failed, {"Files": [{"Input": name.format(bucket=stored.bucket)}]})
    assert [file.input_key for file in stored.results().unprocessed] == ["notes/b.txt"]


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
    stored: StoredJob, name: str, out: str, key: str
) -> None:
    stored.put(f"{stored.folder}{out}", output())
    stored.put(stored.success, {"Files": [{"Input": name, "Output": f"{stored.folder}{out}"}]})
    stored.manifest(SuccessfulFilesListLocation=stored.success)
    assert inputs(stored.results()) == [key]


@pytest.mark.parametrize("key", ["", None])
@pytest.mark.parametrize("listed", [True, False])
def test_without_an_input_key_paths_are_keys(
    stored: StoredJob, key: str | None, listed: bool
) -> None:
    stored.document("ward/a.txt")
    stored.manifest()
    if listed:
        stored.put(stored.success, {"Files": [{"Input": "ward/a.txt", "Output": "ward/a.txt.out"}]})
    source = {"S3Bucket": stored.bucket, **({} if key is None else {"S3Key": key})}
    assert inputs(stored.results(InputDataConfig=source)) == ["ward/a.txt"]


def test_an_input_key_may_end_in_a_slash(stored: StoredJob) -> None:
    stored.document("a.txt")
    stored.manifest()
    source = {"S3Bucket": stored.bucket, "S3Key": "notes/"}
    assert inputs(stored.results(InputDataConfig=source)) == ["notes/a.txt"]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param([{"Input": "notes/note.txt", "Output": "{folder}note.txt.out"}], id="objects"),
        pytest.param([{"Input": "note.txt", "Output": "note.txt.out"}], id="relative objects"),
        pytest.param(["notes/note.txt"], id="strings"),
        pytest.param(None, id="no list"),
    ],
)
def test_the_input_key_may_be_a_single_object(stored: StoredJob, files: Any) -> None:
    # It is unknown where AWS writes such a job's document. This is our local service's key.
    stored.document("note.txt")
    stored.manifest(InputFileCount=1)
    if files is not None:
        stored.put(
            stored.success, json.dumps({"Files": files}).replace("{folder}", stored.folder).encode()
        )
    source = {"S3Bucket": stored.bucket, "S3Key": "notes/note.txt"}
    assert [(d.input_key, d.output_key) for d in stored.results(InputDataConfig=source)] == [
        ("notes/note.txt", f"{stored.folder}note.txt.out")
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
    # Each example has its own job in the bucket of the test.
    stored = StoredJob(server, client, bucket)
    stored.store(*paths)
    entries = [
        {"Input": spelling.format(path), "Output": f"{stored.folder}{path}.out"} for path in paths
    ]
    stored.put(stored.success, {"Files": entries})
    assert inputs(stored.results()) == [f"notes/{path}" for path in paths]


# Slashes, dots and beginnings of the input keys, where readings of a name could collide.
slashed = st.text(st.sampled_from("//.an"), min_size=1, max_size=5)
output_keys = st.sampled_from(["", "out", "out/", "/", "/out", "/out/", "n"])


class MemoryStorage:
    """A `Storage` with one bucket in memory for notes and results."""

    calls: Any = None
    connections = 2

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    def check_open(self) -> None:
        """Stay open."""

    def read(self, bucket: str, key: str) -> StoredObject:
        if key not in self._objects:
            raise MissingObjectError("the key does not exist", bucket=bucket, key=key)
        return StoredObject(self._objects[key], None)

    def feed(self, bucket: str, key: str, start: Callable[[], Any]) -> Any:
        sink = start()
        sink.add(self.read(bucket, key).body)
        return sink

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
        # Each note contains its number, and so does the model version of its document.
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
    yielded: list[tuple[Document, str]] = []
    error = None
    try:
        yielded.extend(JobResults(Listing(job, MemoryStorage(objects))).with_text())
    except ResultsError as caught:
        error = caught
    for document, text in yielded:
        assert document.model_version == document.input_key == text
    assert len(yielded) == len(paths) or error is not None
    if spelling == document_spelling == "{key}" and not lost:
        assert len(yielded) == len(paths)


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
    keys = [folder_key(input_key) + path for path in sorted(paths)]
    for number, key in enumerate(keys):
        # Every second note has a name, so a note that is redacted with another's entities differs.
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


def test_without_lists_every_document_in_the_folder_is_read(stored: StoredJob) -> None:
    for path in ("a.txt", "deep/b.txt"):
        stored.document(path)
    stored.manifest(SuccessFilesCount=2, InputFileCount=2)
    assert [(d.input_key, d.output_key) for d in stored.results()] == [
        ("notes/a.txt", f"{stored.folder}a.txt.out"),
        ("notes/deep/b.txt", f"{stored.folder}deep/b.txt.out"),
    ]


def test_without_lists_other_files_are_skipped(stored: StoredJob) -> None:
    stored.document("a.txt")
    for path in (WRITE_TEST_FILE, f"Manifest_{stored.name}/", f"Manifest_{stored.name}/other.out"):
        stored.put(f"{stored.folder}{path}", b"not JSON")
    stored.put(f"results/{WRITE_TEST_FILE}", b"not JSON")
    stored.manifest()
    assert inputs(stored.results()) == ["notes/a.txt"]


@pytest.mark.parametrize("path", ["Manifest_of_ward_7.txt", "Manifest_x/success/a.txt"])
def test_a_note_named_like_a_manifest_is_read(stored: StoredJob, path: str) -> None:
    stored.document(path)
    stored.manifest(SuccessFilesCount=1)
    assert inputs(stored.results()) == [f"notes/{path}"]


def test_without_lists_nothing_is_unprocessed(stored: StoredJob) -> None:
    stored.document("a.txt")
    stored.manifest()
    assert stored.results().unprocessed == ()


def test_all_pages_of_a_folder_are_listed(
    stored: StoredJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # of a page; S3 has 1,000
    for number in range(25):
        stored.document(f"{number:02}.txt", output())
    stored.manifest()
    assert inputs(stored.results()) == [f"notes/{number:02}.txt" for number in range(25)]


def test_the_job_folder_is_found_on_a_later_page(
    stored: StoredJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    for number in range(25):
        stored.put(f"results/000000000000-PHIDetection-{number:032}/Manifest", {})
    stored.store("a.txt")
    results = stored.results(OutputDataConfig={"S3Bucket": stored.bucket, "S3Key": "results"})
    assert inputs(results) == ["notes/a.txt"]


# --- Completeness ---------------------------------------------------------------------------------


def test_a_missing_document_is_reported_after_all_others(stored: StoredJob) -> None:
    paths = [f"{number}.txt" for number in range(60)]
    stored.store(*paths)
    lost = f"{stored.folder}lost.txt.out"
    entries: list[Any] = [f"notes/{path}" for path in paths]
    entries.insert(3, {"Input": "notes/lost.txt", "Output": lost})
    stored.put(stored.success, {"Files": entries})
    yielded, error = until_incomplete(stored.results())
    assert [document.input_key for document in yielded] == [f"notes/{path}" for path in paths]
    assert error.missing == (lost,)
    assert error.failed == {
        "notes/lost.txt": f"MissingObjectError: s3://{stored.bucket}/{lost}: the key does not exist"
    }
    assert (error.bucket, error.job_id) == (stored.bucket, stored.job_id)
    assert lost in str(error)
    assert "1 of 61 documents" in str(error)


def test_redacting_reports_a_missing_document_after_all_others(stored: StoredJob) -> None:
    stored.store_notes("a.txt", "b.txt")
    stored.put(stored.success, {"Files": ["lost.txt", "a.txt", "b.txt"]})
    yielded, error = until_incomplete(stored.results().redacted())
    assert [key for key, _ in yielded] == ["notes/a.txt", "notes/b.txt"]
    assert error.missing == (f"{stored.folder}lost.txt.out",)


def test_the_message_names_at_most_twenty_missing_documents(stored: StoredJob) -> None:
    stored.store()
    stored.put(stored.success, {"Files": [f"notes/{number:02}.txt" for number in range(50)]})
    _, error = until_incomplete(stored.results())
    keys = [f"{stored.folder}{number:02}.txt.out" for number in range(50)]
    assert error.missing == tuple(keys)
    assert [key in str(error) for key in keys] == [True] * 20 + [False] * 30
    assert str(error).endswith("and 30 more")


def test_the_error_has_the_reasons_of_all_notes_however_many_fail(stored: StoredJob) -> None:
    stored.store()
    keys = [f"notes/{number:04}.txt" for number in range(1_001)]
    stored.put(stored.success, {"Files": keys})
    _, error = until_incomplete(stored.results())
    assert list(error.failed) == keys


def test_the_message_names_all_of_twenty_missing_documents(stored: StoredJob) -> None:
    stored.store()
    stored.put(stored.success, {"Files": [f"notes/{number:02}.txt" for number in range(20)]})
    _, error = until(ResultsError, stored.results())
    assert all(f"{number:02}.txt.out" in str(error) for number in range(20))
    assert "more" not in str(error)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"SuccessFilesCount": 3}, "counts 3 processed files, but there are 2"),
        ({"SuccessFilesCount": 1}, "counts 1 processed file, but there are 2"),
        ({"SuccessFilesCount": 0}, "counts 0 processed files, but there are 2"),
        ({"UnprocessedFilesCount": 2}, "counts 2 unprocessed files, but there are 1"),
        ({"UnprocessedFilesCount": 0}, "counts 0 unprocessed files, but there are 1"),
        ({"InputFileCount": 4}, "counts 4 input files, but there are 3"),
        ({"InputFileCount": 2}, "counts 2 input files, but there are 3"),
    ],
    ids=str,
)
def test_a_wrong_count_is_reported_after_all_documents(
    stored: StoredJob, members: dict[str, int], reason: str
) -> None:
    stored.store("a.txt", "b.txt", unprocessed=["c.txt"], **members)
    yielded, error = until_incomplete(stored.results(status="PARTIAL_SUCCESS"))
    assert len(yielded) == 2
    assert reason in str(error)
    assert error.bucket == stored.bucket
    assert error.missing == ()


@pytest.mark.parametrize(
    ("listed", "promised", "reason"),
    [
        (["c.txt"], 0, "the manifest counts 0 unprocessed files, but there are 1"),
        (["c.txt"], 2_000, "the manifest counts 2,000 unprocessed files, but there are 1"),
        ([], 1, "the manifest counts 1 unprocessed file, but there are 0"),
    ],
)
def test_unprocessed_raises_if_the_manifest_counts_another_number(
    stored: StoredJob, listed: list[str], promised: int, reason: str
) -> None:
    stored.store("a.txt", unprocessed=listed, UnprocessedFilesCount=promised, InputFileCount=2)
    with pytest.raises(IncompleteResultsError) as caught:
        _ = stored.results(status="PARTIAL_SUCCESS").unprocessed
    assert caught.value.reason == reason


@pytest.mark.parametrize("files", [["c.txt", "c.txt"], ["c.txt", "a.txt"]], ids=str)
def test_a_file_that_is_listed_twice_does_not_make_up_for_one_that_is_not_listed(
    stored: StoredJob, files: list[str]
) -> None:
    stored.store("a.txt", "b.txt", unprocessed=files)
    yielded, error = until_incomplete(stored.results(status="PARTIAL_SUCCESS"))
    assert len(yielded) == 2
    assert error.reason == "the lists name 1 file more than once"


def test_a_stopped_job_may_list_a_file_twice(stored: StoredJob) -> None:
    stored.store("a.txt", unprocessed=["a.txt"])
    assert len(list(stored.results(status="STOPPED"))) == 1


def test_names_that_may_mean_the_same_key_are_different_files(stored: StoredJob) -> None:
    stored.store("a.txt")
    stored.put(stored.failed, {"Files": ["b.txt", "notes/b.txt"]})
    stored.manifest(InputFileCount=3, SuccessFilesCount=1, UnprocessedFilesCount=2)
    assert len(list(stored.results(status="PARTIAL_SUCCESS"))) == 1


def test_all_wrong_counts_are_reported_together(stored: StoredJob) -> None:
    stored.store("a.txt", SuccessFilesCount=5, UnprocessedFilesCount=6, InputFileCount=11)
    _, error = until_incomplete(stored.results())
    assert error.reason == (
        "the manifest counts 5 processed files, but there are 1;"
        " the manifest counts 6 unprocessed files, but there are 0;"
        " the manifest counts 11 input files, but there are 1"
    )


def test_counts_are_compared_with_a_folder_without_lists(stored: StoredJob) -> None:
    stored.document("a.txt")
    stored.manifest(SuccessFilesCount=2)
    yielded, _ = until_incomplete(stored.results())
    assert len(yielded) == 1


def test_unprocessed_files_without_a_list_are_reported(stored: StoredJob) -> None:
    stored.document("a.txt")
    stored.manifest(InputFileCount=3, SuccessFilesCount=1, UnprocessedFilesCount=2)
    yielded, _ = until_incomplete(stored.results(status="PARTIAL_SUCCESS"))
    assert len(yielded) == 1


def test_a_missing_list_of_processed_files_is_an_error(stored: StoredJob) -> None:
    stored.manifest(SuccessfulFilesListLocation=stored.success)
    _, error = until_incomplete(stored.results())
    assert error.reason == "the list of processed files is missing"
    assert error.bucket == stored.bucket
    assert error.missing == (stored.success,)
    assert stored.success in str(error)


def test_a_missing_list_of_unprocessed_files_is_reported_after_all_documents(
    stored: StoredJob,
) -> None:
    stored.store("a.txt", "b.txt", UnprocessedFilesListLocation=f"{stored.folder}lost")
    yielded, error = until_incomplete(stored.results())
    assert len(yielded) == 2
    assert error.missing == (f"{stored.folder}lost",)


def test_a_missing_list_hides_no_missing_document(stored: StoredJob) -> None:
    stored.store("a.txt", UnprocessedFilesListLocation=f"{stored.folder}lost")
    stored.put(stored.success, {"Files": ["notes/a.txt", "notes/b.txt"]})
    _, error = until_incomplete(stored.results())
    assert f"{stored.folder}b.txt.out" in error.missing


def test_unprocessed_raises_if_its_list_is_missing(stored: StoredJob) -> None:
    stored.manifest(UnprocessedFilesListLocation=stored.failed)
    with pytest.raises(IncompleteResultsError) as caught:
        _ = stored.results().unprocessed
    assert caught.value.missing == (stored.failed,)


@pytest.mark.parametrize("status", ["COMPLETED", "PARTIAL_SUCCESS"])
@pytest.mark.parametrize("path", [None, "{folder}Manifest"])
def test_a_completed_job_without_a_manifest_is_an_error(
    stored: StoredJob, status: str, path: str | None
) -> None:
    path = path and path.format(folder=stored.folder)
    _, error = until_incomplete(stored.results(status=status, ManifestFilePath=path))
    assert isinstance(error, MissingManifestError)
    assert error.missing == (f"{stored.folder}Manifest",)
    assert "manifest is missing" in str(error)
    assert stored.job_id in str(error)
    assert error.job_id == stored.job_id


def test_the_error_names_both_possible_keys_of_a_missing_manifest(stored: StoredJob) -> None:
    _, error = until_incomplete(stored.results(ManifestFilePath="other"))
    assert error.missing == (f"{stored.folder}Manifest", f"{stored.folder}other")


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_stopped_or_failed_job_without_a_manifest_is_an_error(
    stored: StoredJob, status: str
) -> None:
    _, error = until(ResultsError, stored.results(status=status))
    assert type(error) is MissingManifestError
    assert error.job_id == stored.job_id
    assert f"{stored.job_id} is {status} and left no manifest" in str(error)


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_job_without_a_folder_has_no_manifest(stored: StoredJob, status: str) -> None:
    target = {"S3Bucket": stored.bucket, "S3Key": "results"}
    _, error = until(ResultsError, stored.results(status=status, OutputDataConfig=target))
    assert type(error) is MissingManifestError
    assert status in str(error)
    assert error.job_id == stored.job_id


@pytest.mark.parametrize("status", ["SUBMITTED", "IN_PROGRESS", "STOP_REQUESTED", "PAUSED"])
def test_a_job_that_has_not_ended_has_no_results(stored: StoredJob, status: str) -> None:
    with pytest.raises(
        JobNotEndedError, match=rf"is {status}.*no results yet; wait until it has ended"
    ) as caught:
        stored.results(status=status)
    assert caught.value.job_id == stored.job_id


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_results_of_a_stopped_or_failed_job_are_read(stored: StoredJob, status: str) -> None:
    # The job did not process the other 98.
    stored.store("a.txt", unprocessed=["b.txt"], Status=status, InputFileCount=100)
    results = stored.results(status=status)
    assert inputs(results) == ["notes/a.txt"]
    assert [file.input_key for file in results.unprocessed] == ["notes/b.txt"]
    assert results.manifest.status == status


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_listed_documents_that_a_stopped_or_failed_job_lacks_are_reported(
    stored: StoredJob, status: str
) -> None:
    stored.store("a.txt")
    stored.put(stored.success, {"Files": ["notes/a.txt", "notes/b.txt"]})
    yielded, _ = until_incomplete(stored.results(status=status))
    assert len(yielded) == 1


# --- Documents ------------------------------------------------------------------------------------


def read_back(stored: StoredJob, content: Any) -> Document:
    """Return the document of a job whose only `.out` file has this content."""
    stored.store("a.txt")
    stored.document("a.txt", content)
    (document,) = stored.results()
    return document


@pytest.mark.parametrize("token", [None, ""])
def test_an_empty_pagination_token_means_nothing(stored: StoredJob, token: str | None) -> None:
    assert read_back(stored, output(PaginationToken=token)).entities == ()


def test_a_document_that_lacks_entities_is_left_out_and_its_token_is_not_shown(
    stored: StoredJob,
) -> None:
    stored.store("a.txt")
    stored.document("a.txt", output(PaginationToken=CANARY))
    with pytest.raises(IncompleteResultsError) as caught:
        list(stored.results().redacted())
    assert "has a PaginationToken, so entities are missing" in caught.value.failed["notes/a.txt"]
    assert CANARY not in repr(caught.value)


def test_every_member_of_an_entity_is_read(stored: StoredJob) -> None:
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
    document = read_back(stored, output(entity, ModelVersion="0.1.0", UnmappedAttributes=[]))
    assert document == Document(
        input_key="notes/a.txt",
        output_key=f"{stored.folder}a.txt.out",
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


def test_a_document_without_entities_is_yielded(stored: StoredJob) -> None:
    document = read_back(stored, {"Entities": []})
    assert document.entities == ()
    assert document.model_version is None


def test_an_entity_may_lack_traits(stored: StoredJob) -> None:
    entity = found()
    del entity["Traits"]
    document = read_back(stored, output(entity))
    assert document.entities[0].traits == ()


def test_a_score_may_be_an_integer(stored: StoredJob) -> None:
    document = read_back(stored, output(found(Score=1)))
    assert document.entities[0].score == 1.0


def test_unknown_members_of_a_document_are_ignored(stored: StoredJob) -> None:
    document = read_back(stored, output(found(New={"er": [None]}), Newer="still"))
    assert document.entities[0].text == CANARY


def test_an_unknown_type_is_kept_as_its_string(stored: StoredJob) -> None:
    document = read_back(stored, output(found(type_="GENOME", Category="ELSE")))
    assert (document.entities[0].type, document.entities[0].category) == ("GENOME", "ELSE")


@pytest.mark.parametrize("value", ["entity", "document"])
def test_documents_and_manifests_are_immutable(stored: StoredJob, value: str) -> None:
    stored.store("a.txt")
    (document,) = stored.results()
    target: Any = document if value == "document" else document.entities[0]
    with pytest.raises(AttributeError):
        target.model_version = target.type = "other"


def test_iterating_again_reads_again(stored: StoredJob, gets: list[str]) -> None:
    stored.store("a.txt")
    results = stored.results()
    first = list(results)
    assert list(results) == first
    assert gets.count(f"{stored.folder}a.txt.out") == 2
    assert gets.count(f"{stored.folder}Manifest") == 1


def test_entity_counts_counts_types_over_all_documents(stored: StoredJob) -> None:
    stored.store("a.txt", "b.txt", "c.txt")
    stored.document("b.txt", output(found(), found(type_="DATE"), found(type_="GENOME")))
    stored.document("c.txt", output())
    assert entity_counts(stored.results()) == Counter({"NAME": 2, "DATE": 1, "GENOME": 1})


# --- What is shown --------------------------------------------------------------------------------

SECRET_ENTITY = entity(NOTE, 9, 27, id_=1)
SECRETIVE = [
    SECRET_ENTITY,
    Document(
        input_key=f"notes/{CANARY}.txt",
        output_key=f"out/{CANARY}.txt.out",
        entities=(SECRET_ENTITY,),
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


def test_the_repr_of_results_shows_the_job_id(stored: StoredJob) -> None:
    assert repr(stored.results()) == f"JobResults({stored.job_id!r})"


# --- Damage ---------------------------------------------------------------------------------------

NOT_UTF8, NOT_JSON = "is not UTF-8", "is not JSON"
NOT_ITS_FORM = "does not have the documented structure"

# A complete file of each kind, with the canary in known and unknown members.
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

# Since Python 3.14, only the stack limits the depth: 8 MB suffice for about 250,000 lists.
DEPTH = 1_000_000

# Damage that any file can suffer.
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
    stored: StoredJob, kind: str, body: bytes, reason: str
) -> None:
    stored.store("a.txt", "b.txt", "c.txt")
    key = {
        "manifest": f"{stored.folder}Manifest",
        "success": stored.success,
        "failed": stored.failed,
        "document": f"{stored.folder}b.txt.out",
    }[kind]
    stored.put(key, body)
    yielded, error = until(ResultsError, stored.results())
    words = f"s3://{stored.bucket}/{key}: the file {reason}"
    if kind == "document":
        assert [document.input_key for document in yielded] == ["notes/a.txt", "notes/c.txt"]
        assert isinstance(error, IncompleteResultsError)
        assert error.failed.keys() == {"notes/b.txt"}
        assert error.failed["notes/b.txt"].startswith(f"UnreadableObjectError: {words}")
        assert error.missing == ()
    else:
        assert type(error) is UnreadableObjectError
        assert (error.bucket, error.key) == (stored.bucket, key)
        assert str(error).startswith(words)
    assert_keeps_quiet(error)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (json.dumps({"Entities": [found(), found(EndOffset="27")]}), "$.Entities[1].EndOffset"),
        (json.dumps({"Entities": [found(Traits=[{"Name": "x"}])]}), "$.Entities[0].Traits[0]"),
    ],
)
def test_the_error_names_the_path_of_a_wrong_type(stored: StoredJob, body: str, where: str) -> None:
    stored.store("a.txt")
    stored.document("a.txt", body.encode())
    _, error = until(ResultsError, stored.results())
    assert where in str(error)


def test_the_error_names_the_position_of_an_invalid_byte(stored: StoredJob) -> None:
    stored.store("a.txt")
    stored.document("a.txt", b'{"Entities": [], "New": "\xff"}')
    _, error = until(ResultsError, stored.results())
    assert "byte 25" in str(error)


def test_a_broken_manifest_is_reported_by_every_method(stored: StoredJob) -> None:
    stored.put(f"{stored.folder}Manifest", NOTE.encode())
    results = stored.results()
    for ask in (lambda: results.manifest, lambda: results.unprocessed, lambda: list(results)):
        with pytest.raises(ResultsError) as caught:
            ask()
        assert_keeps_quiet(caught.value)


def test_a_broken_manifest_is_not_replaced_by_another(stored: StoredJob) -> None:
    stored.put(f"{stored.folder}Manifest", b"{}")
    stored.put(f"{stored.folder}other", {"Summary": {"Status": "COMPLETED"}})
    with pytest.raises(ResultsError):
        _ = stored.results(ManifestFilePath="other").manifest


# --- Texts and redacted copies --------------------------------------------------------------------


def test_with_text_yields_every_document_and_its_text(stored: StoredJob) -> None:
    paths = ("a.txt", "deep/b.txt", "empty.txt")
    stored.store(*paths)
    stored.document("empty.txt", output())
    texts = {"notes/a.txt": NOTE, "notes/deep/b.txt": f"{NOTE}\r\n", "notes/empty.txt": ""}
    for key, text in texts.items():
        stored.put(key, text.encode())
    results = stored.results()
    assert list(results.with_text()) == [
        (document, texts[f"notes/{path}"]) for document, path in zip(results, paths, strict=True)
    ]


def test_redacted_yields_key_and_text_of_every_document(stored: StoredJob) -> None:
    stored.store_notes("a.txt", "deep/b.txt")
    assert list(stored.results().redacted()) == [
        ("notes/a.txt", "Patient: [NAME], seen."),
        ("notes/deep/b.txt", "Patient: [NAME], seen."),
    ]


def test_redacting_reads_from_the_input_bucket(stored: StoredJob, s3: Any) -> None:
    source = f"sources-{uuid4().hex}"
    s3.create_bucket(Bucket=source)
    s3.put_object(Bucket=source, Key="notes/a.txt", Body=NOTE.encode())
    stored.store("a.txt")
    results = stored.results(InputDataConfig={"S3Bucket": source, "S3Key": "notes"})
    assert dict(results.redacted()) == {"notes/a.txt": "Patient: [NAME], seen."}


@pytest.mark.parametrize("around", ["\r\n", "\n", "\r", "\x0b\x1c\u2028", "\0", "\ufeff"])
def test_redacting_changes_neither_line_endings_nor_other_characters(
    stored: StoredJob, around: str
) -> None:
    text = f"{around}{around}{CANARY}{around}"
    stored.put("notes/a.txt", text.encode())
    stored.store("a.txt")
    stored.document("a.txt", output(found(begin=2 * len(around))))
    assert dict(stored.results().redacted()) == {"notes/a.txt": f"{around}{around}[NAME]{around}"}


def test_a_note_without_entities_is_unchanged(stored: StoredJob) -> None:
    stored.put("notes/a.txt", b"Nobody is here.\r\n")
    stored.store("a.txt")
    stored.document("a.txt", output())
    assert dict(stored.results().redacted()) == {"notes/a.txt": "Nobody is here.\r\n"}


# --- Notes that cannot be delivered ---------------------------------------------------------------

each_reading_of_text = pytest.mark.parametrize("read", [JobResults.redacted, JobResults.with_text])


def others(stored: StoredJob) -> list[str]:
    """Write a job of three notes. Return the keys of all but the second, which the test changes."""
    stored.store_notes("a.txt", "b.txt", "c.txt")
    return ["notes/a.txt", "notes/c.txt"]


def keys_of(yielded: list[Any]) -> list[str]:
    """Return the input keys of the items that `redacted` or `with_text` yielded."""
    return [first if isinstance(first, str) else first.input_key for first, _ in yielded]


def all_but_one(items: Iterator[Any], keys: list[str]) -> IncompleteResultsError:
    """Check that only notes/b.txt is left out, and return the error that says why."""
    yielded, error = until_incomplete(items)
    assert keys_of(yielded) == keys
    assert error.failed.keys() == {"notes/b.txt"}
    assert_keeps_quiet(error)
    return error


@each_reading_of_text
def test_a_deleted_note_is_left_out_and_reported(stored: StoredJob, s3: Any, read: Read) -> None:
    keys = others(stored)
    s3.delete_object(Bucket=stored.bucket, Key="notes/b.txt")
    error = all_but_one(read(stored.results()), keys)
    where = f"s3://{stored.bucket}/notes/b.txt"
    assert error.failed == {
        "notes/b.txt": f"SourceChangedError: {where}: the note no longer exists"
    }
    assert error.missing == ()
    assert error.reason == "1 of 3 documents could not be delivered"


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
    stored: StoredJob, read: Read, source: bytes
) -> None:
    keys = others(stored)
    stored.put("notes/b.txt", source)
    error = all_but_one(read(stored.results()), keys)
    assert error.failed["notes/b.txt"].startswith(
        f"SourceChangedError: s3://{stored.bucket}/notes/b.txt: the note is not UTF-8"
    )


@pytest.mark.parametrize(
    "source",
    [f" {NOTE}", NOTE[1:], NOTE.replace("n", "m"), "", f"\ufeff{NOTE}", NOTE[:20]],
    ids=["moved on", "moved back", "another", "empty", "byte order mark", "shorter"],
)
@each_reading_of_text
def test_a_note_that_does_not_match_its_entities_is_left_out_and_reported_without_its_content(
    stored: StoredJob, read: Read, source: str
) -> None:
    keys = others(stored)
    stored.put("notes/b.txt", source.encode())
    error = all_but_one(read(stored.results()), keys)
    assert error.failed["notes/b.txt"].startswith(
        f"RedactionError: s3://{stored.bucket}/notes/b.txt: Entity 0 at offsets"
        f" 9 to {9 + len(CANARY)} "
    )
    assert error.failed["notes/b.txt"].endswith(
        " The note was left out because it is not the text that the job read. Start another job for"
        " the current note."
    )
    assert "Patient" not in str(error)


def without_entities(stored: StoredJob, input_size: int | None = None) -> list[str]:
    """Write a job of three notes without entities, so that no offset can show a change."""
    keys = others(stored)
    stored.store("a.txt", "b.txt", "c.txt", input_size=input_size)
    for path in ("a.txt", "b.txt", "c.txt"):
        stored.document(path, output())
    return keys


@each_reading_of_text
def test_a_note_with_another_size_than_the_job_read_is_left_out_and_reported(
    stored: StoredJob, read: Read
) -> None:
    keys = without_entities(stored, input_size=len(NOTE))
    stored.put("notes/b.txt", f"{NOTE}!".encode())
    error = all_but_one(read(stored.results()), keys)
    where = f"s3://{stored.bucket}/notes/b.txt"
    assert error.failed == {
        "notes/b.txt": f"SourceChangedError: {where}: the note has {len(NOTE) + 1} bytes, but the"
        f" job read {len(NOTE)}. The note was left out because it is not the text that the job"
        " read. Start another job for the current note."
    }


@pytest.mark.parametrize(
    "note", [f"{NOTE} \U0001f600", "Caf\xe9", "line\r\nline"], ids=["astral", "accent", "CRLF"]
)
@each_reading_of_text
def test_sizes_are_compared_in_bytes(stored: StoredJob, read: Read, note: str) -> None:
    stored.put("notes/a.txt", note.encode())
    stored.store("a.txt", input_size=len(note.encode()))
    stored.document("a.txt", output())
    assert keys_of(list(read(stored.results()))) == ["notes/a.txt"]


def written(s3: Any, stored: StoredJob, key: str) -> float:
    """Return when S3 says that an object was written, in seconds since 1970."""
    at: datetime = s3.head_object(Bucket=stored.bucket, Key=key)["LastModified"]
    return at.timestamp()


@each_reading_of_text
def test_a_note_written_after_the_submission_is_left_out_and_reported(
    stored: StoredJob, s3: Any, read: Read
) -> None:
    without_entities(stored)
    submitted = written(s3, stored, "notes/a.txt") - 0.001  # S3's times are whole seconds
    yielded, error = until_incomplete(read(stored.results(SubmitTime=submitted)))
    assert yielded == []
    assert error.failed.keys() == {"notes/a.txt", "notes/b.txt", "notes/c.txt"}
    where = f"s3://{stored.bucket}/notes/a.txt"
    assert error.failed["notes/a.txt"].startswith(
        f"SourceChangedError: {where}: the note was written at 20"
    )
    assert ", after the job was submitted at 20" in error.failed["notes/a.txt"]
    assert_keeps_quiet(error)


@pytest.mark.parametrize("later", [0.0, 0.001, 0.999, 86_400.0])
@each_reading_of_text
def test_a_note_written_in_the_second_of_the_submission_or_before_is_read(
    stored: StoredJob, s3: Any, read: Read, later: float
) -> None:
    stored.store_notes("a.txt")
    submitted = written(s3, stored, "notes/a.txt") + later
    yielded = list(read(stored.results(SubmitTime=submitted)))
    assert keys_of(yielded) == ["notes/a.txt"]


@each_reading_of_text
def test_a_note_replaced_by_one_of_the_same_size_is_left_out_and_reported(
    client: PHIClient,
    clock: FakeClock,
    s3: Any,
    bucket: str,
    make_request: Callable[..., StartPHIDetectionJobRequest],
    read: Read,
) -> None:
    # Nothing is found in it, so neither an offset nor the size can show the change.
    before, after = b"To be dictated later.\n", b"Patient: Noor Sample.\n"
    assert len(before) == len(after)
    s3.put_object(Bucket=bucket, Key="notes/blank.txt", Body=before)
    job = client.submit(make_request())
    job.wait()
    assert len(list(read(job.results()))) == 2
    s3.put_object(Bucket=bucket, Key="notes/blank.txt", Body=after)
    yielded, error = until_incomplete(read(job.results()))
    assert keys_of(yielded) == ["notes/note.txt"]
    assert error.failed.keys() == {"notes/blank.txt"}
    assert "after the job was submitted" in error.failed["notes/blank.txt"]
    assert_keeps_quiet(error, "Noor Sample")


def test_documents_are_read_without_their_notes(stored: StoredJob) -> None:
    without_entities(stored, input_size=1)
    assert len(inputs(stored.results(SubmitTime=0))) == 3


def test_a_file_with_two_sizes_in_the_list_is_left_out(stored: StoredJob) -> None:
    stored.store_notes("a.txt")
    files = [
        {"Input": "notes/a.txt", "Output": f"{stored.folder}a.txt.out", "InputSize": size}
        for size in (len(NOTE), 7)
    ]
    stored.put(stored.success, {"Files": files})
    yielded, error = until_incomplete(stored.results().redacted())
    assert yielded == []
    assert error.failed["notes/a.txt"].startswith("UnreadableObjectError: ")


@each_reading_of_text
def test_a_broken_document_is_left_out_and_reported(stored: StoredJob, read: Read) -> None:
    keys = others(stored)
    stored.document("b.txt", NOTE.encode())
    error = all_but_one(read(stored.results()), keys)
    assert error.failed == {
        "notes/b.txt": f"UnreadableObjectError: s3://{stored.bucket}/{stored.folder}b.txt.out:"
        " the file is not JSON"
    }


def test_all_kinds_of_failures_are_in_one_error(stored: StoredJob, s3: Any) -> None:
    paths = [f"{number}.txt" for number in range(20)]
    stored.store_notes(*paths)
    stored.document("3.txt", b"broken")
    s3.delete_object(Bucket=stored.bucket, Key=f"{stored.folder}5.txt.out")
    s3.delete_object(Bucket=stored.bucket, Key="notes/7.txt")
    stored.put("notes/11.txt", b"\xff")
    stored.put("notes/13.txt", b"another")
    yielded, error = until_incomplete(stored.results().redacted())
    bad = {"3": "Unreadable", "5": "Missing", "7": "Source", "11": "Source", "13": "Redaction"}
    assert keys_of(yielded) == [
        f"notes/{number}.txt" for number in range(20) if str(number) not in bad
    ]
    assert {text for _, text in yielded} == {"Patient: [NAME], seen."}
    assert {key: reason.split("Object")[0] for key, reason in error.failed.items()}.keys() == {
        f"notes/{number}.txt" for number in bad
    }
    for number, kind in bad.items():
        assert error.failed[f"notes/{number}.txt"].startswith(kind)
    assert error.missing == (f"{stored.folder}5.txt.out",)
    assert error.reason == "5 of 20 documents could not be delivered"


def test_failed_notes_are_reported_before_wrong_counts(stored: StoredJob) -> None:
    stored.store("a.txt", "b.txt", SuccessFilesCount=9)
    stored.document("b.txt", b"")
    _, error = until_incomplete(stored.results())
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
    stored: StoredJob, refuse: Refuse, read: Read, what: str, status: int, code: str, kind: str
) -> None:
    keys = others(stored)
    key = what.format(folder=stored.folder)
    refuse(key, status=status, code=code)
    error = all_but_one(read(stored.results()), keys)
    assert error.failed["notes/b.txt"].startswith(kind)
    assert f"s3://{stored.bucket}/{key}" in error.failed["notes/b.txt"]


each_error_about_all_notes = pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "ExpiredToken", ExpiredTokenException),
        (403, "InvalidAccessKeyId", ServiceError),
        (404, "NoSuchBucket", ResultsError),
    ],
)


@each_error_about_all_notes
@each_reading_of_text
def test_an_error_about_all_notes_stops_reading(
    stored: StoredJob, refuse: Refuse, read: Read, status: int, code: str, error: type[Exception]
) -> None:
    others(stored)
    refuse("notes/b.txt", status=status, code=code)
    yielded, ended = until(error, read(stored.results()))
    assert keys_of(yielded) == ["notes/a.txt"]
    assert not isinstance(ended, IncompleteResultsError)


@each_error_about_all_notes
@each_reading_of_text
def test_an_error_that_ends_reading_counts_what_is_undelivered_and_names_what_failed_before(
    stored: StoredJob, refuse: Refuse, read: Read, status: int, code: str, error: type[Any]
) -> None:
    stored.store_notes(*"abcde")
    stored.put("notes/b", b"another")
    refuse("notes/d", status=status, code=code)

    yielded, ended = until(error, read(stored.results()))

    assert keys_of(yielded) == ["notes/a", "notes/c"]
    assert ended.undelivered == 3
    assert ended.failed.keys() == {"notes/b"}
    assert ended.failed["notes/b"].startswith("RedactionError: ")
    assert str(ended).endswith(
        " Reading ended early: 3 documents were not delivered. 1 of them failed before: notes/b"
        f" ({ended.failed['notes/b']})"
    )
    assert_keeps_quiet(ended)
    assert "Patient" not in str(ended)


def test_an_error_that_ends_reading_at_the_last_note_counts_one_document(
    stored: StoredJob, refuse: Refuse
) -> None:
    stored.store("a", "b")
    refuse(f"{stored.folder}b.out", status=404, code="NoSuchBucket")

    with pytest.raises(ResultsError) as caught:
        list(stored.results())

    assert (caught.value.undelivered, caught.value.failed) == (1, {})
    assert str(caught.value) == (
        f"s3://{stored.bucket}: the bucket does not exist. Reading ended early: 1 document was not"
        " delivered."
    )


def test_an_error_before_reading_has_no_count(stored: StoredJob, refuse: Refuse) -> None:
    refuse(f"{stored.folder}Manifest", status=400, code="ExpiredToken")
    stored.store("a")

    with pytest.raises(ExpiredTokenException) as caught:
        list(stored.results())

    assert (caught.value.undelivered, caught.value.failed) == (None, {})
    assert "Reading" not in str(caught.value)


@pytest.mark.parametrize(
    ("failing", "comes"),
    [
        pytest.param(range(99), True, id="the first 99"),
        pytest.param(range(10, 109), True, id="99 in a row"),
        pytest.param(range(10, 110), False, id="100 in a row"),
        pytest.param([n for n in range(10, 130) if n != 60], True, id="119, one between them"),
    ],
)
def test_an_outage_stops_reading(
    stored: StoredJob, refuse: Refuse, failing: Sequence[int], comes: bool
) -> None:
    stored.store(*(f"{number:03}.txt" for number in range(140)))
    refuse(
        *(f"{stored.folder}{number:03}.txt.out" for number in failing), status=503, code="SlowDown"
    )
    yielded: list[Document] = []
    with pytest.raises((IncompleteResultsError, ThrottlingException)) as caught:
        yielded.extend(stored.results())
    if comes:
        assert isinstance(caught.value, IncompleteResultsError)
        assert len(caught.value.failed) == len(failing)
        assert len(yielded) == 140 - len(failing)
    else:
        assert isinstance(caught.value, ThrottlingException)
        assert caught.value.key == f"{stored.folder}109.txt.out"
        assert caught.value.failed.keys() == {f"notes/{number:03}.txt" for number in failing[:99]}
        assert str(caught.value).endswith(" and 79 more")
        assert len(yielded) == 10
    assert caught.value.undelivered == 140 - len(yielded)


def test_a_missing_document_is_no_part_of_an_outage(stored: StoredJob, refuse: Refuse) -> None:
    stored.store(*(f"{number:03}.txt" for number in range(120)))
    refuse(f"{stored.folder}010.txt.out", status=404, code="NoSuchKey")
    outage = (f"{stored.folder}{number:03}.txt.out" for number in range(11, 110))
    refuse(*outage, status=503, code="SlowDown")
    _, error = until_incomplete(stored.results())
    assert len(error.failed) == 100


@pytest.mark.parametrize("code", ["AccessDenied", "KMS.DisabledException"])
def test_reading_stops_if_s3_refuses_everything(
    stored: StoredJob, refuse: Refuse, code: str
) -> None:
    names = [f"{number:03}.txt" for number in range(140)]
    stored.store(*names)
    refuse(*(f"{stored.folder}{name}.out" for name in names[10:]), status=403, code=code)
    yielded, error = until(UnreadableObjectError, stored.results())
    assert len(yielded) == 10
    assert (error.undelivered, len(error.failed)) == (130, 99)
    assert error.code == code


def test_archived_documents_never_stop_reading(stored: StoredJob, refuse: Refuse) -> None:
    names = [f"{number:03}.txt" for number in range(120)]
    stored.store(*names)
    outputs = [f"{stored.folder}{name}.out" for name in names[:-1]]
    refuse(*outputs, status=403, code="InvalidObjectState")
    yielded, error = until_incomplete(stored.results())
    assert [document.input_key for document in yielded] == ["notes/119.txt"]
    assert len(error.failed) == 119


def test_errors_about_single_notes_never_stop_reading(stored: StoredJob) -> None:
    stored.store(*(f"{number:03}.txt" for number in range(150)))
    for number in range(149):
        stored.document(f"{number:03}.txt", b"")
    yielded, error = until_incomplete(stored.results())
    assert [document.input_key for document in yielded] == ["notes/149.txt"]
    assert len(error.failed) == 149


# --- Redacting ------------------------------------------------------------------------------------


def test_redacting_keeps_entities_below_the_minimum_score(stored: StoredJob) -> None:
    stored.store_notes("a.txt")
    stored.document("a.txt", output(found(Score=0.4), found("Patient", 0, "PROFESSION", Score=0.6)))
    results = stored.results()
    assert dict(results.redacted(min_score=0.5)) == {
        "notes/a.txt": f"[PROFESSION]: {CANARY}, seen."
    }


def test_redacting_uses_the_replacement(stored: StoredJob) -> None:
    stored.store_notes("a.txt")
    results = stored.results()
    assert dict(results.redacted(replacement="<{type}>")) == {
        "notes/a.txt": "Patient: <NAME>, seen."
    }


def test_redacting_calls_a_replacement(stored: StoredJob) -> None:
    stored.store_notes("a.txt")
    results = stored.results()
    assert dict(results.redacted(replacement=same_length("#"))) == {
        "notes/a.txt": "Patient: ##################, seen."
    }


def test_a_note_whose_replacement_raises_is_left_out_and_reported_without_its_content(
    stored: StoredJob,
) -> None:
    keys = others(stored)
    stored.document("b.txt", output(found(Id=4711)))

    def replacement(entity: Entity) -> str:
        if entity.id == 4711:
            raise ValueError(entity.text)
        return "[removed]"

    error = all_but_one(stored.results().redacted(replacement=replacement), keys)
    assert error.failed == {
        "notes/b.txt": f"RedactionError: s3://{stored.bucket}/notes/b.txt: The replacement for"
        " entity 4711 at offsets 9 to 27 raised ValueError. Nothing was redacted. Correct the"
        " function."
    }


def test_an_interrupt_in_a_replacement_stops_reading(stored: StoredJob) -> None:
    others(stored)

    def replacement(_: Entity) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(stored.results().redacted(replacement=replacement))


def test_results_that_were_interrupted_do_not_look_complete(stored: StoredJob) -> None:
    stored.store_notes("a.txt", "b.txt")
    marks = iter(["[removed]"])

    def replacement(_: Entity) -> str:
        try:
            return next(marks)
        except StopIteration:
            raise KeyboardInterrupt from None

    notes = stored.results().redacted(replacement=replacement)
    with pytest.raises(KeyboardInterrupt):
        list(notes)
    with pytest.raises(TransportError, match="interrupted in an earlier step"):
        list(notes)


@pytest.mark.parametrize("bad", [{"replacement": "{0}"}, {"min_score": 2}], ids=str)
def test_a_wrong_argument_is_refused_before_anything_is_read(
    stored: StoredJob, gets: list[str], bad: dict[str, Any]
) -> None:
    stored.store("a.txt")
    results = stored.results()
    with pytest.raises(RequestValidationError):
        results.redacted(**bad)
    assert gets == []


# --- A reviewer's decisions -----------------------------------------------------------------------

SEEN = AddedMark(begin_offset=29, end_offset=33, type="DATE")


def decisions(**members: Any) -> DocumentDecisions:
    """Decisions about the second note of `others`."""
    empty = DocumentDecisions(
        input_key="notes/b.txt",
        sha256=sha256(NOTE.encode()).hexdigest(),
        reviewed=False,
        rejected=(),
        added=(),
    )
    return msgspec.structs.replace(empty, **members)


def test_decisions_change_what_is_redacted_in_their_note_only(stored: StoredJob) -> None:
    others(stored)
    decided = Decisions((decisions(rejected=(0,), added=(SEEN,)),))
    redacted = stored.results().redacted(decisions=decided, min_score=0.9)
    assert [text for _, text in redacted] == [
        "Patient: [NAME], seen.",
        f"Patient: {CANARY}, [DATE].",
        "Patient: [NAME], seen.",
    ]


def test_an_added_mark_is_redacted_whatever_the_minimum_score(stored: StoredJob) -> None:
    others(stored)
    decided = Decisions((decisions(added=(SEEN,)),))
    redacted = dict(stored.results().redacted(decisions=decided, min_score=1.0))
    assert redacted["notes/b.txt"] == f"Patient: {CANARY}, [DATE]."


def test_with_text_yields_documents_as_decided(stored: StoredJob) -> None:
    others(stored)
    decided = Decisions((decisions(rejected=(0,), added=(SEEN,)),))
    documents = [document for document, _ in stored.results().with_text(decisions=decided)]
    types = [[each.type for each in document.entities] for document in documents]
    assert types == [["NAME"], ["DATE"], ["NAME"]]


@each_reading_of_text
@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"rejected": (1,)}])
def test_a_note_whose_decisions_do_not_fit_is_left_out_and_reported(
    stored: StoredJob, read: Callable[..., Iterator[Any]], wrong: dict[str, Any]
) -> None:
    keys = others(stored)
    decided = Decisions((msgspec.structs.replace(decisions(), **wrong),))
    error = all_but_one(read(stored.results(), decisions=decided), keys)
    assert error.failed["notes/b.txt"].startswith(
        f"DecisionsError: s3://{stored.bucket}/notes/b.txt: The "
    )


@each_reading_of_text
def test_only_notes_that_are_marked_as_reviewed_are_delivered_if_that_is_required(
    stored: StoredJob, read: Callable[..., Iterator[Any]]
) -> None:
    keys = others(stored)
    reviewed = Decisions((decisions(reviewed=True),))
    yielded, error = until_incomplete(
        read(stored.results(), decisions=reviewed, require_reviewed=True)
    )
    assert keys_of(yielded) == ["notes/b.txt"]
    assert error.failed.keys() == set(keys)
    assert all("The note is not marked as reviewed." in each for each in error.failed.values())


@each_reading_of_text
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"decisions": ()}, "decisions (Decisions) must be a Decisions, not tuple"),
        ({"require_reviewed": 1}, "require_reviewed (bool) must be a bool, not int"),
        ({"require_reviewed": True}, "require_reviewed (bool) needs decisions"),
    ],
)
def test_wrong_decisions_are_refused_before_anything_is_read(
    stored: StoredJob, gets: list[str], read: Callable[..., Any], bad: Any, reason: str
) -> None:
    stored.store("a.txt")
    results = stored.results()
    with pytest.raises(RequestValidationError) as caught:
        read(results, **bad)
    assert str(caught.value).startswith(f"{read.__name__}.{reason}")
    assert gets == []


# --- Many documents -------------------------------------------------------------------------------

OurThreads = Callable[[], list[threading.Thread]]
MANY = 5_000
MEASURED, MEASURED_BYTES = 500, 40_000  # fewer, but larger, because tracemalloc is slow


class Objects(socketserver.ThreadingTCPServer):
    """An S3 that generates objects on request, because moto stores and copies too much.

    `body` returns the bytes for a key, or None if the key does not exist.
    """

    daemon_threads = True

    body: Callable[[str], bytes | None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ObjectHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.keys: list[str] = []  # all requested keys


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
    """Makes jobs of many documents in one S3."""

    def __init__(self, server: LocalServer, client: PHIClient, objects: Objects) -> None:
        self.objects = objects
        self._server = server
        self._client = client

    def results(self, count: int = MANY, size: int = 5) -> JobResults:
        """Return the results of a job whose documents each have an entity of `size` characters."""
        stored = StoredJob(self._server, self._client, "a-bucket")
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
                    {"Input": f"notes/{number}.txt", "Output": f"{stored.folder}{number}.txt.out"}
                    for number in range(count)
                ]
            },
            "failed": {"Files": []},
        }

        def body(key: str) -> bytes | None:
            path = key.removeprefix(stored.folder)
            content = contents.get(path)
            if content is None:
                number = int(path.removesuffix(".txt.out"))
                content = {"Entities": [found(f"{number:05}".ljust(size, "."), number)]}
            return json.dumps(content).encode()

        self.objects.body = body
        self.objects.keys.clear()
        return stored.results()


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
    # The first document makes boto3 load its models, and the list of files stays in memory.
    next(documents)
    gc.collect()
    tracemalloc.start()
    try:
        count = sum(1 for _ in documents)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == MEASURED - 1
    # All documents take 20 MB. The 21 in the window take less than 1 MB, and decoding needs more.
    assert peak < 5_000_000


def test_fetching_waits_for_a_slow_consumer(many: Many) -> None:
    results = many.results()
    documents = iter(results)
    for _ in range(30):
        next(documents)
    documents.close()
    # With 10 connections, at most 21 documents are fetched ahead, besides two other files.
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


def test_no_thread_is_left_at_the_end(stored: StoredJob, our_threads: OurThreads) -> None:
    stored.store("a.txt", "b.txt")
    assert len(list(stored.results())) == 2
    assert our_threads() == []


def test_no_thread_is_left_after_an_error(stored: StoredJob, our_threads: OurThreads) -> None:
    stored.store("a.txt", "b.txt")
    stored.document("a.txt", b"")
    until(ResultsError, stored.results())
    assert our_threads() == []


def test_two_iterators_do_not_disturb_each_other(stored: StoredJob) -> None:
    paths = [f"{number:02}.txt" for number in range(40)]
    stored.store(*paths)
    results = stored.results()
    keys = [f"notes/{path}" for path in paths]
    pairs = [(one.input_key, two.input_key) for one, two in zip(results, results, strict=True)]
    assert pairs == [(key, key) for key in keys]


# --- Parts ----------------------------------------------------------------------------------------


def test_each_part_has_every_nth_file(stored: StoredJob) -> None:
    stored.store(*(f"{number}.txt" for number in range(7)), unprocessed=["x", "y", "z"])
    parts = [stored.results().part(index, 3) for index in range(3)]
    assert [inputs(part) for part in parts] == [
        ["notes/0.txt", "notes/3.txt", "notes/6.txt"],
        ["notes/1.txt", "notes/4.txt"],
        ["notes/2.txt", "notes/5.txt"],
    ]
    assert [[file.input_key for file in part.unprocessed] for part in parts] == [
        ["notes/x"],
        ["notes/y"],
        ["notes/z"],
    ]


@pytest.mark.parametrize("read", [JobResults.with_text, JobResults.redacted])
def test_a_part_has_its_notes_only(stored: StoredJob, read: Callable[..., Iterator[Any]]) -> None:
    stored.store_notes("a.txt", "b.txt", "c.txt")
    assert keys_of(list(read(stored.results().part(1, 2)))) == ["notes/b.txt"]


def test_a_part_of_a_part_is_a_part(stored: StoredJob) -> None:
    stored.store(*(f"{number:02}.txt" for number in range(20)))
    results = stored.results()
    part = results.part(1, 2).part(2, 3)
    assert inputs(part) == inputs(results.part(5, 6)) == [f"notes/{n:02}.txt" for n in (5, 11, 17)]
    assert repr(part) == f"JobResults({stored.job_id!r}).part(5, 6)"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(files=st.integers(0, 12), count=st.integers(1, 15))
def test_all_parts_together_have_each_file_once(stored: StoredJob, files: int, count: int) -> None:
    stored.store(*(f"{number:02}.txt" for number in range(files)))
    results = stored.results()
    together = [key for index in range(count) for key in inputs(results.part(index, count))]
    assert sorted(together) == inputs(results)


def test_only_the_part_with_a_missing_file_is_incomplete(stored: StoredJob) -> None:
    stored.store("a.txt", "b.txt", "c.txt", "d.txt")
    stored.document("b.txt", b"not JSON")
    assert inputs(stored.results().part(0, 2)) == ["notes/a.txt", "notes/c.txt"]
    yielded, error = until_incomplete(stored.results().part(1, 2))
    assert [document.input_key for document in yielded] == ["notes/d.txt"]
    assert error.reason == "1 of 2 documents could not be delivered"
    assert error.failed.keys() == {"notes/b.txt"}


def test_every_part_of_a_job_with_wrong_counts_is_incomplete(stored: StoredJob) -> None:
    stored.store("a.txt", "b.txt", SuccessFilesCount=3, InputFileCount=3)
    for index in range(2):
        yielded, error = until_incomplete(stored.results().part(index, 2))
        assert len(yielded) == 1
        assert "the manifest counts 3 processed files, but there are 2" in error.reason


@pytest.mark.parametrize(
    ("index", "count", "field"),
    [(0, 0, "count"), (0, -1, "count"), (0, "2", "count"), (2, 2, "index"), (-1, 2, "index")],
)
def test_a_part_that_cannot_exist_is_refused(
    stored: StoredJob, index: int, count: int, field: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        stored.results().part(index, count)
    assert (caught.value.owner, caught.value.field) == ("JobResults.part", field)
