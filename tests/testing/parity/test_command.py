"""The command `python -m comprehend_phi.testing.parity`."""

from __future__ import annotations

import errno
import io
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NoReturn

import pytest

from comprehend_phi.testing import FakeClock, LocalServer, Rules, faults
from comprehend_phi.testing.parity.command import main
from comprehend_phi.testing.parity.questions import QUESTIONS

from ...conftest import START

BUCKET = "quellwasser-notes"
ROLE = "arn:aws:iam::123456789012:role/service-role/zinnia-reads-notes"
KEY = "arn:aws:kms:us-east-1:123456789012:alias/zinnia-key"
TARGET = ["--role-arn", ROLE, "--bucket", BUCKET]

# These identify the account. No output contains them.
CANARIES = ("quellwasser", "zinnia", "123456789012", "arn:")


class InterruptingClock(FakeClock):
    """A clock that interrupts every sleep."""

    def sleep(self, seconds: float) -> None:
        raise KeyboardInterrupt


class Console:
    """A folder and an account in which the command runs."""

    def __init__(
        self,
        folder: Path,
        clock: FakeClock,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.report = folder / "report.json"
        self._clock = clock
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def serve(self, server: LocalServer) -> LocalServer:
        self._monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
        return server

    def run(
        self, *options: str, answer: str | io.StringIO = "", clock: FakeClock | None = None
    ) -> tuple[int, str, str]:
        """Run the command, and return its exit code, its output and its messages."""
        stdin = io.StringIO(answer) if isinstance(answer, str) else answer
        self._monkeypatch.setattr(sys, "stdin", stdin)
        try:
            arguments = [*TARGET, "--state", str(self.state), *options]
            code = main(arguments, clock=clock or self._clock)
        except SystemExit as ended:
            code = int(str(ended.code))
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture
def console(
    tmp_path: Path,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Console:
    return Console(tmp_path, clock, monkeypatch, capsys)


@pytest.fixture
def serve(console: Console, clock: FakeClock) -> Generator[Callable[..., LocalServer], None, None]:
    servers: list[LocalServer] = []

    def serve(rules: Rules | None = None, *, has_bucket: bool = True) -> LocalServer:
        server = LocalServer(clock=clock, job_seconds=20, rules=rules)
        servers.append(server.__enter__())
        if has_bucket:
            server.storage.create_bucket(BUCKET)
        return console.serve(server)

    yield serve
    for server in servers:
        server.__exit__(None, None, None)


# --- The plan -------------------------------------------------------------------------------------


def test_a_dry_run_prints_plan_and_cost_without_credentials(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "comprehend_phi.testing.parity", "--dry-run"],
        env={"PATH": "", "HOME": str(tmp_path), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first == "39 questions, 8 jobs, about 7 minutes:"
    assert "Not asked: kms-key-forms (NEEDS_KMS_KEY)" in done.stdout
    assert last.startswith("AWS may bill up to $0.")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_needs_no_region(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "--kms-key", "alias/any", "--slots", "4"]) == 0
    assert capsys.readouterr().out.startswith("40 questions, 10 jobs, about 21 minutes:")


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "maybe\n"])
def test_nothing_starts_without_a_yes(
    answer: str, console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    code, out, err = console.run(answer=answer)
    assert code == 4
    assert "AWS may bill up to" in out
    assert err.endswith("Nothing was started.\n")
    assert (len(server.service.received), server.storage.keys(BUCKET)) == (0, [])
    assert not console.state.exists()


class InterruptedAnswer(io.StringIO):
    """An input during which the user presses Ctrl-C."""

    def readline(self, size: int | None = -1, /) -> NoReturn:
        raise KeyboardInterrupt


def test_control_c_instead_of_an_answer_says_that_nothing_was_started(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    code, _, err = console.run(answer=InterruptedAnswer())
    assert (code, err) == (130, "Interrupted. Nothing was started.\n")
    assert (len(server.service.received), console.state.exists()) == (0, False)


def test_a_pipe_gets_the_plan_before_anything_starts(
    console: Console, serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    pipe = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(pipe))
        code, _, _ = console.run("--yes", "--max-cost", "0.01", clock=InterruptingClock())
        assert code == 130
        assert b"AWS may bill up to" in pipe.getvalue()


def test_the_cost_is_rounded_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "--max-cost", "0.005"]) == 0
    assert "AWS may bill up to $0.01 for" in capsys.readouterr().out


