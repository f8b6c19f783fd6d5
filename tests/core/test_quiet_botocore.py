"""botocore and urllib3 log requests and responses, and `quiet_botocore` prevents this.

The tests watch the root logger, which sees what every library logs.
"""

from __future__ import annotations

import ast
import logging
import logging.config
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from socketserver import BaseServer
from typing import Any

import boto3
import pytest

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
    quiet_botocore,
)
from comprehend_phi.testing import LocalServer

Serving = Callable[[BaseServer], AbstractContextManager[None]]

JOB_NAME = "Zinnia Quellwasser"
KEY = "quellwasser-notes"
TEXT = "Patient: Orla Brandeis"
CANARIES = ("Zinnia", "quellwasser", "Orla")
LIBRARIES = ("boto3", "botocore", "s3transfer", "urllib3")

untyped_boto3: Any = boto3  # its stubs know some services only


class Seen(logging.Handler):
    """Keep all records."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def leaking(self) -> set[str]:
        """Return the names of the loggers that logged a canary."""
        return {
            record.name
            for record in self.records
            if any(word in record.getMessage() for word in CANARIES)
        }


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Record everything at DEBUG, and restore logging afterwards."""
    root, handler = logging.getLogger(), Seen()
    level, handlers = root.level, list(root.handlers)
    names = [name for name in root.manager.loggerDict if name.startswith(LIBRARIES)]
    before = {name: logging.getLogger(name).level for name in names}
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.handlers[:] = handlers
    for name in tuple(root.manager.loggerDict):
        if name.startswith(LIBRARIES):
            logger = logging.getLogger(name)
            logger.setLevel(before.get(name, logging.NOTSET))
            logger.filters.clear()
            logger.handlers.clear()
        # Remove the loggers of modules that are not imported.
        if name.startswith(LIBRARIES) and name not in before and name not in sys.modules:
            del root.manager.loggerDict[name]


@pytest.fixture
def use(server: LocalServer, bucket: str, s3: Any) -> Callable[[], None]:
    """Start a job and read a note, with canaries in the job name, a key and the note."""

    def use() -> None:
        s3.put_object(Bucket=bucket, Key=f"{KEY}/note.txt", Body=TEXT.encode())
        s3.get_object(Bucket=bucket, Key=f"{KEY}/note.txt")["Body"].read()
        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket=bucket, s3_key=KEY),
            output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key="results"),
            data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
            kms_key="alias/notes",
            job_name=JOB_NAME,
        )
        with PHIClient(endpoint_url=server.endpoint_url) as client:
            client.describe_phi_detection_job(client.submit(request).job_id)

    return use


def test_botocore_logs_requests_and_responses_at_debug(seen: Seen, use: Callable[[], None]) -> None:
    use()

    # The request with its body, the signed request, the response and the URL.
    assert seen.leaking() >= {
        "botocore.endpoint",
        "botocore.auth",
        "botocore.parsers",
        "urllib3.connectionpool",
    }


def test_quiet_botocore_drops_requests_and_responses_at_debug(
    seen: Seen, use: Callable[[], None]
) -> None:
    quiet_botocore()
    seen.records.clear()  # from the setup of this test

    use()

    assert seen.leaking() == set()
    theirs = [record for record in seen.records if record.name.startswith(LIBRARIES)]
    assert not [record.name for record in theirs if record.levelno <= logging.DEBUG]


def to_the_root() -> None:
    untyped_boto3.set_stream_logger("")


def to_botocore() -> None:
    untyped_boto3.set_stream_logger("botocore")


def to_each() -> None:
    for name in ("botocore.endpoint", "botocore.parsers", "botocore.auth", "urllib3"):
        logging.getLogger(name).setLevel(logging.DEBUG)


def by_configuration() -> None:
    # dictConfig resets the levels of all loggers below the ones that it names.
    logging.config.dictConfig(
        {
            "version": 1,
            "incremental": False,
            "disable_existing_loggers": False,
            "loggers": {name: {"level": "DEBUG"} for name in LIBRARIES},
        }
    )


@pytest.mark.parametrize("set_up", [to_the_root, to_botocore, to_each, by_configuration])
def test_setting_logging_to_debug_later_does_not_undo_it(
    set_up: Callable[[], None],
    seen: Seen,
    use: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet_botocore()
    set_up()

    use()

    assert seen.leaking() == set()
    assert not [word for word in CANARIES if word in capsys.readouterr().err]


@pytest.mark.parametrize("set_up", [to_the_root, to_botocore, to_each, by_configuration])
def test_it_works_after_logging_was_set_to_debug(
    set_up: Callable[[], None],
    seen: Seen,
    use: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up()
    quiet_botocore()

    use()

    assert seen.leaking() == set()
    assert not [word for word in CANARIES if word in capsys.readouterr().err]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR])
def test_records_above_debug_pass(level: int, seen: Seen) -> None:
    quiet_botocore()

    logging.getLogger("botocore.endpoint").log(level, "something else")

    assert [record.getMessage() for record in seen.records] == ["something else"]


# --- Above DEBUG ----------------------------------------------------------------------------------


class _Object(BaseHTTPRequestHandler):
    """An S3 object whose headers cause warnings of urllib3 and botocore."""

    def do_GET(self) -> None:
        self.send_response(200)
        # For example of a note that was uploaded with a form.
        self.send_header("Content-Type", "multipart/form-data")
        self.send_header("Expires", JOB_NAME)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any, **__: Any) -> None:
        pass


WARNINGS = {
    ("urllib3.connection", logging.WARNING),
    ("urllib3.connectionpool", logging.WARNING),  # before urllib3 2
    ("botocore.handlers", logging.WARNING),
}


