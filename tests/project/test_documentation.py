"""The examples of the README and of docs/ run as written, and lists in documents are complete."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from starlette.testclient import TestClient

import comprehend_phi
from comprehend_phi import (
    InputDataConfig,
    Job,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
    TransportError,
    corpus,
    review,
    tables,
    testing,
)
from comprehend_phi.review import Decisions, DocumentDecisions
from comprehend_phi.testing import Fault, LocalServer, LocalService, faults, local_service

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
SELF_TESTED = ("README.md", "docs/tutorial.md")
PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in DOCS)]
NOTE = b"Seen by Dr. Iris Example on 2031-02-03.\r\nPatient: Noor Sample, phone (555) 555-0142\r\n"


def python_blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def service() -> Iterator[LocalService]:
    """The buckets of the examples, and jobs that end at once, so that no example has to wait."""
    with local_service(job_seconds=0) as service:
        s3: Any = boto3.client("s3")
        s3.create_bucket(Bucket="hospital-notes")
        s3.create_bucket(Bucket="phi-results")
        s3.create_bucket(Bucket="redacted-notes")
        s3.create_bucket(Bucket="staged-notes")
        s3.put_object(Bucket="hospital-notes", Key="2031/02/a note.txt", Body=NOTE)
        s3.put_object(Bucket="hospital-notes", Key="2031/02/no text.txt", Body=b"\xff")
        yield service


def a_request() -> StartPHIDetectionJobRequest:
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="hospital-notes", s3_key="2031/02"),
        output_data_config=OutputDataConfig(s3_bucket="phi-results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/phi-results",
    )


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Take back what an example sets up for its whole process."""

    manager = logging.root.manager
    known = dict(manager.loggerDict)
    loggers = [logging.root, *(each for each in known.values() if isinstance(each, logging.Logger))]
    before = [(log.level, log.propagate, log.handlers[:], log.filters[:]) for log in loggers]
    yield
    for log, (level, propagate, handlers, filters) in zip(loggers, before, strict=True):
        log.setLevel(level)
        log.propagate, log.handlers[:], log.filters[:] = propagate, handlers, filters
    for name in manager.loggerDict.keys() - known.keys() - sys.modules.keys():
        del manager.loggerDict[name]


def save_decisions() -> None:
    """Save the files of two reviewers in the working directory, and the one that they agreed on."""
    digest = sha256(NOTE).hexdigest()
    for name, key in (("first", "2031/02/a note.txt"), ("second", "2031/02/b note.txt")):
        decided = DocumentDecisions(
            input_key=key, sha256=digest, reviewed=True, rejected=(), added=()
        )
        Decisions((decided,)).save(f"{name}.json")
    Path("decisions.json").write_bytes(Path("first.json").read_bytes())


