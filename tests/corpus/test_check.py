"""What a check costs, counts and reports, and what S3 may do to it."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    AsyncPHIClient,
    ClientClosedError,
    ExpiredTokenException,
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    ResultsError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    UnreadableObjectError,
)
from comprehend_phi.corpus import (
    CostEstimate,
    IncompleteCheckError,
    InputCheckError,
    InputProblem,
    InputReport,
    ProblemCode,
    ServiceLimits,
    check_input,
    check_input_async,
    check_objects,
)
from comprehend_phi.testing import FakeClock

from ..conftest import CANARY
from .conftest import Check

NOTE = b"Patient: Ada Example, phone (555) 555-0142"


def a_request(input_key: str | None = "notes") -> StartPHIDetectionJobRequest:
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="hospital-notes", s3_key=input_key),
        output_data_config=OutputDataConfig(s3_bucket="phi-results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/phi-results",
    )


# --- Units and costs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "min_units", "max_units"),
    [
        ([], 0, 0),
        ([1], 1, 1),
        ([100], 1, 1),
        ([101], 1, 2),
        ([400], 1, 4),
        ([401], 2, 5),
        ([1] * 500, 5, 500),
        ([0, 1], 1, 2),  # an empty file may count as a unit
        ([71_680], 180, 717),
        ([71_681], 0, 0),  # too large, so it would be skipped
    ],
)
def test_the_size_bounds_the_units(sizes: list[int], min_units: int, max_units: int) -> None:
    report = check_objects(
        [(f"notes/{number}", size) for number, size in enumerate(sizes)], a_request()
    )
    assert (report.min_units, report.max_units) == (min_units, max_units)
    assert (report.file_count, report.total_bytes) == (len(sizes), sum(sizes))
    assert report.characters is None


@given(st.lists(st.text(max_size=250), min_size=1, max_size=8))
def test_the_bounds_from_sizes_contain_those_from_characters(texts: list[str]) -> None:
    report = check_objects(
        [(f"notes/{number}", len(text.encode())) for number, text in enumerate(texts)], a_request()
    )
    characters = sum(map(len, texts))
    rounded_once = -(-characters // 100)
    rounded_each = sum(max(1, -(-len(text) // 100)) for text in texts)
    assert report.min_units <= rounded_once <= rounded_each <= report.max_units


def test_folder_markers_are_not_files() -> None:
    report = check_objects([("notes/", 0), ("notes/2031/", 5), ("notes/a", 5)], a_request())
    assert (report.file_count, report.total_bytes, report.max_units) == (1, 5, 1)


@pytest.mark.parametrize(
    "price", [Decimal("0.0014"), 0.0014], ids=["a Decimal", "a float that cannot be exact"]
)
def test_a_cost_is_exact(price: Decimal | float) -> None:
    report = check_objects([("notes/a", 71_680)] * 14_000, a_request())
    assert report.estimate_cost(price) == CostEstimate(
        minimum=Decimal("3512.3200"), maximum=Decimal("14053.2000")
    )


def test_the_default_price_is_the_one_that_aws_lists() -> None:
    report = check_objects([("notes/a", 100)], a_request())
    assert report.estimate_cost().maximum == Decimal("0.0014")


def test_a_price_may_be_zero() -> None:
    report = check_objects([("notes/a", 100)], a_request())
    assert report.estimate_cost(0) == CostEstimate(minimum=Decimal(0), maximum=Decimal(0))


@pytest.mark.parametrize("price", ["0.0014", None, True, -1, float("nan"), Decimal("Infinity")])
def test_anything_but_a_valid_price_is_refused(price: Any) -> None:
    report = check_objects([], a_request())
    with pytest.raises(RequestValidationError, match=r"estimate_cost\.price_per_unit"):
        report.estimate_cost(price)


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=300
)


@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_the_estimate_brackets_what_the_service_meters(
    s3: Any, bucket: str, client: PHIClient, check: Check, make_request: Any, texts: list[str]
) -> None:
    prefix = f"{len(s3.list_objects_v2(Bucket=bucket).get('Contents', []))}"
    for number, text in enumerate(texts):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{number}.txt", Body=text.encode())
    s3.put_object(Bucket=bucket, Key=f"{prefix}/large.txt", Body=b"a" * 80_000)
    request = make_request(input_data_config=InputDataConfig(s3_bucket=bucket, s3_key=prefix))

    listed = check(request)
    s3.put_object(Bucket=bucket, Key=f"{prefix}/latin-1.txt", Body=b"\xe9")
    read = check(request, read_notes=True)
    job = client.submit(request)
    job.wait()
    metered = job.results().manifest.total_metered_characters

    assert metered is not None
    assert read.characters == metered
    assert listed.min_units <= read.min_units <= -(-metered // 100)
    assert -(-metered // 100) <= read.max_units <= listed.max_units
    assert read.file_count == len(texts) + 2


# --- The report -----------------------------------------------------------------------------------


def report_with(*codes: str) -> InputReport:
    return InputReport(
        file_count=1,
        total_bytes=1,
        characters=None,
        min_units=1,
        max_units=1,
        problems=tuple(
            InputProblem(code=ProblemCode(code), key=f"notes/{CANARY}", detail="why")
            for code in codes
        ),
        problem_counts=dict.fromkeys(codes, 1),
    )


def test_an_error_raises() -> None:
    report = report_with("TOO_LARGE", "EMPTY", "NO_FILES")
    with pytest.raises(InputCheckError) as caught:
        report.raise_for_problems()
    assert caught.value.report is report
    assert caught.value.codes == ("TOO_LARGE", "NO_FILES")
    assert "TOO_LARGE (1), NO_FILES (1)" in str(caught.value)


def test_a_warning_raises_nothing() -> None:
    report_with("EMPTY", "FOLDER_MARKER", "SIBLING_PREFIX").raise_for_problems()
    report_with().raise_for_problems()


def test_an_error_that_is_ignored_raises_nothing() -> None:
    report = report_with("TOO_LARGE", "NO_FILES")
    report.raise_for_problems(ignore={"TOO_LARGE", ProblemCode.NO_FILES})
    with pytest.raises(InputCheckError) as caught:
        report.raise_for_problems(ignore=["TOO_LARGE"])
    assert caught.value.codes == ("NO_FILES",)


@pytest.mark.parametrize("ignore", ["TOO_LARGE", ["TO_LARGE"], None, [1]])
def test_ignore_rejects_anything_but_codes(ignore: Any) -> None:
    with pytest.raises(RequestValidationError, match=r"raise_for_problems\.ignore"):
        report_with("TOO_LARGE").raise_for_problems(ignore)


def test_the_dict_of_a_report_is_json() -> None:
    report = check_objects([("notes/a.pdf", 0), ("notes/b", 5)], a_request())
    assert json.loads(json.dumps(report.to_dict())) == {
        "file_count": 2,
        "total_bytes": 5,
        "characters": None,
        "min_units": 1,
        "max_units": 2,
        "problem_counts": {"EMPTY": 1, "NOT_PLAIN_TEXT": 1},
        "problems": [
            {"code": "EMPTY", "severity": "warning", "key": "notes/a.pdf", "detail": "0 bytes"},
            {
                "code": "NOT_PLAIN_TEXT",
                "severity": "warning",
                "key": "notes/a.pdf",
                "detail": "the name ends in .pdf",
            },
        ],
    }


def test_a_report_keeps_a_thousand_problems_of_each_code_and_passes_on_all() -> None:
    seen: list[InputProblem] = []
    objects = [(f"notes/{number}.pdf", 0) for number in range(1_500)]
    report = check_objects(objects, a_request(), on_problem=seen.append)
    assert report.problem_counts == {"EMPTY": 1_500, "NOT_PLAIN_TEXT": 1_500}
    assert len(report.problems) == 2_000
    assert len(seen) == 3_000
    assert seen[:2_000] == list(report.problems)


# --- Objects that are already listed --------------------------------------------------------------


def test_objects_elsewhere_do_not_count() -> None:
    objects = [("other/a", 100_000), ("notes/a", 1), ("note", 0)]
    report = check_objects(objects, a_request())
    assert (report.file_count, report.problem_counts) == (1, {})


@pytest.mark.parametrize("count", [3, 5_000])
def test_a_sibling_counts_once_however_many_files_it_contains(count: int) -> None:
    objects = [
        (f"notes-{folder:05}/{file}", 1) for folder in range(count) for file in ("a", "b", "c/d")
    ]
    report = check_objects([*objects, ("notes/a", 1)], a_request())
    assert report.problem_counts == {"SIBLING_PREFIX": count}


def test_the_order_of_objects_does_not_matter() -> None:
    objects = [("notes-a/1", 1), ("notes-b/1", 1), ("notes-a/2", 1), ("notes/b", 0), ("notes/a", 1)]
    report, other = check_objects(objects, a_request()), check_objects(objects[::-1], a_request())
    assert report.problem_counts == other.problem_counts == {"SIBLING_PREFIX": 2, "EMPTY": 1}


def test_a_key_that_utf_8_cannot_encode_is_checked() -> None:
    report = check_objects([("notes/" + "\ud800" * 400, 1)], a_request())
    assert report.problem_counts == {"OUTPUT_KEY_TOO_LONG": 1}


@pytest.mark.parametrize(
    "objects",
    [["notes/a"], [("notes/a",)], [("notes/a", "1")], [("notes/a", -1)], [(b"notes/a", 1)]],
)
def test_check_objects_rejects_anything_but_keys_with_sizes(objects: Any) -> None:
    with pytest.raises(RequestValidationError, match=r"check_objects\.objects"):
        check_objects(objects, a_request())


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"request": "notes"},
        {"read_notes": 1},
        {"limits": 71_680},
        {"on_problem": "print"},
        {"on_progress": 1_000},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_argument_of_the_wrong_type_is_refused(check: Check, wrong: dict[str, Any]) -> None:
    arguments = {"request": a_request(), **wrong}
    with pytest.raises(RequestValidationError) as caught:
        check(arguments.pop("request"), **arguments)
    assert caught.value.field in wrong


def test_each_client_has_its_own_function(clock: FakeClock) -> None:
    async def main() -> None:
        async with AsyncPHIClient(clock=clock) as client:
            with pytest.raises(RequestValidationError, match="call check_input_async"):
                check_input(client, a_request())  # type: ignore[arg-type]  # pyright: ignore
        with (
            PHIClient(clock=clock) as other,
            pytest.raises(RequestValidationError, match="call check_input"),
        ):
            await check_input_async(other, a_request())  # type: ignore[arg-type]  # pyright: ignore

    asyncio.run(main())


# --- What S3 may do -------------------------------------------------------------------------------


@pytest.fixture
def three(s3: Any, bucket: str, make_request: Any) -> StartPHIDetectionJobRequest:
    """A job over three notes."""
    for name in "abc":
        s3.put_object(Bucket=bucket, Key=f"three/{name}.txt", Body=NOTE)
    request: StartPHIDetectionJobRequest = make_request(
        input_data_config=InputDataConfig(s3_bucket=bucket, s3_key="three")
    )
    return request


@pytest.mark.filterwarnings("ignore::comprehend_phi.DoubleRetryWarning")
def test_a_note_that_cannot_be_read_is_named_at_the_end(
    s3: Any, check: Check, refuse: Callable[..., None], three: StartPHIDetectionJobRequest
) -> None:
    refuse("three/b.txt", status=403, code="AccessDenied")
    with pytest.raises(IncompleteCheckError) as caught:
        check(three, read_notes=True, client={"s3_client": s3})
    error = caught.value
    assert error.failed_count == 1
    [(key, reason)] = error.failed.items()
    assert key == "three/b.txt"
    assert reason.startswith("UnreadableObjectError: s3://")
    assert "three/b.txt" in str(error)
    assert "s3:GetObject" in str(error)
    report = error.report
    assert report.characters is None
    assert (report.file_count, report.min_units, report.max_units) == (3, 1, 3)
    assert error.__context__ is error.__cause__ is None


def test_a_list_that_is_refused_names_the_location(
    s3: Any, check: Check, three: StartPHIDetectionJobRequest
) -> None:
    answer = {"list_objects_v2": refusal("AccessDenied", 403)}
    with pytest.raises(UnreadableObjectError, match="s3:ListBucket") as caught:
        check(three, client={"s3_client": Fake(s3, **answer)})
    assert caught.value.key == "three/"
    assert caught.value.code == "AccessDenied"


@pytest.mark.parametrize("operation", ["list_objects_v2", "get_object"])
def test_expired_credentials_end_the_check(
    s3: Any, check: Check, three: StartPHIDetectionJobRequest, operation: str
) -> None:
    answer = {operation: refusal("ExpiredToken", 400)}
    with pytest.raises(ExpiredTokenException):
        check(three, read_notes=True, client={"s3_client": Fake(s3, **answer)})


@pytest.mark.parametrize("operation", ["head_bucket", "list_objects_v2", "get_object"])
def test_a_call_that_fails_is_tried_again(
    s3: Any, check: Check, three: StartPHIDetectionJobRequest, operation: str
) -> None:
    answer = {operation: refusal("SlowDown", 503, times=2)}
    report = check(three, read_notes=True, client={"s3_client": Fake(s3, **answer)})
    assert report.characters == 3 * len(NOTE)


def test_s3_that_fails_for_every_note_ends_the_check(
    s3: Any, bucket: str, check: Check, request_: StartPHIDetectionJobRequest
) -> None:
    for number in range(150):
        s3.put_object(Bucket=bucket, Key=f"notes/{number}", Body=b"a")
    fake = Fake(s3, get_object=refusal("SlowDown", 503))
    settings = {"s3_client": fake, "retry": RetryPolicy(max_attempts=1)}
    with pytest.raises(ThrottlingException) as caught:
        check(request_, read_notes=True, client=settings)
    assert caught.value.key is not None
    assert fake.calls["get_object"] < 151


@pytest.mark.parametrize("status", [301, 307, 400, 403])
def test_the_region_is_in_a_refusal_too(
    s3: Any, check: Check, three: StartPHIDetectionJobRequest, status: int
) -> None:
    answer = {"head_bucket": refusal(str(status), status, region="eu-west-1")}
    report = check(three, client={"s3_client": Fake(s3, **answer)})
    [problem] = report.problems
    assert problem.code == "WRONG_REGION"
    assert "eu-west-1" in problem.detail
    assert report.file_count == 3


def test_a_bucket_whose_region_s3_does_not_say_is_no_problem(
    s3: Any, check: Check, three: StartPHIDetectionJobRequest
) -> None:
    answer = {"head_bucket": refusal("403", 403)}
    assert check(three, client={"s3_client": Fake(s3, **answer)}).problem_counts == {}


def test_a_bucket_that_only_the_list_misses_is_a_problem(
    s3: Any, check: Check, three: StartPHIDetectionJobRequest
) -> None:
    answer = {"list_objects_v2": refusal("NoSuchBucket", 404)}
    report = check(three, client={"s3_client": Fake(s3, **answer)})
    assert report.problem_counts == {"NO_SUCH_BUCKET": 1}


def test_a_check_only_lists_and_asks_for_regions(
    s3: Any, check: Check, three: StartPHIDetectionJobRequest
) -> None:
    fake = Fake(s3)
    report = check(three, client={"s3_client": fake})
    assert fake.calls == {"head_bucket": 1, "list_objects_v2": 2}
    assert report.characters is None


def test_a_slash_at_the_end_of_the_input_key_changes_nothing(
    bucket: str, check: Check, three: StartPHIDetectionJobRequest, make_request: Any
) -> None:
    config = InputDataConfig(s3_bucket=bucket, s3_key="three/")
    report = check(make_request(input_data_config=config), read_notes=True)
    assert report == check(three, read_notes=True)
    assert (report.file_count, report.characters) == (3, 3 * len(NOTE))


def test_an_archived_note_that_was_restored_can_be_read(
    s3: Any, bucket: str, check: Check, request_: StartPHIDetectionJobRequest
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/old", Body=b"old", StorageClass="GLACIER")
    assert check(request_, read_notes=True).problem_counts == {"ARCHIVED": 1}
    s3.restore_object(Bucket=bucket, Key="notes/old", RestoreRequest={"Days": 1})
    report = check(request_, read_notes=True)
    assert (report.problem_counts, report.characters) == ({}, len(NOTE) + 3)


def test_reading_gets_only_what_the_service_would_process(
    s3: Any, bucket: str, check: Check, request_: StartPHIDetectionJobRequest
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/", Body=b"")
    s3.put_object(Bucket=bucket, Key="notes/empty", Body=b"")
    s3.put_object(Bucket=bucket, Key="notes/large", Body=b"a" * 71_681)
    s3.put_object(Bucket=bucket, Key="notes//twice", Body=b"a")
    fake = Fake(s3)
    check(request_, read_notes=True, client={"s3_client": fake})
    assert fake.calls["get_object"] == 1


def refusal(code: str, status: int, *, times: int = 10**9, region: str = "") -> Callable[[], None]:
    """An answer of S3 that refuses, the first `times` times."""
    from botocore.exceptions import ClientError

    left = iter(range(times))
    lock = threading.Lock()

    def raise_it() -> None:
        with lock:
            if next(left, None) is None:
                return
        headers = {"x-amz-bucket-region": region} if region else {}
        answer: Any = {
            "Error": {"Code": code, "Message": CANARY},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
        }
        raise ClientError(answer, "Operation")

    return raise_it


class Fake:
    """A boto3 client whose calls can be refused; it counts them.

    Attributes:
        calls: how often each method was called.
    """

    def __init__(self, s3: Any, **before: Callable[[], None]) -> None:
        self.calls: dict[str, int] = {}
        self.meta = s3.meta
        self._s3 = s3
        self._before = before
        self._lock = threading.Lock()

    def _call(self, method: str, members: dict[str, Any]) -> Any:
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1
        if method in self._before:
            self._before[method]()
        return getattr(self._s3, method)(**members)

    def head_bucket(self, **members: Any) -> Any:
        return self._call("head_bucket", members)

    def list_objects_v2(self, **members: Any) -> Any:
        return self._call("list_objects_v2", members)

    def get_object(self, **members: Any) -> Any:
        return self._call("get_object", members)


# --- Many files -----------------------------------------------------------------------------------


class Listing:
    """A boto3 client of a bucket with many files, which it makes up as they are listed.

    Attributes:
        pages: how many pages were listed.
    """

    def __init__(self, count: int) -> None:
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=2)
        self.meta = boto3.client("s3", config=config).meta
        self.pages = 0
        self._count = count

    def head_bucket(self, **_: Any) -> Any:
        return {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}

    def get_object(self, **_: Any) -> Any:
        refusal("AccessDenied", 403)()

    def list_objects_v2(self, **members: str) -> Any:
        self.pages += 1
        if "Delimiter" in members:
            return {"KeyCount": 0, "IsTruncated": False}
        first = int(members.get("ContinuationToken", "0"))
        last = min(first + 1_000, self._count)
        return {
            "KeyCount": last - first,
            "IsTruncated": last < self._count,
            "NextContinuationToken": str(last),
            # Every note has a problem.
            "Contents": [
                {"Key": f"{members['Prefix']}{number:09}.json", "Size": 3_500}
                for number in range(first, last)
            ],
        }


def test_memory_does_not_grow_with_the_files() -> None:
    def peak(count: int) -> int:
        with PHIClient(s3_client=Listing(count)) as client:  # type: ignore[arg-type]  # pyright: ignore
            tracemalloc.start()
            report = check_input(client, a_request())
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert report.file_count == report.problem_counts["NOT_PLAIN_TEXT"] == count
        return most

    peak(1_000)  # imports and caches
    few = peak(2_000)
    assert peak(40_000) < few + 100_000


@pytest.mark.parametrize("count", [1_000, 1_200])
def test_the_error_names_a_thousand_unread_notes_and_counts_all(check: Check, count: int) -> None:
    with pytest.raises(IncompleteCheckError) as caught:
        check(a_request(), read_notes=True, client={"s3_client": Listing(count)})
    error = caught.value
    assert (error.failed_count, len(error.failed)) == (count, 1_000)
    assert str(error).startswith(
        f"{count:,} notes in s3://hospital-notes could not be read: Unread"
    )
    assert str(error).endswith(f" and {count - 20:,} more")
    assert len(str(error)) < 10_000


class EveryOther(Listing):
    """Every other note cannot be read for now."""

    def get_object(self, **members: Any) -> Any:
        if int(members["Key"][-6]) % 2:
            refusal("SlowDown", 503)()
        return {"ContentLength": 1, "Body": BytesIO(b"a")}


def test_a_note_that_is_read_shows_that_s3_works(check: Check) -> None:
    options = {"s3_client": EveryOther(400), "retry": RetryPolicy(max_attempts=1)}
    with pytest.raises(IncompleteCheckError) as caught:
        check(a_request(), read_notes=True, client=options)
    assert caught.value.failed_count == 200
    assert caught.value.report.max_units == 200 + 200 * 35  # of the sizes of those not read


def test_closing_the_client_ends_the_check() -> None:
    listing: Any = Listing(10**9)
    client = PHIClient(s3_client=listing)

    def close(_: int) -> None:
        client.close()

    with pytest.raises(ClientClosedError):
        check_input(client, a_request(), on_progress=close)
    assert listing.pages == 1


def test_progress_is_reported_after_each_page(check: Check) -> None:
    told: list[int] = []
    check(a_request(), client={"s3_client": Listing(2_500)}, on_progress=told.append)
    assert told == [1_000, 2_000, 2_500, 2_500]


def test_a_callback_that_raises_ends_the_check(check: Check) -> None:
    listing = Listing(10**9)

    def stop(_: object) -> None:
        raise LookupError("enough")

    for name in ("on_problem", "on_progress"):
        with pytest.raises(LookupError, match="enough"):
            check(a_request(), client={"s3_client": listing}, **{name: stop})
    assert listing.pages == 2


def test_a_check_that_is_cancelled_lists_no_further() -> None:
    listing = Listing(10**9)

    async def main() -> None:
        options: Any = {"s3_client": listing}
        async with AsyncPHIClient(**options) as client:
            task: asyncio.Task[InputReport]

            def cancel(_: int) -> None:
                task.cancel()

            task = asyncio.create_task(check_input_async(client, a_request(), on_progress=cancel))
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert listing.pages <= 2


# --- Nothing leaks, and nothing is imported early -------------------------------------------------


def everything_shown(report: InputReport) -> Iterator[str]:
    yield repr(report)
    yield str(report)
    for problem in report.problems:
        yield repr(problem)
        yield problem.detail
    try:
        report.raise_for_problems()
    except InputCheckError as error:
        yield repr(error)
        yield str(error)


@pytest.mark.parametrize("read", [False, True])
def test_no_key_and_no_text_is_shown(
    s3: Any,
    bucket: str,
    check: Check,
    make_request: Any,
    caplog: pytest.LogCaptureFixture,
    read: bool,
) -> None:
    caplog.set_level(logging.DEBUG, "comprehend_phi")
    folder = f"notes {CANARY}"
    bodies = {
        "plain.txt": CANARY.encode(),
        "latin.txt": f"{CANARY} \xe9".encode("latin-1"),
        "bom.txt": f"\ufeff{CANARY}".encode(),
        "nul.txt": f"{CANARY}\0".encode(),
        "large.txt": CANARY.encode() * 10_000,
        f"{CANARY}.json": b"{}",
        "empty": b"",
        "2031//a": b"a",
        "marker/": b"",
        "n" * 990: b"a",
    }
    for name, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=f"{folder}/{name}"[:1_000], Body=body)
    s3.put_object(Bucket=bucket, Key=f"{folder}-old/a", Body=b"a")
    request = make_request(
        input_data_config=InputDataConfig(s3_bucket=bucket, s3_key=folder),
        output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key=f"{folder}/out"),
    )
    fake = Fake(s3, get_object=refusal("SlowDown", 503, times=1))
    problems: list[InputProblem] = []
    report = check(request, read_notes=read, on_problem=problems.append, client={"s3_client": fake})

    assert len(report.problem_counts) == (11 if read else 8)
    shown = [*everything_shown(report), *map(repr, problems), caplog.text]
    for word in ("zinnia", "quellwasser"):
        assert not [text for text in shown if word in text.lower()]
    if read:
        assert "SlowDown" in caplog.text


def test_a_report_and_its_errors_pickle() -> None:
    import pickle

    report = report_with("TOO_LARGE", "EMPTY")
    assert pickle.loads(pickle.dumps(report)) == report
    error = pickle.loads(pickle.dumps(InputCheckError(report)))
    assert (error.report, error.codes) == (report, ("TOO_LARGE",))
    incomplete = IncompleteCheckError(report, bucket="b", failed={"k": "why"}, failed_count=30)
    assert str(pickle.loads(pickle.dumps(incomplete))) == str(incomplete)
    assert str(incomplete) == "30 notes in s3://b could not be read: why and 29 more"


def test_importing_the_package_imports_no_boto3() -> None:
    program = (
        "import sys, comprehend_phi\n"
        "assert 'comprehend_phi.corpus' not in sys.modules\n"
        "import comprehend_phi.corpus\n"
        "print([name for name in ('boto3', 'botocore', 'tenacity') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == "[]"


def test_errors_of_s3_are_the_errors_of_results() -> None:
    assert issubclass(UnreadableObjectError, ResultsError)
    assert ServiceLimits() == ServiceLimits()
