"""Keeping what botocore logs at DEBUG out of everybody's logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

_LIBRARIES = ("boto3", "botocore", "s3transfer", "urllib3")


def quiet_botocore() -> None:
    """Drop what boto3, botocore, s3transfer and urllib3 log at DEBUG, from now on.

    At that level botocore logs whole requests and answers, job names and the detected text
    included. Call this where the program sets up its logging, before or after that; calling it
    again changes nothing. It holds whatever level the root or one of these loggers has or is given
    later, as by `boto3.set_stream_logger` or `logging.config.dictConfig`. Records at INFO and above
    pass as before. Nothing of this is undone again in this process.

    It does not stop what is printed without `logging` (`http.client.HTTPConnection.debuglevel`), by
    event handlers of your own or by other libraries.
    """
    for name in _names():
        # A filter, since dictConfig resets levels; on each logger, since those of a logger's
        # parents are not asked. A filter that is there already is not added again.
        logging.getLogger(name).addFilter(_above_debug)


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


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
