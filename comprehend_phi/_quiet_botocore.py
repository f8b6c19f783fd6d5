"""Keep the requests and responses that botocore and urllib3 log out of everybody's logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

_LIBRARIES = ("boto3", "botocore", "s3transfer", "urllib3")

# Above DEBUG, only these log headers, and URLs, which contain keys.
_LOG_URLS = ("urllib3", "botocore.handlers")

# Older versions of botocore put a header into the message itself, after a colon.
_AFTER_COLON = re.compile("(?s): .*")


def quiet_botocore() -> None:
    """Keep requests and responses out of the logs of boto3, botocore, s3transfer and urllib3.

    At DEBUG, botocore logs whole requests and responses, including job names and detected text.
    These records are dropped. Above DEBUG, urllib3 and `botocore.handlers` log headers, and URLs,
    which contain the keys of notes. These records pass, but `***` replaces every value that is not
    a number, and whatever follows a colon in a message without values. Their tracebacks are
    removed. All other records pass unchanged.

    Call this once, before or after the program sets up its logging. Calling it again changes
    nothing. It works at every level that the root logger or one of these loggers has or gets later,
    for example from `boto3.set_stream_logger` or `logging.config.dictConfig`. It lasts until the
    process ends.

    It does not stop output that bypasses `logging` (`http.client.HTTPConnection.debuglevel`), nor
    the logging of your own event handlers or of other libraries.
    """
    for name in _names():
        # A filter, because dictConfig resets levels. On every logger, because a record does not
        # pass the filters of a logger's parents. `addFilter` does not add the same filter twice.
        logging.getLogger(name).addFilter(_without_content)


def _without_content(record: logging.LogRecord) -> bool:
    if record.levelno <= logging.DEBUG:
        return False
    if record.name.startswith(_LOG_URLS):
        if isinstance(record.args, Mapping):
            record.args = {name: _masked(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_masked, record.args))
        else:
            record.msg = _AFTER_COLON.sub(": ***", str(record.msg))
        record.exc_info = record.exc_text = None
    return True


def _masked(value: object) -> object:
    return value if isinstance(value, (int, float)) else "***"


def _names() -> Iterator[str]:
    """Yield the names of the libraries' loggers: one per module, even if not imported yet."""
    for library in _LIBRARIES:
        spec = find_spec(library)
        yield library
        for folder in (spec and spec.submodule_search_locations) or ():
            yield from _modules(Path(folder), library)
    for name in tuple(logging.root.manager.loggerDict):
        if name.startswith(tuple(f"{library}." for library in _LIBRARIES)):
            yield name


def _modules(folder: Path, package: str) -> Iterator[str]:
    # pkgutil.walk_packages would import the packages it finds.
    for module in iter_modules([str(folder)]):
        name = f"{package}.{module.name}"
        yield name
        if module.ispkg:
            yield from _modules(folder / module.name, name)
