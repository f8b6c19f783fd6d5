"""`check`, and `--check` and `--max-cost` of a start: nothing is started that you would regret."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from comprehend_phi.cli.checking import us_dollars

from ..conftest import CANARY, Serving
from .conftest import KEY, NOTE, Run, Shell

Endpoint = tuple[str, str]
SIZE = len(NOTE.encode())


@pytest.fixture
def location(shell: Shell) -> str:
    """A location with a clean note, one that is too large, and two with a warning."""
    shell.put("checked/one.txt")
    shell.put("checked/large.txt", b"a" * 71_681)
    shell.put("checked/a.pdf", b"a")
    shell.put("checked/b\x1b[31m.pdf", b"a")
    return f"s3://{shell.bucket}/checked"


def test_check_prints_totals_costs_and_problems(
    run: Run, endpoint: Endpoint, location: str
) -> None:
    done = run("check", location, *endpoint)

    assert done.code == 5
    assert done.out.splitlines() == [
        f"4 files, {SIZE + 71_683:,} bytes",
        "The job would cost $0.0014 to $0.0042: 1 to 3 units at $0.0014 each",
        "CODE            SEVERITY  COUNT  FIRST",
        "NOT_PLAIN_TEXT  warning   2      checked/a.pdf, checked/b\\x1b[31m.pdf",
        "TOO_LARGE       error     1      checked/large.txt",
    ]
    assert done.err == ""


def test_check_reads_the_notes_if_asked_to(run: Run, shell: Shell, endpoint: Endpoint) -> None:
    listed = run("check", f"s3://{shell.bucket}/mixed", *endpoint)
    read = run("check", f"s3://{shell.bucket}/mixed", "--read", *endpoint)

    assert (listed.code, read.code) == (0, 5)
    assert read.out.splitlines()[0] == f"2 files, {SIZE + 1} bytes, {len(NOTE)} characters"
    assert "NOT_UTF8  error     1      mixed/a\\x1b[31m.txt" in read.out


class RefusesToReadNotes(BaseHTTPRequestHandler):
    """An S3 that lists one note and returns none."""

    LISTING = (
        "<ListBucketResult><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>"
        "<Contents><Key>notes/one.txt</Key><Size>70</Size></Contents></ListBucketResult>"
    )
    NOTHING = "<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"

    def do_HEAD(self) -> None:
        self.respond(200, "")

    def do_GET(self) -> None:
        if "list-type=2" not in self.path:
            self.respond(403, "<Error><Code>AccessDenied</Code></Error>")
        else:
            self.respond(200, self.NOTHING if "delimiter" in self.path else self.LISTING)

    def respond(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object, **__: object) -> None:
        """Print nothing."""


def test_check_reports_what_it_can_if_a_note_cannot_be_read(
    run: Run, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), RefusesToReadNotes)
    with serving(server):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        done = run("check", "s3://hospital-notes/notes", "--read")

    assert done.code == 1
    assert done.out.splitlines() == [
        "1 file, 70 bytes",
        "The job would cost $0.0014 to $0.0014: 1 to 1 unit at $0.0014 each",
    ]
    assert done.error.startswith("1 note in s3://hospital-notes could not be read: Unreadable")
    assert "notes/one.txt" in done.error


def test_check_of_a_clean_input_ends_with_0(run: Run, shell: Shell, endpoint: Endpoint) -> None:
    locations = (f"s3://{shell.bucket}/good", f"s3://{shell.bucket}/results")
    done = run("check", *locations, "--read", *endpoint)

    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 2


def test_a_warning_alone_ends_with_0(run: Run, shell: Shell, endpoint: Endpoint) -> None:
    done = run("check", f"s3://{shell.bucket}/good", f"s3://{shell.bucket}/good/out", *endpoint)

    assert done.code == 0
    assert "OUTPUT_INSIDE_INPUT  warning" in done.out


def test_without_a_destination_its_problems_are_not_found(
    run: Run, shell: Shell, endpoint: Endpoint
) -> None:
    done = run("check", f"s3://{shell.bucket}", "--json", *endpoint)

    assert "OUTPUT_INSIDE_INPUT" not in done.out


def test_check_prints_json(run: Run, endpoint: Endpoint, location: str) -> None:
    done = run("check", location, "--json", "--price", "0.5", *endpoint)

    assert done.code == 5
    report = done.json
    problems = report.pop("problems")
    assert report["problem_counts"] == {"NOT_PLAIN_TEXT": 2, "TOO_LARGE": 1}
    assert report["price_per_unit"] == 0.5
    assert report["cost"] == {"minimum": 0.5, "maximum": 1.5}
    assert [each["key"] for each in problems] == [
        "checked/a.pdf",
        "checked/b\x1b[31m.pdf",
        "checked/large.txt",
    ]


def test_a_problem_of_the_whole_job_is_shown_in_words(
    run: Run, shell: Shell, endpoint: Endpoint
) -> None:
    done = run("check", f"s3://{shell.bucket}/{CANARY.split()[0]}", *endpoint)

    assert done.code == 5
    assert "NO_FILES  error     1      the input location contains no files" in done.out


def test_more_keys_than_a_line_shows_are_counted(
    run: Run, shell: Shell, endpoint: Endpoint
) -> None:
    for number in range(5):
        shell.put(f"many/{number}.pdf")
    done = run("check", f"s3://{shell.bucket}/many", *endpoint)

    assert "many/0.pdf, many/1.pdf, many/2.pdf and 2 more" in done.out


@pytest.mark.parametrize("option", ["--price", "--max-cost"])
@pytest.mark.parametrize("value", ["-1", "1.x", "nan", "inf", ""])
def test_an_invalid_price_is_wrong_usage(
    run: Run, shell: Shell, endpoint: Endpoint, option: str, value: str
) -> None:
    check, start = ("check", f"s3://{shell.bucket}/good"), ("start", *shell.start("good"))
    done = run(*(check if option == "--price" else start), option, value, *endpoint)

    assert (done.code, done.out) == (2, "")
    assert done.error == f"{option} must be a number of US dollars, such as 500"


def test_a_price_may_be_zero() -> None:
    assert us_dollars("0") == 0


def test_a_source_that_is_no_location_is_wrong_usage(run: Run) -> None:
    done = run("check", "notes")

    assert (done.code, done.error) == (2, "SOURCE must be a URI such as s3://bucket/prefix")


@pytest.mark.parametrize("command", ["start", "detect"])
def test_an_input_with_errors_is_not_started_after_a_check(
    run: Run, shell: Shell, endpoint: Endpoint, location: str, command: str
) -> None:
    assert location
    jobs = shell.server.service.job_ids
    done = run(command, *shell.start("checked", "--kms-key", KEY), "--check", *endpoint)

    assert (done.code, done.out) == (5, "")
    assert shell.server.service.job_ids == jobs
    assert done.err.splitlines() == [
        "Warning: NOT_PLAIN_TEXT (2): checked/a.pdf, checked/b\\x1b[31m.pdf",
        "Error: TOO_LARGE (1): checked/large.txt",
        "The job would cost $0.0014 to $0.0042: 1 to 3 units at $0.0014 each",
        "comprehend-phi: This command started no job, because the input has errors: TOO_LARGE.",
        "Fix them, or start the job without --check.",
    ]


def test_an_input_with_warnings_is_started_after_a_check(
    run: Run, shell: Shell, endpoint: Endpoint
) -> None:
    shell.put("warned/a.pdf")
    done = run("start", *shell.start("warned", "--kms-key", KEY), "--check", *endpoint)

    assert (done.code, done.out) == (0, f"{shell.server.service.job_ids[-1]}\n")
    assert done.err.startswith("Warning: NOT_PLAIN_TEXT (1): warned/a.pdf\nThe job would cost ")


@pytest.mark.parametrize("command", ["start", "detect"])
def test_a_job_that_may_cost_more_than_the_limit_is_not_started(
    run: Run, shell: Shell, endpoint: Endpoint, command: str
) -> None:
    jobs = shell.server.service.job_ids
    options = ("--kms-key", KEY, "--max-cost", "0.0027", *endpoint)
    done = run(command, *shell.start("good"), *options)

    assert (done.code, done.out) == (6, "")
    assert shell.server.service.job_ids == jobs
    assert done.error == (
        "This command started no job, because it may cost $0.0028, which is more than --max-cost"
        " $0.0027."
    )


@pytest.mark.parametrize("command", ["start", "detect"])
@pytest.mark.parametrize(
    ("key", "option"), [("good", ("--max-cost", "0.0027")), ("checked", ("--check",))]
)
def test_a_refused_start_with_a_token_says_that_an_earlier_one_may_have_succeeded(
    run: Run,
    shell: Shell,
    endpoint: Endpoint,
    location: str,
    command: str,
    key: str,
    option: tuple[str, ...],
) -> None:
    assert location
    options = ("--kms-key", KEY, "--token", "earlier", *option, *endpoint)
    done = run(command, *shell.start(key), *options)

    assert done.error.startswith("This command started no job, because ")
    assert done.err.splitlines()[-1] == (
        "An earlier command with this --token may have started the job. To find out, use"
        " `comprehend-phi list`."
    )


def test_a_job_that_may_cost_just_the_limit_is_started(
    run: Run, shell: Shell, endpoint: Endpoint
) -> None:
    options = ("--kms-key", KEY, "--max-cost", "0.0028", *endpoint)
    done = run("start", *shell.start("good"), *options)

    assert (done.code, done.out) == (0, f"{shell.server.service.job_ids[-1]}\n")


def test_the_limit_of_the_cost_does_not_look_at_errors(
    run: Run, shell: Shell, endpoint: Endpoint, location: str
) -> None:
    assert location
    done = run("start", *shell.start("checked", "--kms-key", KEY), "--max-cost", "1", *endpoint)

    assert done.code == 0


def test_a_local_job_can_be_checked_too(run: Run, notes: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    done = run("detect", "--local", str(notes), str(output), "--max-cost", "0.001", "--check")

    assert (done.code, done.out) == (6, "")


def test_a_refused_local_start_with_a_token_does_not_mention_an_earlier_one(
    run: Run, notes: Path, tmp_path: Path
) -> None:
    options = ("--token", "earlier", "--max-cost", "0.001")
    done = run("detect", "--local", str(notes), str(tmp_path / "results"), *options)

    assert done.error.startswith("This command started no job, because ")
    assert "earlier" not in done.err
