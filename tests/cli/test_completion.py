"""Shell completion, as bash asks for it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")

# Ask for completions as bash does when a user presses Tab at the end of the line "$@".
PRESS_TAB = """
source "$0" || exit 1
read -r _ _ _ _ function _ < <(complete -p comprehend-phi)
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() { COMPREPLY+=("<$2>"); }  # bash itself completes these
"$function" comprehend-phi
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """An environment with the script on its path, and without AWS credentials."""
    scripts = Path(sys.executable).parent
    return {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONSAFEPATH": os.environ["PYTHONSAFEPATH"],
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="module")
def script(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash."""
    command = ["comprehend-phi", "completion", "bash"]
    path = tmp_path_factory.mktemp("completion") / "comprehend-phi"
    path.write_bytes(
        subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    )
    return path


@needs_bash
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        (["re"], ["results", "redact", "review"]),
        (["st"], ["start", "status", "stop"]),
        (["--ver"], ["--version"]),
        (["wait", "1", "--poll"], ["--poll-seconds"]),
        (["wait", "1", "--re"], ["--region"]),
        (["list", "--sh"], ["--show-names"]),
        (["list", "--status", "S"], ["SUBMITTED", "STOP_REQUESTED", "STOPPED"]),
        (["list", "--status", "part"], ["PARTIAL_SUCCESS"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["status", ""], []),
        (["detect", ""], []),
        (["start", "s3"], []),
        (["detect", "--local", "no"], ["<dirnames>"]),
        (["detect", "--local", "notes", "o"], ["<dirnames>"]),
        (["detect", "a", "b", "--redact", "r"], ["<dirnames>"]),
        (["detect", "a", "b", "--review", "p"], ["<default>"]),
        (["redact", "1", "c"], ["<dirnames>"]),
        (["review", "1", "p"], ["<default>"]),
        (["detect-text", "n"], ["<default>"]),
    ],
)
def test_tab_completes_in_bash(
    line: list[str], completions: list[str], environment: dict[str, str], script: Path
) -> None:
    shell = ["bash", "--norc", "-c", PRESS_TAB, str(script), "comprehend-phi", *line]
    done = subprocess.run(
        shell, env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == [*(completions or [""]), ""]


@needs_bash
def test_tab_completes_a_folder_on_a_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "redacted").mkdir()
    (tmp_path / "redundant.txt").touch()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=tmp_path,
        env={**environment, "TERM": "dumb", "INPUTRC": os.devnull, "HISTFILE": ""},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.write(ours, b"source <(comprehend-phi completion bash)\n")
        os.write(ours, b"comprehend-phi redact 1 red\t")
        shown = b""
        while b"redacted/" not in shown and select.select([ours], [], [], 30)[0]:
            shown += os.read(ours, 4096)
        process.kill()
    os.close(ours)

    assert b"comprehend-phi redact 1 redacted/" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str, environment: dict[str, str]) -> None:
    command = ["comprehend-phi", "completion", shell]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert f"_COMPREHEND_PHI_COMPLETE={shell}_complete" in done.stdout


def test_completion_does_not_load_boto3(environment: dict[str, str]) -> None:
    question = {"COMP_WORDS": "comprehend-phi list --status S", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "comprehend_phi"],
        env={**environment, **question, "_COMPREHEND_PHI_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
    )

    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    loaded = {name.partition(".")[0] for name in names}
    assert "plain,SUBMITTED" in done.stdout
    assert "click" in loaded
    assert not {"boto3", "botocore"} & loaded
