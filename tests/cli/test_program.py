"""The program itself: its help, what it loads, and what it says if something is not installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from comprehend_phi.cli.exits import ExitCode

from .conftest import Run, Shell

ROOT = Path(__file__).parents[2]

CODES = {
    "done": 0,
    "failed": 1,
    "wrong usage": 2,
    "partial success": 3,
    "timed out": 4,
    "the input has errors": 5,
    "the job may cost more than --max-cost": 6,
    "interrupted": 130,
    "the program reading the output closed the pipe": 141,
}

# The commands, and the exit codes that not every command has.
COMMANDS = {
    "detect": {3, 4, 5, 6},
    "start": {5, 6},
    "check": {5},
    "status": set[int](),
    "list": set[int](),
    "wait": {3, 4},
    "stop": set[int](),
    "results": {3},
    "redact": {3},
    "review": {3},
}
COMMON = {0, 1, 2, 130, 141}


def codes_in(help_text: str) -> set[int]:
    """Return the exit codes that a help text lists."""
    return {int(code) for code in re.findall(r"^ +(\d+)  ", help_text, re.MULTILINE)}


def test_the_documentation_lists_every_exit_code_with_its_meaning() -> None:
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    table = {int(code): text for code, text in re.findall(r"^\| (\d+) \| (.*) \|$", page, re.M)}

    assert list(table) == list(ExitCode)
    meanings = {code.value: code.meaning for code in ExitCode}
    for meaning, code in CODES.items():
        assert meanings[code].startswith(meaning)
        assert table[code].startswith(meaning.replace("--max-cost", "`--max-cost`"))


def test_help_names_every_command_and_every_exit_code(shell: Shell) -> None:
    done = shell.run("--help")

    assert (done.code, done.err) == (0, "")
    assert [name for name in COMMANDS if f"\n  {name} " not in done.out] == []
    assert codes_in(done.out) == set(CODES.values()) == set(ExitCode)
    for meaning, code in CODES.items():
        assert re.search(rf"\n +{code}  {meaning}", done.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_lists_its_options_and_exit_codes(command: str, run: Run) -> None:
    done = run(command, "--help")

    assert done.code == 0
    for option in ("--json", "--region", "--profile", "--endpoint-url"):
        assert f"\n  {option} " in done.out
    assert codes_in(done.out) == COMMON | COMMANDS[command]
    # Braces would look like a choice.
    assert not set("{}") & set(done.out.splitlines()[0])


@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_help_of_many_jobs_says_that_the_role_is_required(command: str, run: Run) -> None:
    [described] = run(command, "--help").out.partition("--role-arn")[2].split("--kms-key")[:1]

    assert "Required." in described


def test_the_script_and_the_module_are_the_same_program(shell: Shell) -> None:
    script = Path(sys.executable).with_name("comprehend-phi")
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("comprehend-phi 0.")
    assert done.stdout == shell.run("--version").out


def loaded(shell: Shell, code: str) -> set[str]:
    ending = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = shell.run(python=("-c", code + ending))
    assert done.code == 0
    return set(done.out.splitlines()[-1].split())


def test_importing_the_package_loads_no_library_of_the_command_line(shell: Shell) -> None:
    assert not {"click", "rich", "jinja2"} & loaded(shell, "import comprehend_phi")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_do_not_load_boto3(option: str, shell: Shell) -> None:
    found = loaded(shell, f"from comprehend_phi.cli import commands; commands.main(['{option}'])")

    assert "click" in found
    assert not {"boto3", "botocore", "moto", "jinja2"} & found


def without(module: str) -> tuple[str, ...]:
    """Return the arguments of a Python in which this module is not installed."""
    code = f"import sys; sys.modules['{module}'] = None"
    return ("-c", f"{code}; from comprehend_phi.__main__ import main; main()")


def test_a_missing_library_is_named_with_the_extra_that_installs_it(shell: Shell) -> None:
    done = shell.run("--version", python=without("click"))

    assert done.code == 2
    assert done.err == (
        "comprehend-phi: the command line needs the module click, which the extra `cli` of"
        " comprehend_phi installs\n"
    )


def test_local_names_the_missing_module_and_the_extra_that_installs_it(shell: Shell) -> None:
    done = shell.run("detect", "--local", ".", "../out", python=without("moto"))

    assert done.code == 2
    assert done.error == (
        "--local needs the module moto, which the extra `testing` of comprehend_phi installs"
    )


def test_no_job_is_started_for_a_review_if_jinja2_is_missing(shell: Shell) -> None:
    before = shell.server.service.job_ids
    done = shell.run(
        "detect", *shell.start("good"), "--review", "page.html", python=without("jinja2")
    )

    assert done.code == 2
    assert "the review page needs the module jinja2" in done.error
    assert shell.server.service.job_ids == before
