"""Keeping what botocore and urllib3 log of requests and answers out of everybody's logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

_LIBRARIES = ("boto3", "botocore", "s3transfer", "urllib3")

# Above DEBUG, only these name URLs, which contain keys, and headers.
_NAMING = ("urllib3", "botocore.handlers")


def quiet_botocore() -> None:
    """Keep requests and answers out of the logs of boto3, botocore, s3transfer and urllib3.

    At DEBUG, botocore logs whole requests and answers, job names and the detected text included.
    These records are dropped. Above DEBUG, urllib3 and `botocore.handlers` log URLs, which contain
    the keys of notes, and headers. These records pass, but `***` takes the place of what they name,
    and they lose their tracebacks. All other records pass as before.

    Call this where the program sets up its logging, before or after that; calling it again changes
    nothing. It holds whatever level the root or one of these loggers has or is given later, as by
    `boto3.set_stream_logger` or `logging.config.dictConfig`. It cannot be undone in this process.

    It does not stop what is printed without `logging` (`http.client.HTTPConnection.debuglevel`), by
    event handlers of your own or by other libraries.
    """
    for name in _names():
        # A filter, since dictConfig resets levels; on each logger, since those of a logger's
        # parents are not asked. A filter that is there already is not added again.
        logging.getLogger(name).addFilter(_without_content)


def _without_content(record: logging.LogRecord) -> bool:
    if record.levelno <= logging.DEBUG:
        return False
    if record.name.startswith(_NAMING):
        args = record.args or ()
        if isinstance(args, Mapping):
            record.args = {name: _masked(value) for name, value in args.items()}
        else:
            record.args = tuple(map(_masked, args))
        record.exc_info = record.exc_text = None
    return True


def _masked(value: object) -> object:
    return value if isinstance(value, (int, float)) else "***"


def _names() -> Iterator[str]:
    """The loggers of the libraries: each module has one of its name, imported yet or not."""
    for library in _LIBRARIES:
        spec = find_spec(library)
        folders = (spec and spec.submodule_search_locations) or ()
        yield library
        for folder in folders:
            yield from _modules(Path(folder), library)
    for name in tuple(logging.root.manager.loggerDict):
        if name.startswith(tuple(f"{library}." for library in _LIBRARIES)):
            yield name


def _modules(folder: Path, package: str) -> Iterator[str]:
    # pkgutil.walk_packages would import the packages that it finds.
    for module in iter_modules([str(folder)]):
        name = f"{package}.{module.name}"
        yield name
        if module.ispkg:
            yield from _modules(folder / module.name, name)