@pytest.fixture
def cause_warnings(serving: Serving) -> Iterator[Callable[[], None]]:
    """Read an object that causes warnings of urllib3 and botocore."""
    server = HTTPServer(("127.0.0.1", 0), _Object)
    with serving(server):
        s3 = untyped_boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.server_port}")

        def cause_warnings() -> None:
            s3.get_object(Bucket="bucket", Key=f"{KEY}/note.txt")["Body"].close()

        yield cause_warnings
        s3.close()


def test_urllib3_and_botocore_log_urls_and_headers_above_debug(
    seen: Seen, cause_warnings: Callable[[], None]
) -> None:
    cause_warnings()

    warned = {(each.name, each.levelno) for each in seen.records if each.levelno > logging.DEBUG}
    # Logged once for a session, or by older versions. Neither contains a URL or a header.
    warned -= {(f"botocore.{name}", logging.INFO) for name in ("credentials", "httpchecksum")}
    assert warned <= WARNINGS
    assert len(warned) == 2
    assert {name for name, _ in warned} <= seen.leaking()


def test_quiet_botocore_masks_urls_and_headers_in_warnings(
    seen: Seen, cause_warnings: Callable[[], None]
) -> None:
    quiet_botocore()
    seen.records.clear()
    cause_warnings()

    assert seen.leaking() == set()
    shown = [record.getMessage() for record in seen.records]
    assert any(text.startswith("Failed to parse headers (url=***)") for text in shown)
    assert any('Failed to parse the "Expires" member as a timestamp: ***' in text for text in shown)
    assert all((each.exc_info, each.exc_text) == (None, None) for each in seen.records)


@pytest.mark.parametrize("name", ["urllib3", "urllib3.poolmanager", "botocore.handlers"])
@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR])
def test_a_masked_record_keeps_its_template_and_numbers(name: str, level: int, seen: Seen) -> None:
    quiet_botocore()

    logger = logging.getLogger(name)
    logger.log(level, "Redirecting %s -> %r after %d of %.1f", JOB_NAME, [KEY], 2, 3.5)
    logger.log(level, "All is well")
    logger.log(level, "of %(url)s, %(size)d", {"url": KEY, "size": 7})
    message = f"Cannot parse: {KEY}\n. It is in: the response"
    logger.log(level, message)

    assert [record.getMessage() for record in seen.records] == [
        "Redirecting *** -> '***' after 2 of 3.5",
        "All is well",
        "of ***, 7",
        "Cannot parse: ***",
    ]


def test_a_masked_record_has_no_traceback(seen: Seen) -> None:
    quiet_botocore()

    logging.getLogger("urllib3.connection").warning("Failed", exc_info=ValueError(JOB_NAME))

    (record,) = seen.records
    assert logging.Formatter("%(message)s").format(record) == "Failed"


# Words in the names of arguments that should not be logged.
TELLING = re.compile(r"url|uri|header|body|redirect|request|response|params|\bkey", re.IGNORECASE)


def log_calls(library: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield the module and the call wherever the installed library logs above DEBUG."""
    spec = find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for path in root.rglob("*.py"):
        module = ".".join((library, *path.relative_to(root).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("info", "warning", "error", "exception", "critical", "log")
                and "log" in ast.unparse(node.func.value).lower()
            ):
                yield module, node


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_other_warning_of_the_installed_libraries_contains_a_url_key_or_header(
    library: str,
) -> None:
    found = list(log_calls(library))
    assert found or library == "s3transfer"
    for module, call in found:
        template, *values = call.args
        if module.startswith(("urllib3", "botocore.handlers")):
            # Arguments are masked. Values in the template itself are, if they follow a colon.
            if isinstance(template, ast.JoinedStr):
                assert ": " in ast.unparse(template.values[0]), f"{module}: {ast.unparse(call)}"
                assert not values
            else:
                assert isinstance(template, ast.Constant), f"{module}: {ast.unparse(call)}"
        else:
            named = [value for value in map(ast.unparse, values) if TELLING.search(value)]
            assert named == [], f"{module}: {ast.unparse(call)}"


# --- Which loggers it covers ----------------------------------------------------------------------


def test_other_loggers_are_not_affected(seen: Seen) -> None:
    quiet_botocore()

    for name in ("comprehend_phi", "botocores", "my.botocore"):
        logging.getLogger(name).debug("something else")

    assert len(seen.records) == 3


def test_calling_it_again_changes_nothing(seen: Seen) -> None:
    quiet_botocore()
    once = {name: len(logging.getLogger(name).filters) for name in LIBRARIES}
    quiet_botocore()

    assert once == dict.fromkeys(LIBRARIES, 1)
    assert {name: len(logging.getLogger(name).filters) for name in LIBRARIES} == once


def test_it_covers_loggers_that_are_not_named_after_a_module(seen: Seen) -> None:
    logger = logging.getLogger("botocore.of-nobody")

    quiet_botocore()
    logger.debug(JOB_NAME)

    assert seen.leaking() == set()


def test_it_covers_modules_that_are_not_imported_yet(seen: Seen) -> None:
    name = "urllib3.contrib.emscripten.fetch"
    assert name not in sys.modules
    assert name not in logging.root.manager.loggerDict

    quiet_botocore()

    assert len(logging.getLogger(name).filters) == 1


def test_it_works_before_boto3_is_imported_and_does_not_import_it() -> None:
    code = (
        "import logging, sys, comprehend_phi; comprehend_phi.quiet_botocore();"
        "print('boto3' in sys.modules, 'botocore' in sys.modules);"
        "import botocore.endpoint; print(len(logging.getLogger('botocore.endpoint').filters));"
        "print(len(logging.getLogger('botocore.retries.standard').filters))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False", "1", "1"]
