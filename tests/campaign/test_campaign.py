"""70 schedules of folders and 14 of a corpus, and a check that broken promises are noticed.

The seeds are fixed. `make campaign` runs 2,000 schedules. CONTRIBUTING.md explains how to run one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1]
# The campaign is a package in HERE, which contains no other package.
IMPORTS_FROM_HERE = {**os.environ, "PYTHONSAFEPATH": ""}


def campaign(directory: Path, *options: str) -> tuple[int, Any, str]:
    """Run a campaign in its own process; return its exit code, figures and complaints."""
    figures = directory / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "campaign", "--json", figures, *options],
        cwd=HERE,
        env=IMPORTS_FROM_HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert figures.exists(), done.stderr
    return done.returncode, json.loads(figures.read_text("utf-8")), done.stderr


def printed(code: str, *arguments: object) -> str:
    """Run a program that can import the campaign and return its output."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=HERE, env=IMPORTS_FROM_HERE, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The figures of 70 schedules."""
    where = tmp_path_factory.mktemp("campaign")
    code, figures, complaints = campaign(where, "--kind", "folders", "--seeds", "0-69")
    assert (code, complaints) == (0, "")
    return figures


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The figures of 14 schedules of a corpus. The last four once made a difference."""
    where = tmp_path_factory.mktemp("corpus")
    seeds = "379-388,1031,1209,1258,2360"
    code, figures, complaints = campaign(where, "--kind", "corpus", "--seeds", seeds)
    assert (code, complaints) == (0, "")
    return figures


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The complaints of the campaign about each way to break the program."""
    code, noticed, complaints = campaign(tmp_path_factory.mktemp("rehearsal"), "--rehearse")
    assert (code, complaints) == (0, "")
    return noticed


class TestSchedules:
    def test_there_are_no_differences(self, figures: dict[str, Any]) -> None:
        assert figures["schedules"] == 70
        assert figures["differences"] == []

    def test_every_start_made_one_job(self, figures: dict[str, Any]) -> None:
        assert figures["starts"] == figures["jobs"] > 100

    def test_every_document_is_redacted_or_reported(self, figures: dict[str, Any]) -> None:
        named = figures["unprocessed"] + figures["withdrawn"] + figures["changed"]
        assert figures["redacted"] + named == figures["documents_in"]
        assert figures["redacted"] == figures["clean"] > 100

    def test_every_exception_comes_from_this_package(self, figures: dict[str, Any]) -> None:
        assert figures["untyped"] == 0

    def test_no_exception_repr_log_record_warning_or_traceback_contains_a_canary(
        self, figures: dict[str, Any]
    ) -> None:
        """The leak audit. It is only meaningful if there were texts from each channel."""
        assert figures["sightings"] == {}
        for channel in ("exception", "log record", "repr", "traceback", "warning"):
            assert figures["searched"][channel] > 50, channel

    def test_programs_were_killed_and_interrupted_and_gave_up(
        self, figures: dict[str, Any]
    ) -> None:
        assert figures["kills"] > 50
        assert figures["gave_up"] > 25
        assert figures["interrupted"] > 10

    def test_every_planned_event_happened(self, figures: dict[str, Any]) -> None:
        code = (
            "from campaign.plan import *; from campaign.program import EVENTS;"
            "print(*EVENTS, *INTERRUPTS, *CREDENTIALS, *CHANGES, sep=';')"
        )
        assert set(figures["events"]) == set(printed(code).split(";"))

    def test_results_were_read_through_both_transports(self, figures: dict[str, Any]) -> None:
        assert figures["attempts"]["S3 requests"] > 500
        assert figures["attempts"]["S3 requests through obstore"] > 100

    def test_every_kind_of_fault_was_met(self, figures: dict[str, Any]) -> None:
        known = printed("from campaign.plan import *; print(*KINDS, *S3_KINDS, sep=';')")

        assert set(figures["faults"]) == set(known.split(";"))