def test_a_yes_starts_the_run(console: Console, serve: Callable[..., LocalServer]) -> None:
    serve()
    code, out, _ = console.run("--max-cost", "0", answer="Yes\n")
    assert code == 0
    assert "same          error-status" in out


# --- The report -----------------------------------------------------------------------------------


def test_without_a_difference_the_report_says_same_everywhere(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    code, out, err = console.run(
        "--yes", "--kms-key", KEY, "--json", str(console.report), "--region", "eu-west-1"
    )
    assert code == 0
    report = json.loads(console.report.read_text())
    assert report.keys() == {"version", "comprehend_phi", "region", "day", "questions"}
    assert report["region"] == "eu-west-1"
    rows = report["questions"]
    assert [row["question"] for row in rows] == [question.name for question in QUESTIONS]
    assert {row["result"] for row in rows} == {"same"}
    assert "Everything that the run wrote was deleted." in err
    assert server.storage.keys(BUCKET) == []
    assert not console.state.exists()
    for text in (out, err, console.report.read_text()):
        assert [canary for canary in CANARIES if canary in text.lower()] == []


def test_a_difference_exits_with_1_and_names_the_rule(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    serve(Rules(input_key="prefix", list_name="part-123456789012-quellwasser-notes.json"))
    code, out, _ = console.run("--yes", "--max-cost", "0.06", "--json", str(console.report))
    assert code == 1
    rows = {row["question"]: row for row in json.loads(console.report.read_text())["questions"]}
    assert rows["folder-or-prefix"] == {
        "question": "folder-or-prefix",
        "text": "Is the input key a folder or a prefix?",
        "rule": "input_key",
        "ours": "folder",
        "observed": "prefix",
        "result": "different",
        "reason": None,
        "detail": "",
    }
    assert rows["list-name"]["observed"] == "part-<account>-<bucket>.json"
    assert rows["kms-key-forms"]["reason"] == "NEEDS_KMS_KEY"
    assert rows["latin-1"]["reason"] == "OVER_BUDGET"
    assert "different     folder-or-prefix" in out
    assert "not answered  kms-key-forms" in out


def test_a_question_without_an_answer_exits_with_3(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    server.service.script(
        *[faults.error("AccessDeniedException", f"{ROLE} may not")] * 9, operation=START
    )
    code, out, _ = console.run("--yes", "--max-cost", "0.01", "--json", str(console.report))
    assert code == 3
    assert "JOB_NOT_STARTED AccessDeniedException" in out
    assert "zinnia" not in console.report.read_text()


# --- Endings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [KEY, "alias/zinnia-key", "zinnia-key"])
def test_no_message_shows_a_key_in_any_form(
    form: str, console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    server.service.script(faults.error("ExpiredTokenException", f"No {form}."), operation=START)
    code, _, err = console.run("--yes", "--max-cost", "0.01", "--kms-key", KEY)
    assert code == 4
    assert "<kms-key>" in err
    assert "zinnia" not in err


def test_an_interrupted_run_says_how_to_continue_and_continues(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    server.service.script(faults.error("ExpiredTokenException", ROLE), operation=START)
    code, _, err = console.run("--yes", "--max-cost", "0.01")
    assert code == 4
    assert "run the same command again" in err
    assert "zinnia" not in err
    assert stat.S_IMODE(console.state.stat().st_mode) == 0o600
    assert "zinnia" not in console.state.read_text()
    code, _, _ = console.run("--yes", "--max-cost", "0.01")
    assert code == 0


def test_control_c_keeps_the_state(console: Console, serve: Callable[..., LocalServer]) -> None:
    server = serve()
    code, _, err = console.run("--yes", "--max-cost", "0.01", clock=InterruptingClock())
    assert code == 130
    assert "Interrupted. To continue, run the same command again." in err
    assert len(server.service.job_ids) == 1
    code, out, err = console.run("--clean-up")
    assert (code, out) == (0, "")
    assert server.storage.keys(BUCKET) == []
    assert not console.state.exists()


def test_a_run_that_cannot_write_its_notes_cleans_up_and_ends(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    serve(has_bucket=False)
    code, out, err = console.run("--yes")
    assert code == 4
    assert "the bucket does not exist" in err
    assert "Everything that the run wrote was deleted." in err
    assert [canary for canary in CANARIES if canary in (out + err).lower()] == []
    # So the same folder can be used for a run with the right bucket.
    assert not console.state.exists()


def test_if_cleaning_up_fails_the_state_is_kept(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    console.run("--yes", "--max-cost", "0.01", clock=InterruptingClock())
    server.service.script(faults.error("AccessDeniedException", f"{ROLE} may not"))
    code, out, err = console.run("--clean-up")
    assert code == 4
    assert "AccessDeniedException" in err
    assert "\nSome files below comprehend-phi-parity/ may remain. To try again, run" in err
    assert [canary for canary in CANARIES if canary in (out + err).lower()] == []
    assert console.run("--clean-up")[0] == 0
    assert server.storage.keys(BUCKET) == []


def test_cleaning_up_needs_the_state_of_a_run(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    code, _, err = console.run("--clean-up")
    assert code == 2
    assert "there is no such file. Pass the state file of the run" in err
    assert len(server.service.received) == 0


class FullDisk(io.StringIO):
    """An output that has room for the plan, but not for the report."""

    def write(self, text: str, /) -> int:
        if "Observed" in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_report_that_cannot_be_printed_keeps_the_answers(
    console: Console, serve: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", FullDisk())
        code, _, err = console.run("--yes", "--max-cost", "0")
    assert code == 4
    assert "\nNo space left on device. To continue, run the same command again." in err
    code, out, _ = console.run("--yes", "--max-cost", "0")
    assert code == 0
    assert "same          error-status" in out


def test_a_report_that_cannot_be_written_keeps_the_answers(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    serve()
    code, _, err = console.run("--yes", "--max-cost", "0", "--json", str(console.folder))
    assert code == 4
    assert "Not a regular file" in err
    code, _, _ = console.run("--yes", "--max-cost", "0", "--json", str(console.report))
    assert code == 0
    assert console.report.exists()


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--role-arn", "zinnia"], "--role-arn"),
        (["--bucket", "Zinnia"], "--bucket"),
        (["--kms-key", ""], "--kms-key"),
        (["--max-cost", "zinnia"], "--max-cost"),
        (["--max-cost", "-1"], "--max-cost"),
        (["--max-cost", "nan"], "--max-cost"),
        (["--slots", "0"], "--slots"),
        (["--slots", "zinnia"], "--slots"),
        (["--profile", "zinnia"], "--profile: there is no such profile"),
        (["--region", "not a region"], "region"),
        (["--state", "/dev/null/state"], "--state"),
    ],
)
def test_wrong_options_are_refused(options: list[str], message: str, console: Console) -> None:
    code, _, err = console.run(*options)
    assert code == 2
    assert message in err


def test_a_run_needs_a_role_and_a_bucket(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "--role-arn and --bucket are required" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{}", '{"version": 1}'])
def test_a_file_that_is_no_state_is_refused(
    content: str, console: Console, serve: Callable[..., LocalServer]
) -> None:
    serve()
    console.state.write_text(content)
    code, _, err = console.run("--yes")
    assert code == 2
    assert "the file is not the state of a run" in err
    assert console.state.read_text() == content


def test_a_state_only_continues_with_the_same_options(
    console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    server.service.script(faults.error("ExpiredTokenException"), operation=START)
    console.run("--yes", "--max-cost", "0.01")
    code, _, err = console.run("--yes", "--max-cost", "0.01", "--region", "eu-west-1")
    assert code == 2
    assert "another role, bucket, key or region" in err


@pytest.mark.parametrize(
    ("key", "forms"),
    [
        (
            "arn:aws:kms:us-east-1:123456789012:key/zinnia",
            ["arn:aws:kms:us-east-1:123456789012:key/zinnia", "zinnia"],
        ),
        ("zinnia", ["arn:aws:kms:us-east-1:123456789012:key/zinnia", "zinnia"]),
        ("alias/zinnia", ["arn:aws:kms:us-east-1:123456789012:alias/zinnia", "alias/zinnia"]),
    ],
)
def test_both_forms_of_a_key_are_tried(
    key: str, forms: list[str], console: Console, serve: Callable[..., LocalServer]
) -> None:
    server = serve()
    code, _, _ = console.run("--yes", "--max-cost", "0.01", "--kms-key", key)
    assert code == 0
    sent = [each.members["KMSKey"] for each in server.service.received if "KMSKey" in each.members]
    assert sent == forms
