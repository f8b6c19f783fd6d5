"""Each problem is found where it is, and nowhere else, on S3 over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest
from attrs import field, frozen

from comprehend_phi import InputDataConfig, OutputDataConfig, StartPHIDetectionJobRequest
from comprehend_phi.corpus import InputReport, ProblemCode, ServiceLimits, check_objects

from .conftest import Check

MakeRequest = Callable[..., StartPHIDetectionJobRequest]

NOTE = b"Patient: Ada Example, phone (555) 555-0142"
# What is added to a path: `<account>-PHIDetection-<job id>/` and `.out`.
ADDED = 12 + len("-PHIDetection-") + 32 + 1 + 4


@frozen(kw_only=True)
class Input:
    """What a bucket contains, and which job reads it.

    Attributes:
        objects: the notes by their keys.
        storage_class: that of the notes.
        input_key, output_key: those of the request.
        region: where the bucket is.
        other_bucket: where the results go; None is the bucket of the notes.
        limits: AWS's quotas.
        read: whether the notes are read.
    """

    objects: Mapping[str, bytes] = field(factory=lambda: {"notes/a.txt": NOTE})
    storage_class: str = "STANDARD"
    input_key: str | None = "notes"
    output_key: str | None = "results"
    region: str = "us-east-1"
    other_bucket: str | None = None
    limits: ServiceLimits = field(factory=ServiceLimits)
    read: bool = False


def path_of(length: int) -> str:
    """A path that ends as `path.out` in a key of so many bytes."""
    ending = "/é.txt"
    return "n" * (length - ADDED - len("results/") - len(ending.encode())) + ending


TINY = ServiceLimits(max_file_bytes=len(NOTE), max_job_bytes=2 * len(NOTE), max_job_files=2)
TWO = {"notes/a.txt": NOTE, "notes/b.txt": NOTE}


def note(body: bytes, **options: Any) -> Input:
    """Return an input with one note."""
    return Input(objects={"notes/a.txt": body}, **options)


def notes(*keys: str, **options: Any) -> Input:
    """Return an input with a note at each of these keys."""
    return Input(objects=dict.fromkeys(keys, NOTE), **options)


# For each code, inputs that have this problem and no other, each with one that almost has it.
TABLE: dict[ProblemCode, list[tuple[Input, Input]]] = {
    ProblemCode.TOO_LARGE: [
        (note(b"a" * 71_681), note(b"a" * 71_680)),
        (note(NOTE + b".", limits=TINY, read=True), Input(limits=TINY, read=True)),
    ],
    ProblemCode.EMPTY: [
        (
            Input(objects={"notes/a.txt": NOTE, "notes/b.txt": b""}),
            Input(objects={"notes/a.txt": NOTE, "notes/b.txt": b" "}),
        ),
    ],
    ProblemCode.FOLDER_MARKER: [
        (Input(objects={"notes/": b"", "notes/a.txt": NOTE}), notes("notes/folder/a.txt")),
        (Input(objects={"notes/2031/": b"", "notes/a.txt": NOTE}, read=True), Input(read=True)),
    ],
    ProblemCode.DOUBLE_SLASH: [
        (notes("notes/2031//a.txt"), notes("notes/2031/02/a.txt")),
        (notes("notes//a.txt", input_key="notes/"), Input(input_key="notes/")),
        (
            notes("/a.txt", input_key=None, other_bucket="us-east-1"),
            notes("a.txt", input_key=None, other_bucket="us-east-1"),
        ),
    ],
    ProblemCode.ARCHIVED: [
        (Input(storage_class="GLACIER"), Input(storage_class="GLACIER_IR")),
        (Input(storage_class="DEEP_ARCHIVE"), Input(storage_class="INTELLIGENT_TIERING")),
        (Input(storage_class="GLACIER", read=True), Input(storage_class="STANDARD_IA", read=True)),
    ],
    ProblemCode.NOT_PLAIN_TEXT: [
        (notes(f"notes/a.{ending}"), notes(f"notes/a.{ending}.txt", f"notes/{ending}"))
        for ending in (
            *("json", "xml", "html", "pdf", "docx", "rtf", "gz", "zip", "dcm"),
            *("png", "jpg", "JPEG", "tif", "Json"),
        )
    ],
    ProblemCode.OUTPUT_KEY_TOO_LONG: [
        (notes(f"notes/{path_of(1_025)}"), notes(f"notes/{path_of(1_024)}")),
    ],
    ProblemCode.NOT_UTF8: [
        (note("Schröder".encode("latin-1"), read=True), note("Schröder".encode(), read=True)),
        # Nothing is known of the content of notes that are not read.
        (note("Ada Example".encode("utf-16"), read=True), note("Ada Example".encode("utf-16"))),
    ],
    ProblemCode.BYTE_ORDER_MARK: [
        (note("\ufeffAda".encode(), read=True), note("Ada\ufeff".encode(), read=True)),
    ],
    ProblemCode.NUL_CHARACTER: [
        (note(b"Ada\0Example", read=True), note(b"Ada\x01Example", read=True)),
    ],
    ProblemCode.NO_FILES: [(notes("elsewhere/a.txt"), notes("notes/a.txt"))],
    ProblemCode.TOO_MANY_FILES: [
        (
            Input(objects={**TWO, "notes/c.txt": b"c"}, limits=ServiceLimits(max_job_files=2)),
            Input(objects=TWO, limits=TINY),
        ),
    ],
    ProblemCode.TOO_MANY_BYTES: [
        (
            Input(objects={**TWO, "notes/c.txt": b"c"}, limits=ServiceLimits(max_job_bytes=84)),
            Input(objects=TWO, limits=ServiceLimits(max_job_bytes=84)),
        ),
    ],
    ProblemCode.NO_SUCH_BUCKET: [(Input(other_bucket="missing"), Input(other_bucket="us-east-1"))],
    ProblemCode.WRONG_REGION: [
        (Input(region="eu-west-1"), Input(region="us-east-1")),
        (Input(other_bucket="us-west-2"), Input(other_bucket="us-east-1")),
    ],
    ProblemCode.OUTPUT_INSIDE_INPUT: [
        (Input(output_key="notes/results"), Input(output_key="notes-results")),
        (Input(output_key="notes"), Input(output_key=None)),
        (Input(input_key=None), Input(input_key=None, other_bucket="us-east-1")),
        (
            Input(output_key="notes/results"),
            Input(output_key="notes/results", other_bucket="us-east-1"),
        ),
    ],
    ProblemCode.SIBLING_PREFIX: [
        (
            notes("notes/a.txt", "notes-old/a.txt", "notes-old/b.txt"),
            notes("notes/a.txt", "old-notes/a.txt"),
        ),
        # The input key may end in a slash, and then no other name begins with it.
        (
            notes("notes/a.txt", "notes.txt"),
            notes("notes/a.txt", "notes.txt", input_key="notes/"),
        ),
    ],
}
ROWS = [(code, *inputs) for code, rows in TABLE.items() for inputs in rows]


@pytest.fixture
def counts(s3: Any, check: Check, make_request: MakeRequest) -> Callable[[Input], dict[str, int]]:
    """Puts an input on S3 and checks it."""

    def counts(case: Input) -> dict[str, int]:
        names = {name: f"bucket-{uuid4().hex}" for name in (case.region, case.other_bucket) if name}
        for region, name in names.items():
            # us-east-1 is the default, which cannot be named.
            place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            if region != "missing":
                s3.create_bucket(Bucket=name, **({} if region == "us-east-1" else place))
        source = names[case.region]
        for key, body in case.objects.items():
            s3.put_object(Bucket=source, Key=key, Body=body, StorageClass=case.storage_class)
        target = source
        if case.other_bucket == case.region:
            target = f"bucket-{uuid4().hex}"
            s3.create_bucket(Bucket=target)
        elif case.other_bucket is not None:
            target = names[case.other_bucket]
        request = make_request(
            input_data_config=InputDataConfig(s3_bucket=source, s3_key=case.input_key),
            output_data_config=OutputDataConfig(s3_bucket=target, s3_key=case.output_key),
        )
        report = check(request, limits=case.limits, read_notes=case.read)
        return dict(report.problem_counts)

    return counts


@pytest.mark.parametrize(
    ("code", "case", "near_miss"), ROWS, ids=[f"{code}-{n}" for n, (code, *_) in enumerate(ROWS)]
)
def test_a_problem_is_found_where_it_is_and_only_there(
    counts: Callable[[Input], dict[str, int]], code: ProblemCode, case: Input, near_miss: Input
) -> None:
    assert counts(case) == {code: 1}
    assert counts(near_miss) == {}


def test_the_table_has_every_code() -> None:
    assert {code for code, *_ in ROWS} == set(ProblemCode)


def test_a_missing_input_bucket_is_the_only_problem_of_its_job(
    check: Check, make_request: MakeRequest
) -> None:
    config = InputDataConfig(s3_bucket="no-such-bucket")
    report = check(make_request(input_data_config=config))
    [problem] = report.problems
    assert (problem.code, problem.key) == ("NO_SUCH_BUCKET", None)
    assert "input bucket" in problem.detail
    assert (report.file_count, report.max_units) == (0, 0)


def test_one_bucket_that_is_missing_is_one_problem(check: Check, make_request: MakeRequest) -> None:
    report = check(
        make_request(
            input_data_config=InputDataConfig(s3_bucket="no-such-bucket", s3_key="notes"),
            output_data_config=OutputDataConfig(s3_bucket="no-such-bucket", s3_key="results"),
        )
    )
    assert report.problem_counts == {"NO_SUCH_BUCKET": 1}


def test_the_input_key_may_name_one_object(
    s3: Any, bucket: str, check: Check, make_request: MakeRequest
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/note.txt.bak", Body=NOTE)
    config = InputDataConfig(s3_bucket=bucket, s3_key="notes/note.txt")
    report = check(make_request(input_data_config=config), read_notes=True)
    assert (report.file_count, report.characters) == (1, len(NOTE))
    assert [(each.code, each.key) for each in report.problems] == [
        ("SIBLING_PREFIX", "notes/note.txt.bak")
    ]


def test_a_problem_says_which_file_it_concerns_and_why(
    s3: Any, bucket: str, check: Check, request_: StartPHIDetectionJobRequest
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/scan.pdf", Body=b"x" * 80_000)
    report = check(request_)
    assert [(each.code, each.severity, each.key, each.detail) for each in report.problems] == [
        ("TOO_LARGE", "error", "notes/scan.pdf", "80000 bytes; the limit is 71680"),
        ("NOT_PLAIN_TEXT", "warning", "notes/scan.pdf", "the name ends in .pdf"),
    ]


def test_what_is_known_without_s3_is_found_in_a_list_of_objects(
    make_request: MakeRequest,
) -> None:
    for code, *cases in ROWS:
        for case, expected in zip(cases, ({code: 1}, {}), strict=True):
            if case.read or code in ("ARCHIVED", "NO_SUCH_BUCKET", "WRONG_REGION"):
                continue
            report: InputReport = check_objects(
                [(key, len(body)) for key, body in case.objects.items()],
                make_request(
                    input_data_config=InputDataConfig(s3_bucket="aaa", s3_key=case.input_key),
                    output_data_config=OutputDataConfig(
                        s3_bucket="bbb" if case.other_bucket else "aaa", s3_key=case.output_key
                    ),
                ),
                limits=case.limits,
            )
            assert report.problem_counts == expected
