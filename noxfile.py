"""The tests on every Python, and on the lowest versions of the dependencies."""

from itertools import chain

import nox

nox.options.sessions = ["tests", "lowest"]
nox.options.error_on_missing_interpreters = False

_PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(python=_PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on the installed package."""
    session.install(".[cli,testing]", "--group", "dev")
    session.run("pytest", *session.posargs)


@nox.session(python="3.10")
def lowest(session: nox.Session) -> None:
    """Run the tests on the lowest versions that the dependencies and the extras admit."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    bounds = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    pins = [bound.replace(">=", "==") for bound in bounds]
    session.install(".", "--group", "dev", *pins)
    # The comparison with raw boto3 describes today's: older ones do notice some cut answers.
    session.run("pytest", "--ignore=tests/test_beside_boto3.py", *session.posargs)


@nox.session(python=_PYTHONS)
def wheel(session: nox.Session) -> None:
    """Try the wheel alone, without the extras: `nox -s wheel -- build/dist/*.whl`."""
    session.install(*session.posargs)
    session.run("python", "tests/smoke.py")