# The tutorial and the README have tests of their own, which run them as their reader would.
@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("page", [page for page in PAGES if page not in SELF_TESTED])
def test_the_examples_of_a_page_run(
    page: str, service: LocalService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_decisions()
    with PHIClient() as client:
        request = a_request()
        job = client.submit(request)
        names: dict[str, Any] = {"client": client, "request": request, "job": job}
        names.update(job_id=job.job_id, results=job.results())
        for block in python_blocks(page):
            exec(compile(block, page, "exec"), names)


def test_the_readme_prints_what_it_says(
    service: LocalService,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    quickstart, details, pipeline, retry, mistake = python_blocks("README.md")

    names: dict[str, Any] = {}
    s3: Any = boto3.client("s3")
    for block in (quickstart, details, pipeline, retry, mistake):
        exec(compile(block, "README.md", "exec"), names)
        if block is pipeline:
            s3.put_object(Bucket="hospital-notes", Key="2031/02/no text.txt", Body=NOTE)

    printed = capsys.readouterr().out.splitlines()
    seen, patient, _, counts, unprocessed, skipped, refusal = printed
    assert skipped == "2031/02/no text.txt\tINVALID_ENCODING"
    copies = s3.list_objects_v2(Bucket="redacted-notes")["Contents"]
    assert [copy["Key"] for copy in copies] == ["backlog/a note.txt", "backlog/no text.txt"]
    assert len([line for line in f"{pipeline}{retry}".splitlines() if line]) == 12
    assert seen == "Seen by Dr. [NAME] on [DATE]."
    assert patient == "Patient: [NAME], phone [PHONE_OR_FAX]"
    assert counts == "Counter({'NAME': 2, 'DATE': 1, 'PHONE_OR_FAX': 1})"
    assert unprocessed == "2031/02/no text.txt INVALID_ENCODING"
    in_comments = mistake.partition("print(error)\n")[2].replace("# ", "").split()
    assert " ".join(in_comments) == refusal


def test_the_tutorial_prints_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    with LocalServer() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
        for block, printed in blocks_and_output("docs/tutorial.md"):
            exec(compile(block, "docs/tutorial.md", "exec"), names)
            assert capsys.readouterr().out == printed


def blocks_and_output(page: str) -> list[tuple[str, str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(python|text)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    following = [*fenced[1:], ("", "")]
    return [
        (block, output if its_kind == "text" else "")
        for (kind, block), (its_kind, output) in zip(fenced, following, strict=True)
        if kind == "python"
    ]


def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    sphinx = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [*sphinx, "--doctree-dir", tmp_path / "trees", ROOT / "docs", tmp_path / "html"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (built.returncode, built.stderr) == (0, "")
    assert (tmp_path / "html" / "index.html").exists()


@pytest.mark.parametrize("module", [comprehend_phi, corpus, review, tables, testing])
def test_the_reference_has_every_public_name(module: ModuleType) -> None:
    reference = "".join(
        path.read_text(encoding="utf-8") for path in DOCS if "reference" in path.parts
    )
    described = set(re.findall(r"^\.\. auto\w+:: (\w+)$", reference, re.MULTILINE))
    described |= {"__version__", "faults", "Fault"}  # faults: shown as a whole module

    assert [name for name in module.__all__ if name not in described] == []


def test_the_design_page_shows_the_layers_that_are_checked() -> None:
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]

    assert "```text\n" + "\n".join(layers) + "\n```" in design


def test_the_design_page_names_every_module() -> None:
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    package = ROOT / "comprehend_phi"
    modules = [
        path.relative_to(package).with_suffix("").as_posix()
        for path in package.rglob("*.py")
        if "testing" not in path.parts and path.stem != "__init__"
    ]

    assert [name for name in modules if f"`{name}`" not in design] == []


@pytest.fixture
def start_or_resume(service: LocalService) -> Callable[[PHIClient, str, Path], Job]:
    """The program in docs/waiting-and-resuming.md."""
    [block] = [b for b in python_blocks("docs/waiting-and-resuming.md") if "def start_or" in b]
    names: dict[str, Any] = {}
    exec(compile(block, "docs/waiting-and-resuming.md", "exec"), names)
    program: Callable[[PHIClient, str, Path], Job] = names["start_or_resume"]
    return program


def test_the_resuming_program_starts_one_job_when_it_crashes_before_it_learns_the_job_id(
    start_or_resume: Callable[[PHIClient, str, Path], Job], service: LocalService, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    service.script(faults.reset_after())
    with PHIClient(retry=comprehend_phi.RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(TransportError):
            start_or_resume(client, "2031/02", state)
        job = start_or_resume(client, "2031/02", state)

    assert service.job_ids == (job.job_id,)


def test_the_resuming_program_starts_one_job_when_it_is_run_again_after_the_start(
    start_or_resume: Callable[[PHIClient, str, Path], Job], service: LocalService, tmp_path: Path
) -> None:
    with PHIClient() as client:
        first = start_or_resume(client, "2031/02", tmp_path / "state.json")
        again = start_or_resume(client, "2031/02", tmp_path / "state.json")

    assert first.job_id == again.job_id
    assert service.attempts("StartPHIDetectionJob") == 1


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_the_links_of_a_page_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)  # without what points to a heading
    relative = [link for link in links if "://" not in link]

    assert [link for link in relative if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    # These only include the files of the same names at the top of the repository.
    pages -= {"docs/changelog.md", "docs/contributing.md", "docs/security.md"}
    assert pages - set(re.findall(r"\]\(([^)#]+)", readme)) == set()


def test_the_links_of_the_readme_are_absolute_on_a_package_index() -> None:
    readme = metadata("comprehend_phi").json["description"]
    links = re.findall(r"\]\(([^)]+)\)", str(readme))

    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_the_first_screen_of_the_readme_is_enough_to_try_the_package() -> None:
    screen = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    install, example, commands = re.findall(r"```\w+\n(.*?)```", screen, re.DOTALL)

    assert len(screen.splitlines()) <= 45
    assert "pip install" in install
    assert len(example.splitlines()) <= 14
    assert [line.split()[1:3] for line in commands.splitlines()] == [
        ["make", "demo"],
        ["make", "test"],
    ]
    assert "$14,000" in screen


@pytest.fixture
def web_service(service: LocalService) -> Iterator[TestClient]:
    """The web service in docs/async.md, within this process."""
    names: dict[str, Any] = {}
    for block in python_blocks("docs/async.md"):
        if "Starlette(" in block:
            exec(compile(block, "docs/async.md", "exec"), names)
    with TestClient(names["app"]) as http:
        yield http


def test_the_web_service_starts_a_job_and_reports_its_status(web_service: TestClient) -> None:
    started = web_service.post("/folders/2031/02", headers={"Idempotency-Key": "key-1"})
    assert started.status_code == 202

    reported = web_service.get(f"/jobs/{started.json()['job_id']}")
    assert reported.json() == {"status": "PARTIAL_SUCCESS", "ended": True}


def test_the_web_service_starts_one_job_for_a_key_that_is_sent_twice(
    web_service: TestClient, service: LocalService
) -> None:
    headers = {"Idempotency-Key": "key-1"}
    answers = [web_service.post("/folders/2031/02", headers=headers) for _ in range(2)]
    assert service.job_ids == (answers[0].json()["job_id"],)
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    ("key", "status"), [("", 422), ("no key\u00e4".encode("latin-1"), 422), ("x" * 65, 422)]
)
def test_the_web_service_refuses_a_bad_key_without_quoting_it(
    web_service: TestClient, service: LocalService, key: str, status: int
) -> None:
    answer = web_service.post("/folders/2031/02", headers={"Idempotency-Key": key})
    assert answer.status_code == status
    assert "client_request_token" in answer.json()["error"]
    assert "no key" not in answer.text
    assert service.job_ids == ()


def test_the_web_service_asks_to_come_back_when_all_slots_are_taken(
    web_service: TestClient, service: LocalService
) -> None:
    service.script(faults.job_limit())
    answer = web_service.post("/folders/2031/02", headers={"Idempotency-Key": "key-1"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")


@pytest.mark.parametrize("job_id", ["0123456789abcdef0123456789abcdef", "no!id"])
def test_the_web_service_knows_no_other_jobs(web_service: TestClient, job_id: str) -> None:
    assert web_service.get(f"/jobs/{job_id}").status_code == 404


@pytest.fixture
def redacting_service(service: LocalService) -> Iterator[TestClient]:
    """The web service in docs/one-text.md, within this process."""
    names: dict[str, Any] = {}
    for block in python_blocks("docs/one-text.md"):
        if "Starlette(" in block:
            exec(compile(block, "docs/one-text.md", "exec"), names)
    with TestClient(names["app"]) as http:
        yield http


def test_the_redacting_service_redacts_a_note_while_the_user_waits(
    redacting_service: TestClient,
) -> None:
    answer = redacting_service.post("/redact", content=NOTE * 500)

    assert answer.status_code == 200
    line_ends = "Seen by Dr. [NAME] on [DATE].\r\nPatient: [NAME], phone [PHONE_OR_FAX]\r\n"
    assert answer.text == line_ends * 500


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.error("AccessDeniedException", "Iris Example"), 503),
        (faults.answer(200, b'{"Entities": [], "PaginationToken": "Iris"}'), 503),
    ],
)
def test_the_redacting_service_returns_no_text_if_the_call_fails(
    redacting_service: TestClient, service: LocalService, fault: Fault, status: int
) -> None:
    service.script(fault)
    answer = redacting_service.post("/redact", content=NOTE)

    assert answer.status_code == status
    assert "Iris" not in answer.text


def test_the_redacting_service_refuses_what_is_not_utf8(
    redacting_service: TestClient, service: LocalService
) -> None:
    answer = redacting_service.post("/redact", content=b"Iris \xff")

    assert (answer.status_code, service.attempts("DetectPHI")) == (422, 0)
    assert "Iris" not in answer.text


# --- The list of dependencies ---------------------------------------------------------------------


def needed_by(package: str) -> set[str]:
    """Its dependencies and theirs, without extras, as they are installed here."""
    found: set[str] = set()
    for requirement in requires(package) or ():
        name = re.split(r"[^A-Za-z0-9_-]", requirement)[0].lower()
        if "extra ==" not in requirement:
            with suppress(PackageNotFoundError):  # it is for other versions of Python
                found |= needed_by(name) | {name}
    return found


def test_the_list_of_dependencies_is_complete() -> None:
    table = (ROOT / "SECURITY.md").read_text("utf-8").partition("## Dependencies")[2]
    rows = re.findall(r"^\| ([a-z].*?) \|", table, re.MULTILINE)

    assert {name for row in rows for name in row.split(", ")} == needed_by("comprehend_phi")