class TestOfACorpus:
    def test_every_start_makes_exactly_one_job(self, corpus: dict[str, Any]) -> None:
        assert corpus["jobs"] == corpus["starts"] > 30

    def test_every_note_is_copied_or_named(self, corpus: dict[str, Any]) -> None:
        assert corpus["differences"] == []
        assert corpus["clean"] == corpus["redacted"] > 50
        assert corpus["unprocessed"] > 10

    def test_every_exception_is_typed(self, corpus: dict[str, Any]) -> None:
        assert corpus["untyped"] == 0

    def test_nothing_contains_a_canary(self, corpus: dict[str, Any]) -> None:
        assert corpus["sightings"] == {}
        for channel in ("message of a job", "report", "bytes of ledgers", "bytes of audit files"):
            assert corpus["searched"][channel] >= 10, channel

    def test_programs_were_killed_and_copies_continued(self, corpus: dict[str, Any]) -> None:
        assert corpus["kills"] > 3
        assert corpus["gave_up"] > 5

    def test_users_did_everything_that_they_can_do(self, corpus: dict[str, Any]) -> None:
        code = "from campaign.corpus_program import *; print(*CORPUS_EVENTS, sep=';')"
        assert set(printed(code).split(";")) <= set(corpus["events"])

    def test_programs_were_killed_while_s3_wrote_a_copy(self, corpus: dict[str, Any]) -> None:
        assert corpus["faults"]["killed while S3 writes a redacted copy"] > 0


@pytest.mark.parametrize(
    ("defect", "complaint"),
    [
        ("new token", "made 2 jobs"),
        ("lost document", "redacted 1 times, unprocessed 0 times, not delivered"),
        ("unredacted document", "is not redacted correctly"),
        ("leak in an exception", "canary sightings in: exception"),
        ("leak in a hidden cause", "canary sightings in: exception"),
        ("leak in a log record", "canary sightings in: log record"),
        ("leak in a repr", "canary sightings in: repr"),
        ("leak in a warning", "canary sightings in: warning"),
        ("untyped exception", "untyped: KeyError: 'from outside'"),
        ("untyped exception in a thread", "untyped: KeyError: 'from outside'"),
        ("never done", "did not finish"),
        ("new token in a fork", "made 2 jobs"),
        ("answer of another", "wrong: a fork received another job"),
        ("fork that dies", "1 forks, 0 succeeded"),
        ("changed note not named", "not delivered, failed with nothing"),
        ("changed note passed on", "delivered, failed with SourceChangedError"),
        ("deaf to interrupts", "ended with code -14"),
        (
            "start of unknown outcome",
            "the outcome of a start that was never sent is reported as unknown",
        ),
        ("impatient wait", "wrong: a wait ended because of a passing fault"),
        ("new name", "notes were processed by several jobs"),
        ("staged copies left", "staged copies are left"),
        ("key in the ledger", "ledger-0 contains a canary or a key"),
        ("note not named", "(copied, unprocessed, failed, without results) is (False, 0, False"),
        ("leak in a message", "canary sightings in: message of a job"),
        ("lost copy", "(copied, unprocessed, failed, without results) is (False, 0, False"),
        ("unredacted copy", "a copy is not redacted correctly"),
        ("failed jobs not started again", "its job has no results, for no reason"),
        (
            "skipped file not run again",
            "is (False, 1, False, False), not (True, 0, False, False)",
        ),
        (
            "abandoned jobs run on",
            "wrong: after a plan was abandoned, jobs run or there are staged copies",
        ),
        (
            "abandoned jobs not stopped",
            "wrong: a plan was abandoned, but its jobs were not stopped",
        ),
        ("decisions ignored", "a copy is not redacted correctly"),
        (
            "unreviewed note copied",
            "is (True, 0, False, False), not (False, 0, True, False)",
        ),
        ("part not read", "is (False, 0, False, False), not (True, 0, False, False)"),
    ],
)
def test_a_broken_promise_is_noticed(
    defect: str, complaint: str, noticed: dict[str, list[str]]
) -> None:
    assert any(complaint in what for what in noticed[defect])


def test_a_difference_names_its_seed_and_fails_the_campaign(tmp_path: Path) -> None:
    defect = ("--defect", "lost document")

    code, figures, complaints = campaign(tmp_path, "--kind", "folders", "--seeds", "12", *defect)

    assert code == 1
    assert figures["differences"]
    assert complaints.splitlines() == figures["differences"]
    assert all(line.startswith("folders, seed 12: ") for line in complaints.splitlines())


def test_a_line_that_was_cut_by_a_kill_is_searched(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from campaign.evidence import *;"
        "evidence = Evidence(Path(sys.argv[1])); evidence.add('repr', CANARIES[0]);"
        "os.truncate(sys.argv[1], os.path.getsize(sys.argv[1]) - 2); evidence.add('repr', 'fine');"
        "found = examine(Path(sys.argv[1])); print(dict(found.searched), dict(found.sightings))"
    )

    seen = "{'cut by a kill': 1, 'repr': 1} {'cut by a kill': 1}"
    assert printed(code, tmp_path / "evidence") == seen
