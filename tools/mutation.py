"""Break the package on purpose, and check that its tests notice: `make mutation`.

mutmut changes one operator, number, argument or string of a function at a time. It leaves lines
alone that only contain a sentence of a message, because tests check the facts in a message and not
its words. The command line and the local service are left out, because their tests run programs.

Only the test files of a module are run against its mutants, because running all tests would take
days. Other tests may notice some of the surviving mutants, so the score is a lower bound.

mutmut forks the process that has run the tests once. What the package has cached by then hides the
mutants of the functions that filled the caches. Threads do not survive a fork, so tests may hang,
too. So a new process runs the tests again on each mutant that survived or made a test hang.

`make mutation MODULE=_retry` tries one module.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"

# The test files of each module. mutmut does not change functions with decorators, so `_clock` (two
# lines) and `__init__` (none) are not listed.
TESTS = {
    "_service/connection": "service/test_connection core/test_arguments",
    "_results/s3_calls": "results/test_storage corpus/test_objects",
    "_results/boto3_storage": "results/test_storage results/test_obstore_storage",
    "_results/completeness": "results/test_streams core/test_logs",
    "_results/outages": "results/test_streams corpus/test_check",
    "_results/decoding": "results/test_streams core/test_leaks",
    "_results/decisions": "results/test_decisions",
    "_results/documents": "results/test_streams core/test_leaks core/test_arguments",
    "_service/failures": "service/test_failures service/test_operations service/test_transport",
    "_service/error_responses": "service/test_error_responses service/test_transport"
    " core/test_detect_phi",
    "_service/phases": "service/test_transport service/test_operations service/test_connection",
    "_service/attempts": "service/test_transport service/test_operations",
    "_service/boto3_clients": "service/test_connection",
    "_service/checks": "service/test_connection core/test_arguments",
    "_results/layout": "results/test_layout results/test_streams results/test_output_folder",
    "_quiet_botocore": "core/test_quiet_botocore",
    "_results/new_object": "results/test_obstore_calls corpus/test_objects",
    "_results/obstore_route": "results/test_obstore_storage results/test_obstore_calls",
    "_results/obstore_setup": "results/test_obstore_storage results/test_obstore_calls",
    "_results/obstore_storage": "results/test_obstore_storage results/test_obstore_calls",
    "_service/operations": "service/test_operations service/test_transport core/test_list"
    " core/test_logs core/test_detect_phi",
    "_service/start_check": "service/test_operations core/test_start",
    "_client_clock": "core/test_threads core/test_closing",
    "_results/file_list": "results/test_file_list results/test_streams",
    "_results/listing": "results/test_streams results/test_output_folder",
    "_results/output_folder": "results/test_output_folder",
    "_results/reader": "results/test_streams",
    "_shapes": "core/test_shapes core/test_models",
    "_results/s3_errors": "results/test_storage results/test_obstore_storage",
    "_results/s3_tuning": "results/test_s3_tuning results/test_s3_listing",
    "_results/storage": "results/test_storage results/test_streams core/test_logs",
    "_stream": "core/test_stream",
    "_threads": "core/test_threads",
    "_service/codec": "service/test_codec service/test_operations"
    " core/test_detect_phi core/test_leaks",
    "_async_client": "core/test_async_client service/test_connection core/test_list"
    " core/test_find_or_submit core/test_detect_phi core/test_arguments results/test_output_folder",
    "_client_base": "core/test_client_base core/test_arguments service/test_connection",
    "_client": "service/test_connection core/test_list core/test_find_or_submit"
    " core/test_detect_phi core/test_arguments results/test_output_folder core/test_start",
    "corpus/objects": "corpus/test_objects",
    "corpus/check": "corpus/test_check",
    "corpus/forgotten": "corpus/test_runner corpus/test_run_results",
    "corpus/ledger": "corpus/test_ledger",
    "corpus/run": "corpus/test_run",
    "corpus/runner": "corpus/test_runner",
    "corpus/schedule": "corpus/test_schedule",
    "corpus/service": "corpus/test_run_service",
    "corpus/audit": "corpus/test_copies corpus/test_verification",
    "corpus/copies": "corpus/test_copies",
    "corpus/copies_report": "corpus/test_copies",
    "corpus/limits": "corpus/test_limits",
    "corpus/plan": "corpus/test_plan",
    "corpus/planning": "corpus/test_plan",
    "corpus/split": "corpus/test_split",
    "corpus/report": "corpus/test_check",
    "corpus/relisting": "corpus/test_staging",
    "corpus/run_results": "corpus/test_run_results",
    "corpus/staging": "corpus/test_staging",
    "corpus/steps": "corpus/test_check corpus/test_problems",
    "corpus/targets": "corpus/test_copies corpus/test_verification",
    "corpus/verification": "corpus/test_verification",
    "corpus/tally": "corpus/test_check corpus/test_problems",
    "_wording": "core/test_wording",
    "testing/parity/account": "testing/parity/test_questions testing/parity/test_running",
    "testing/parity/command": "testing/parity/test_command",
    "testing/parity/masking": "testing/parity/test_masking testing/parity/test_command",
    "testing/parity/outputs": "testing/parity/test_unforeseen testing/parity/test_questions",
    "testing/parity/planning": "testing/parity/test_planning",
    "testing/parity/questions": "testing/parity/test_questions",
    "testing/parity/report": "testing/parity/test_command",
    "testing/parity/running": "testing/parity/test_running testing/parity/test_questions",
    "testing/parity/state": "testing/parity/test_running testing/parity/test_command",
    "testing/preconditions": "testing/test_other_rules",
    "testing/reading": "testing/test_other_rules",
    "_masking": "core/test_masking core/test_detect_phi",
    "_logs": "core/test_logs core/test_retry",
    "_keys": "core/test_find_or_submit results/test_layout",
    "errors": "core/test_errors",
    "_adoption": "core/test_find_or_submit",
    "_jobs": "core/test_jobs",
    "models": "core/test_models core/test_shapes",
    "_entities": "core/test_entities core/test_redaction",
    "_folders": "core/test_folders",
    "_members": "core/test_models service/test_codec",
    "_structs": "results/test_streams",
    "_whole_file": "core/test_whole_file",
    "_splitting": "core/test_splitting core/test_detect_phi",
    "_redaction": "core/test_redaction core/test_arguments",
    "_replacements": "core/test_replacements",
    "_results/streams": "results/test_streams core/test_async_client",
    "_results/transport": "results/test_obstore_storage",
    "_retry": "core/test_retry core/test_async_client",
    "review/page": "review/test_page",
    "tables/batches": "tables/test_batches tables/test_files",
    "tables/destinations": "tables/test_files tables/test_s3",
    "tables/files": "tables/test_files",
}

# Tests that cannot run here or take too long. mutmut wraps each function, which changes signatures
# and the caller's line, and mutants only work in the process of the tests.
LEFT_OUT = (
    "callers_line",
    "line_of_the_caller",
    "twins",
    "are_coroutines",
    "no_quadratic_time",
    "a_thousand_jobs",
    "many_documents",
    "imports_tenacity",
    "whose_program",
    "in_one_process",
    "new_process",
    "in_another_process",
    "names_the_module",
    "no_public_name",
    "a_program_ends",
    "without_jinja2",
    "another_thread_receives",
)

OPTIONS = [
    *("-p", "no:xdist", "-p", "no:cacheprovider"),
    *("-k", " and ".join(f"not {name}" for name in LEFT_OUT)),
]

CONFIGURATION = """
[tool.mutmut]
source_paths = ["comprehend_phi"]
only_mutate = ["comprehend_phi/{module}.py"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = {options}
timeout_constant = 3.0
timeout_multiplier = 3.0
use_git_change_detection = false
do_not_mutate_patterns = ['^\\s*"[^"]* [^"]*"[,)]*$']
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as _service/codec (default: all)")
    modules = parser.parse_args().modules or TESTS
    killed = total = 0
    for module in modules:
        survivors, number = mutate(module)
        killed, total = killed + number - len(survivors), total + number
        sys.stdout.write(f"{module:12} {number - len(survivors):5} of {number:5} killed\n")
        sys.stdout.writelines(f"    {name}\n" for name in survivors)
        sys.stdout.flush()
    sys.stdout.write(f"{'all':12} {killed:5} of {total:5} killed: {killed / total:.1%}\n")
    return 0 if killed >= 0.9 * total else 1


def mutate(module: str) -> tuple[list[str], int]:
    """Return the surviving mutants of a module, and the number of all its mutants."""
    work = WORK / module.replace("/", ".")
    shutil.rmtree(work, ignore_errors=True)
    (work / "mutants").mkdir(parents=True)  # or Python remembers that PYTHONPATH does not exist
    for part in ("comprehend_phi", "tests"):
        shutil.copytree(ROOT / part, work / part, ignore=shutil.ignore_patterns("__pycache__"))
    tests = [f"tests/{name}.py" for name in TESTS[module].split()]
    configuration = CONFIGURATION.format(
        module=module, tests=json.dumps(tests), options=json.dumps(OPTIONS)
    )
    (work / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + configuration)

    # Found before the installed package, also by programs that a test starts.
    environment = {**os.environ, "PYTHONPATH": str(work / "mutants"), "CI": "1"}

    def mutmut(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mutmut", *arguments],
            cwd=work,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"mutmut {arguments[0]}, {module}: {done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout

    def is_noticed(mutant: str, limit: float) -> bool:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "--exitfirst", *OPTIONS, *tests],
                cwd=work / "mutants",
                env={**environment, "MUTANT_UNDER_TEST": mutant},
                check=False,
                capture_output=True,
                timeout=limit,  # seconds
            )
        except subprocess.TimeoutExpired:
            return True
        return done.returncode != 0

    mutmut("run")
    mutmut("export-cicd-stats")
    figures = json.loads((work / "mutants" / "mutmut-cicd-stats.json").read_text())
    results = [line.strip().rpartition(": ") for line in mutmut("results").splitlines()]
    survivors = [mutant for mutant, _, _ in results if mutant]
    # No test calls the functions of these.
    unreached = {mutant for mutant, _, result in results if result == "no tests"}
    began = time.monotonic()
    if survivors and is_noticed("", 1200):
        sys.exit(f"The tests of {module} fail in a new process.")
    # A mutant that makes a test hang in a new process has been noticed.
    limit = 60 + 3 * (time.monotonic() - began)
    survivors = [each for each in survivors if each in unreached or not is_noticed(each, limit)]
    (work / "survivors.diff").write_text("\n".join(mutmut("show", name) for name in survivors))
    return survivors, figures["total"]


if __name__ == "__main__":
    sys.exit(main())
