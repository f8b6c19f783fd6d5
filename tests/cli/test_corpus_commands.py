"""`plan` and `run`: many jobs, with a ledger and a saved plan."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from comprehend_phi.corpus import JobPlan, verify_copies
from comprehend_phi.corpus.ledger import JobState, Ledger
from comprehend_phi.testing import faults

from ..conftest import ROLE, Serving
from ..s3_server import S3Fault, S3Server, refused
from .conftest import KEY, NOTE, REDACTED, Run, Shell, finished

Endpoint = tuple[str, str]


class Corpus:
    """Notes in a folder of their own, and the arguments of the commands for them."""

    def __init__(self, shell: Shell, home: Path) -> None:
        self.shell = shell
        self.folder = f"corpus-{uuid4().hex}"
        self.ledger = home / "monday.ledger"
        self.plan_file = home / "monday.ledger.plan.json"
        for name in ("a/1.txt", "a/2.txt", "b/3.txt"):
            shell.put(f"{self.folder}/{name}")

    @property
    def locations(self) -> tuple[str, ...]:
        bucket = self.shell.bucket
        return (
            *(f"s3://{bucket}/{self.folder}", f"s3://{bucket}/{self.folder}-results"),
            *("--role-arn", ROLE, "--kms-key", KEY),
            *("--staging", f"s3://{bucket}/{self.folder}-staging"),
        )

    def run(self, *options: str) -> tuple[str, ...]:
        return ("run", *self.locations, "--ledger", str(self.ledger), *options)

    def lose(self) -> None:
        """Record that the only job of the run is lost."""
        plan = JobPlan.from_json(self.plan_file.read_text())
        with Ledger(self.ledger, plan) as ledger:
            ledger.record(plan.jobs[0], state=JobState.LOST, status=None)

    @property
    def jobs(self) -> int:
        """How many jobs were started for these notes."""
        return sum(
            job.input_data_config is not None
            and (job.input_data_config.s3_key or "").startswith(self.folder)
            for job in self.shell.client.list_phi_detection_jobs()
        )


@pytest.fixture
def corpus(shell: Shell, tmp_path: Path) -> Corpus:
    return Corpus(shell, tmp_path)


# --- plan -----------------------------------------------------------------------------------------


def test_plan_prints_the_jobs_and_what_they_cost(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    done = run("plan", *corpus.locations, "--name", "monday", *endpoint)

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "1 job with 3 files",
        "The jobs would cost $0.0014 to $0.0042: 1 to 3 units at $0.0014 each",
        "JOB  FILES  BYTES  STAGED",
        f"0    3      {3 * len(NOTE.encode())}    no",
    ]
    assert corpus.jobs == 0


def test_plan_prints_json_without_names(run: Run, corpus: Corpus, endpoint: Endpoint) -> None:
    done = run("plan", *corpus.locations, "--name", "monday", "--json", *endpoint)

    assert done.json["cost"] == {"minimum": 0.0014, "maximum": 0.0042}
    [job] = done.json["jobs"]
    assert (job["index"], job["file_count"], job["staged"]) == (0, 3, False)
    assert corpus.folder not in done.out


def test_plan_writes_a_file_for_its_owner_that_the_library_reads(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    done = run("plan", *corpus.locations, "--name", "monday", "-o", str(file), *endpoint)

    assert done.code == 0
    assert JobPlan.from_json(file.read_text()).name == "monday"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_plan_names_the_files_that_would_be_skipped(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    corpus.shell.put(f"{corpus.folder}/large.txt", b"a" * 71_681)
    done = run("plan", *corpus.locations, "--name", "monday", *endpoint)

    assert done.code == 0
    assert done.err == f"Error: TOO_LARGE (1): {corpus.folder}/large.txt\n"


def test_a_corpus_that_cannot_be_planned_is_an_error(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    source = f"s3://{corpus.shell.bucket}/missing"
    done = run("plan", source, *corpus.locations[1:], "--name", "monday", *endpoint)

    assert done.code == 1
    assert "contains no files" in done.error


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_staging_location_that_is_none_is_wrong_usage(
    run: Run, corpus: Corpus, endpoint: Endpoint, command: str
) -> None:
    arguments = [*corpus.run()[1:], "--name", "monday", *endpoint]
    arguments[arguments.index("--staging") + 1] = "staging"
    if command == "plan":
        at = arguments.index("--ledger")
        del arguments[at : at + 2]
    done = run(command, *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith("--staging (S3 URI) must look like s3://bucket/key")


# --- run ------------------------------------------------------------------------------------------


def test_run_runs_the_jobs_and_prints_how_they_ended(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    done = run(*corpus.run("--yes"), *endpoint)

    job_id = corpus.shell.server.service.job_ids[-1]
    assert done.code == 0
    heading, row = done.out.splitlines()
    assert heading.split() == ["JOB", "JOB", "ID", "STATUS", "MESSAGE"]
    assert row.split() == ["0", job_id, "COMPLETED"]
    assert done.err.splitlines()[:3] == [
        "1 job, of which 0 need copies of their files",
        "The jobs would cost $0.0014 to $0.0042: 1 to 3 units at $0.0014 each",
        f"Job 0 ({job_id}): SUBMITTED",
    ]
    assert done.err.splitlines()[-1] == f"Job 0 ({job_id}): COMPLETED"


def test_the_same_command_again_starts_nothing_and_asks_nothing(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    first = run(*corpus.run("--yes"), *endpoint)
    again = run(*corpus.run(), *endpoint)

    assert (again.code, again.out) == (0, first.out)
    assert corpus.jobs == 1


def test_run_prints_json(run: Run, corpus: Corpus, endpoint: Endpoint) -> None:
    done = run(*corpus.run("--yes", "--json"), *endpoint)

    [job] = done.lines
    assert (job["index"], job["job_status"], job["message"]) == (0, "COMPLETED", None)


def test_a_run_continues_with_its_plan_after_files_have_arrived(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    corpus.shell.put(f"{corpus.folder}/c/new.txt")
    assert run(*corpus.run(), *endpoint).code == 0
    assert corpus.jobs == 1


def test_a_lost_ledger_starts_no_job_twice(run: Run, corpus: Corpus, endpoint: Endpoint) -> None:
    first = run(*corpus.run("--yes"), *endpoint)
    corpus.ledger.unlink()
    again = run(*corpus.run("--yes"), *endpoint)

    assert again.out == first.out
    assert corpus.jobs == 1


def test_files_that_only_the_owner_can_read(run: Run, corpus: Corpus, endpoint: Endpoint) -> None:
    run(*corpus.run("--yes"), *endpoint)

    modes = {stat.S_IMODE(file.stat().st_mode) for file in corpus.ledger.parent.iterdir()}
    assert modes == {0o600}
    assert corpus.plan_file.exists()


def test_a_job_that_fails_ends_with_1_and_can_be_started_again(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    refusal = faults.error("InvalidRequestException", "no")
    corpus.shell.server.service.script(refusal, operation="StartPHIDetectionJob")
    done = run(*corpus.run("--yes"), *endpoint)

    assert done.code == 1
    assert done.error == "Some jobs did not complete."
    assert done.err.splitlines()[-1] == (
        "Fix the causes, then repeat the command with --retry-failed."
    )
    assert run(*corpus.run("--retry-failed"), *endpoint).code == 0


def test_a_lost_job_is_not_started_again_without_a_warning(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    corpus.lose()
    done = run(*corpus.run("--json"), *endpoint)

    assert (done.code, done.lines[0]["is_lost"]) == (1, True)
    assert done.err.splitlines()[-2] == (
        "1 lost job may have run. Check the output location and your bill before you use"
        " --retry-failed."
    )
    assert corpus.jobs == 1


def test_files_that_were_not_processed_end_with_3(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    corpus.shell.put(f"{corpus.folder}/a/bad.txt", b"\xff")
    done = run(*corpus.run("--yes"), *endpoint)

    assert done.code == 3
    assert done.err.splitlines()[-1].startswith(f"Not processed: {corpus.folder}/a/bad.txt (")


@pytest.mark.parametrize("copies", [False, True], ids=["without copies", "with copies"])
def test_a_completed_job_that_lists_unprocessed_files_ends_with_3(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path, copies: bool
) -> None:
    skipped = f"{corpus.folder}/a/1.txt"
    [job] = run(*corpus.run("--yes", "--json"), *endpoint).lines
    corpus.shell.skip(job["job_id"], f"{corpus.folder}-results", skipped)
    options = ("--copies", str(tmp_path / "copies")) if copies else ()
    done = run(*corpus.run("--json", *options), *endpoint)

    assert (done.code, done.lines[0]["job_status"]) == (3, "COMPLETED")
    assert done.lines[1]["unprocessed"]["input_key"] == skipped
    assert f"Not processed: {skipped} (TOO_LARGE: It is too large)" in done.err


@pytest.mark.parametrize("damage", ["manifest", "count"])
def test_a_run_that_cannot_know_which_files_were_skipped_ends_with_1(
    run: Run, corpus: Corpus, endpoint: Endpoint, damage: str
) -> None:
    [job] = run(*corpus.run("--yes", "--json"), *endpoint).lines
    folder = f"{corpus.folder}-results/123456789012-PHIDetection-{job['job_id']}/"
    key, storage = f"{folder}Manifest", corpus.shell.server.storage
    body = storage.read(corpus.shell.bucket, key)
    changed = body.replace(b'"UnprocessedFilesCount":0', b'"UnprocessedFilesCount":1')
    assert changed != body
    storage.write(corpus.shell.bucket, key, b"{" if damage == "manifest" else changed)
    done = run(*corpus.run(), *endpoint)

    assert done.code == 1
    assert done.error.startswith("The files that job 0 did not process are unknown: s3://")


def test_a_timeout_ends_with_4_and_says_how_to_continue(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    done = run(*corpus.run("--yes", "--timeout", "0.001"), *endpoint)

    assert done.code == 4
    assert "its timeout has passed" in done.error
    assert done.error.endswith("which this does not affect.")
    assert done.err.splitlines()[-1] == "To continue, repeat the command."


def test_an_error_that_ends_the_run_is_to_be_fixed_first(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    expired = faults.error("ExpiredTokenException")
    corpus.shell.server.service.script(expired, operation="StartPHIDetectionJob")
    done = run(*corpus.run("--yes"), *endpoint)

    assert done.code == 1
    assert done.error.endswith("which this does not affect.")
    assert done.err.splitlines()[-1] == "Fix the cause, then repeat the command."


# --- Copies ---------------------------------------------------------------------------------------


def test_run_writes_redacted_copies_and_an_audit_file(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path
) -> None:
    copies, audit = tmp_path / "copies", tmp_path / "audit.jsonl"
    done = run(*corpus.run("--yes", "--copies", str(copies), "--audit", str(audit)), *endpoint)

    assert done.code == 0
    found = verify_copies(audit, copies)
    assert done.out.splitlines()[-2:] == [
        f"3 redacted copies are in {copies}, of which 3 are new",
        f"The audit file is {audit}. Its SHA-256 is {found.audit_sha256}",
    ]
    written = {path.relative_to(copies).as_posix() for path in copies.rglob("*.txt")}
    assert written == {"a/1.txt", "a/2.txt", "b/3.txt"}
    assert (copies / "b/3.txt").read_bytes().decode() == REDACTED
    assert found.is_empty


def test_run_writes_copies_to_s3_with_a_key_and_continues(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    uri = f"s3://{corpus.shell.bucket}/{corpus.folder}-copies"
    command = corpus.run("--yes", "--copies", uri, "--copies-kms-key", "alias/copies")
    place = {"Bucket": corpus.shell.bucket, "Key": f"{corpus.folder}-copies/a/1.txt"}
    first = run(*command, *endpoint)
    corpus.shell.s3.delete_object(**place)
    again = run(*command, *endpoint)

    assert (first.code, again.code) == (0, 0)
    assert first.out.splitlines()[-1] == f"3 redacted copies are in {uri}, of which 3 are new"
    assert again.out.splitlines()[-1] == f"3 redacted copies are in {uri}, of which 1 is new"
    head = corpus.shell.s3.head_object(**place)
    assert head["SSEKMSKeyId"] == "alias/copies"
    assert corpus.jobs == 1


def test_copies_can_be_asked_for_after_the_run(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path
) -> None:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    mask = ("--copies", str(tmp_path / "copies"), "--replacement", "<{type}>")
    done = run(*corpus.run(*mask, "--min-score", "0.5"), *endpoint)

    assert done.code == 0
    assert (tmp_path / "copies/a/1.txt").read_text().startswith("Patient: <NAME>,")
    assert corpus.jobs == 1


def test_files_that_were_skipped_are_named_and_the_other_copies_are_written(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path
) -> None:
    corpus.shell.put(f"{corpus.folder}/a/bad.txt", b"\xff")
    done = run(*corpus.run("--yes", "--json", "--copies", str(tmp_path / "copies")), *endpoint)

    assert done.code == 3
    assert f"Not processed: {corpus.folder}/a/bad.txt (INVALID_ENCODING" in done.err
    job, skipped, copies = done.lines
    assert job["job_status"] == "PARTIAL_SUCCESS"
    assert skipped["unprocessed"]["input_key"] == f"{corpus.folder}/a/bad.txt"
    assert copies["copies"]["copies"] == {"written": 3, "already_written": 0}


def test_notes_without_a_copy_are_named(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path
) -> None:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    (tmp_path / "copies" / "a").mkdir(parents=True)
    (tmp_path / "copies" / "a" / "1.txt").write_text("another file")
    done = run(*corpus.run("--json", "--copies", str(tmp_path / "copies")), *endpoint)

    assert done.code == 1
    assert done.error == "1 note has no redacted copy"
    [key] = done.failed
    assert key == f"{corpus.folder}/a/1.txt"
    assert done.failed[key].startswith("CopyError: ")
    assert [line["failed"]["input_key"] for line in done.lines if "failed" in line] == [key]
    assert (tmp_path / "copies" / "a" / "1.txt").read_text() == "another file"
    assert (tmp_path / "copies" / "b" / "3.txt").exists()


def test_the_notes_of_a_job_that_failed_are_missing_and_the_others_are_copied(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path
) -> None:
    refusal = faults.error("InvalidRequestException", "no")
    corpus.shell.server.service.script(refusal, operation="StartPHIDetectionJob")
    command = corpus.run("--yes", "--copies", str(tmp_path / "copies"))
    done = run(*command, *endpoint)

    assert done.code == 1
    assert "job 0: it has no results: the job was not started" in done.error
    assert done.err.splitlines()[-1] == (
        "Fix the causes, then repeat the command with --retry-failed."
    )
    assert run(*command, "--retry-failed", *endpoint).code == 0
    assert (tmp_path / "copies" / "b" / "3.txt").exists()


@pytest.mark.parametrize(
    ("options", "code", "error"),
    [
        (
            ("--copies", "s3://{bucket}/{folder}/b"),
            2,
            "--copies must not overlap the location of the notes or of the results",
        ),
        (
            ("--copies", "s3://{bucket}/{folder}-results"),
            2,
            "--copies must not overlap the location of the notes or of the results",
        ),
        (
            ("--copies", "copies", "--copies-kms-key", "alias/copies"),
            2,
            "--copies-kms-key must be left out for a folder on this machine",
        ),
        (
            ("--copies", "s3://{bucket}/copies", "--audit", "s3://{bucket}/copies/a.jsonl"),
            2,
            "--audit must be outside the destination, the notes and the results",
        ),
        (("--copies", "."), 2, "--ledger must not be in --copies"),
        (
            ("--copies", "copies", "--audit", "monday.ledger.plan.json"),
            2,
            "the saved plan and --audit must not be the same path",
        ),
        (("--copies", "/dev/null/x"), 1, "--copies cannot be written"),
        (("--copies", "copies", "--audit", "/dev/null/x"), 1, "--audit cannot be written"),
        (("--copies", "copies", "--audit", "/dev"), 2, "--audit must be a new file or an existing"),
        (("--copies", "copies", "--min-score", "2"), 2, "--min-score (score) must be between"),
        (("--copies", "http://a.example"), 2, "--copies must be a local folder or a URI"),
        (("--audit", "audit.jsonl"), 2, "--audit needs --copies"),
        (("--copies-kms-key", "alias/copies"), 2, "--copies-kms-key needs --copies"),
        (("--min-score", "0.5"), 2, "--min-score needs --copies"),
        (("--same-length",), 2, "An option about what replaces an entity needs --copies"),
    ],
)
def test_copies_that_cannot_be_written_are_refused_before_a_job_starts(
    run: Run,
    corpus: Corpus,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    code: int,
    error: str,
) -> None:
    monkeypatch.chdir(corpus.ledger.parent)
    names = {"bucket": corpus.shell.bucket, "folder": corpus.folder}
    done = run(*corpus.run("--yes", *(each.format(**names) for each in options)), *endpoint)

    assert (done.code, corpus.jobs) == (code, 0)
    assert done.error.startswith(error)
    assert list(corpus.ledger.parent.iterdir()) == []


def test_a_missing_bucket_for_the_copies_ends_the_command(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    done = run(*corpus.run("--copies", "s3://missing-bucket/copies"), *endpoint)

    assert done.code == 1
    assert "the bucket does not exist" in done.error


def test_copies_that_end_early_name_what_failed_and_count_the_rest(
    run: Run,
    corpus: Corpus,
    endpoint: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serving: Serving,
) -> None:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    s3_server = S3Server(corpus.shell.server.storage)
    faults_of_s3 = {
        f"{corpus.folder}/a/1.txt": refused("AccessDenied", 403),
        f"{corpus.folder}/a/2.txt": S3Fault(
            answer=(400, b"<Error><Code>ExpiredToken</Code></Error>")
        ),
    }
    s3_server.rules.append(lambda request: faults_of_s3.get(request.key))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.url)
    with serving(s3_server):
        done = run(*corpus.run("--copies", str(tmp_path / "copies")), *endpoint)

    assert done.code == 1
    assert [*done.failed] == [f"{corpus.folder}/a/1.txt"]
    assert done.error.endswith("Reading ended early: 3 documents were not delivered.")
    assert done.err.splitlines()[-1] == "To continue, repeat the command."


# --- The cost -------------------------------------------------------------------------------------


def test_without_a_terminal_the_cost_has_to_be_confirmed(
    corpus: Corpus, endpoint: Endpoint
) -> None:
    done = corpus.shell.run(*corpus.run(), *endpoint)

    assert done.code == 2
    assert done.error == "Nothing was started. Without a terminal, confirm the cost with --yes."
    assert corpus.jobs == 0
    assert list(corpus.ledger.parent.iterdir()) == []


def test_with_a_closed_standard_input_the_cost_has_to_be_confirmed(
    corpus: Corpus, endpoint: Endpoint
) -> None:
    done = corpus.shell.run_without_stdin(*corpus.run(), *endpoint)

    assert done.code == 2
    assert "Without a terminal, confirm the cost with --yes." in done.err
    assert corpus.jobs == 0


def test_jobs_that_may_cost_too_much_are_not_started(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    done = run(*corpus.run("--yes", "--max-cost", "0.0041"), *endpoint)

    assert done.code == 6
    assert done.error == (
        "This command started no job, because the jobs may cost $0.0042, which is more than"
        " --max-cost $0.0041."
    )
    assert corpus.jobs == 0


def on_terminal(
    corpus: Corpus, answer: str, *arguments: str, on_question: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Run a command on a terminal, answer its question, and return its code and its output."""
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "comprehend_phi", *arguments],
        cwd=corpus.shell.home,
        env=corpus.shell.environment(TERM="xterm", COLUMNS="200"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            ready, _, _ = select.select([master], [], [], 60)
            try:
                part = os.read(master, 4096) if ready else b""
            except OSError:  # Linux reports the end of a terminal like this
                part = b""
            if not part:
                break
            shown += part
            if b"[y/N]" in part:
                on_question()
                os.write(master, f"{answer}\n".encode())
    os.close(master)
    return process.returncode, shown.decode()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_on_a_terminal_the_user_is_asked_and_sees_a_table(
    corpus: Corpus, endpoint: Endpoint
) -> None:
    code, shown = on_terminal(corpus, "n", *corpus.run(), *endpoint)
    assert code == 1
    assert "Start the jobs for up to $0.0042?" in shown
    assert "Nothing was started." in shown
    assert corpus.jobs == 0

    code, shown = on_terminal(corpus, "y", *corpus.run(), *endpoint)
    assert code == 0
    assert "of 1 job has ended" in shown
    assert corpus.jobs == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_run_that_began_while_the_user_was_asked_keeps_its_plan(
    corpus: Corpus, endpoint: Endpoint
) -> None:
    def run_another() -> None:
        corpus.shell.put(f"{corpus.folder}/a/4.txt")
        assert corpus.shell.run(*corpus.run("--yes"), *endpoint).code == 0

    code, shown = on_terminal(corpus, "y", *corpus.run(), *endpoint, on_question=run_another)
    assert code == 1
    assert "Nothing was started, because another run has saved its plan in" in shown
    assert corpus.shell.run(*corpus.run(), *endpoint).code == 0
    assert corpus.jobs == 1


def test_the_plan_is_on_disk_before_its_jobs_start(
    run: Run, corpus: Corpus, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        synced[os.fstat(descriptor).st_ino] = corpus.jobs

    monkeypatch.setattr(os, "fsync", recorded)
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    assert synced[corpus.plan_file.stat().st_ino] == 0


# --- What stops a run -----------------------------------------------------------------------------


def test_an_interrupted_run_says_how_to_continue(slow: Shell, tmp_path: Path) -> None:
    corpus = Corpus(slow, tmp_path)
    with slow.popen(*corpus.run("--yes"), "--endpoint-url", slow.url) as process:
        while "SUBMITTED" not in process.stderr.readline():
            assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        done = finished(process)

    assert done.code == 130
    assert done.err.splitlines()[-2:] == [
        "comprehend-phi: Interrupted. The jobs are not affected.",
        "To continue, repeat the command.",
    ]
    assert time.monotonic() - began < 10
    assert corpus.jobs == 1


@pytest.fixture
def planned(run: Run, corpus: Corpus, endpoint: Endpoint) -> Iterator[Corpus]:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    yield corpus
    assert corpus.jobs == 1


def test_a_ledger_of_another_corpus_is_refused(
    run: Run, planned: Corpus, endpoint: Endpoint
) -> None:
    other = Corpus(planned.shell, planned.ledger.parent)
    done = run(*other.run("--yes"), *endpoint)

    assert (done.code, other.jobs) == (2, 0)
    assert "is a plan for other locations, another role, key or name" in done.error


def test_a_run_with_another_staging_location_is_refused(
    run: Run, corpus: Corpus, endpoint: Endpoint, tmp_path: Path
) -> None:
    corpus.shell.put(f"{corpus.folder}/a//4.txt")  # has to be staged
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    jobs = corpus.shell.server.service.job_ids

    command = [*corpus.run(), *endpoint]
    at = command.index("--staging")
    other = [*command]
    other[at + 1] += "-2"
    for arguments in (other, command[:at] + command[at + 2 :]):
        done = run(*arguments)
        assert done.code == 2
        assert done.error.endswith("is a plan with another --staging location.")
        assert done.err.splitlines()[-1] == (
            "Repeat the command as it was, or choose another --ledger."
        )
    assert corpus.shell.server.service.job_ids == jobs
    assert run(*command).code == 0


def test_a_saved_plan_that_is_damaged_is_refused(
    run: Run, planned: Corpus, endpoint: Endpoint
) -> None:
    for content in (b"{}", b"\xff"):
        planned.plan_file.write_bytes(content)
        done = run(*planned.run(), *endpoint)
        assert done.code == 1
        assert "is not a plan that this version can read" in done.error


def test_a_lost_plan_is_made_again(run: Run, planned: Corpus, endpoint: Endpoint) -> None:
    before = json.loads(planned.plan_file.read_text())
    planned.plan_file.unlink()
    assert run(*planned.run(), *endpoint).code == 0
    assert json.loads(planned.plan_file.read_text())["jobs"] == before["jobs"]


def test_a_damaged_ledger_is_refused_with_advice(
    run: Run, planned: Corpus, endpoint: Endpoint
) -> None:
    planned.ledger.write_text("no database")
    done = run(*planned.run(), *endpoint)

    assert done.code == 1
    assert "Rename the file and run the same plan again" in done.error


def test_the_ledger_names_the_plan(run: Run, corpus: Corpus, endpoint: Endpoint) -> None:
    bad_name = ("--ledger", str(corpus.ledger.with_name("a,b.ledger")))
    done = run("run", *corpus.locations, *bad_name, "--yes", *endpoint)
    assert done.code == 2
    assert done.error.startswith("--name (JobName) must only contain")

    done = run("run", *corpus.locations, *bad_name, "--name", "tuesday", "--yes", *endpoint)
    assert done.code == 0


# --- abandon --------------------------------------------------------------------------------------


def test_abandon_deletes_the_staged_copies_and_prints_how_the_jobs_ended(
    run: Run, corpus: Corpus, endpoint: Endpoint
) -> None:
    corpus.shell.put(f"{corpus.folder}/a//4.txt")  # has to be staged
    ran = run(*corpus.run("--yes", "--keep-staged"), *endpoint)
    copies = {"Bucket": corpus.shell.bucket, "Prefix": f"{corpus.folder}-staging"}
    assert corpus.shell.s3.list_objects_v2(**copies)["KeyCount"] > 0

    done = run("abandon", str(corpus.ledger), *endpoint)

    assert (done.code, done.out) == (0, ran.out)
    assert corpus.shell.s3.list_objects_v2(**copies)["KeyCount"] == 0
    assert run("abandon", str(corpus.ledger), "--json", *endpoint).lines[0]["index"] == 0


def test_abandon_fails_if_a_job_is_lost(run: Run, corpus: Corpus, endpoint: Endpoint) -> None:
    assert run(*corpus.run("--yes"), *endpoint).code == 0
    corpus.lose()
    done = run("abandon", str(corpus.ledger), "--json", *endpoint)

    assert (done.code, done.json["is_lost"]) == (1, True)
    assert done.error.startswith("1 lost job was not stopped.")


def test_abandon_needs_the_plan_of_a_run(run: Run, tmp_path: Path, endpoint: Endpoint) -> None:
    done = run("abandon", str(tmp_path / "monday.ledger"), *endpoint)

    assert done.code == 2
    assert done.error.startswith("There is no run to abandon: ")
    assert list(tmp_path.iterdir()) == []
