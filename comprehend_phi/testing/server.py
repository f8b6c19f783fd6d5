"""The local service as a command: Comprehend Medical and S3 over HTTP, until it is interrupted.

python -m comprehend_phi.testing.server --port 5555
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attrs import fields_dict

from .limits import Limits
from .local_server import LocalServer
from .rules import Rules


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    limits = Limits(
        active_jobs=options.active_jobs,
        file_bytes=options.file_bytes,
        files=options.files,
        total_bytes=options.total_bytes,
        starts_per_second=options.starts_per_second,
    )
    with ExitStack() as stack:
        try:
            rules = _rules(options.rule)
            journal = stack.enter_context(options.journal.open("a", encoding="utf-8"))
            server = LocalServer(
                port=options.port,
                job_seconds=options.job_seconds,
                limits=limits,
                rules=rules,
                on_start=lambda start: print(start.to_json(), file=journal, flush=True),
            )
        except ValueError as error:
            parser.error(f"--rule: {error}")
        except OSError as error:
            place = f"--journal {options.journal}" if error.filename else f"port {options.port}"
            parser.error(f"{place}: {error.strerror or error}")
        if options.fault_seed is not None:
            server.service.fail_randomly(options.fault_seed, options.fault_share)
        stack.enter_context(server)
        sys.stdout.write(f"Comprehend Medical and S3 at {server.endpoint_url}; Ctrl-C stops.\n")
        sys.stdout.flush()  # a program that started this one reads the URL
        try:
            server.wait()
        except KeyboardInterrupt:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m comprehend_phi.testing.server",
        description="A local Comprehend Medical (PHI detection) and S3. Not for real notes.",
    )
    port, one = _number(int, 0, 65_535), _number(int, 1)
    add, shown = parser.add_argument, " (default: %(default)s)"
    add("--port", type=port, default=5555, help=f"0 chooses a free port{shown}")
    add("--job-seconds", type=_number(float, 0), default=1.0, help=f"the length of a job{shown}")
    add(
        "--journal",
        type=Path,
        default=Path(os.devnull),
        help="append a line of JSON for each start to this file: time, token, job id; no text",
    )
    add, limits = parser.add_argument_group("quotas").add_argument, Limits()
    add("--active-jobs", type=one, default=limits.active_jobs, help=f"jobs that may run{shown}")
    add("--file-bytes", type=one, default=limits.file_bytes, help=f"size of a file{shown}")
    add("--files", type=one, default=limits.files, help=f"files in a job{shown}")
    add("--total-bytes", type=one, default=limits.total_bytes, help=f"size of all files{shown}")
    add(
        "--starts-per-second",
        type=_number(float, 0.001),
        help="throttle starts beyond this rate (AWS: 5; default: no limit)",
    )
    add = parser.add_argument_group("random faults").add_argument
    add("--fault-seed", type=int, help="let calls meet random faults, the same for the same seed")
    add("--fault-share", type=_number(float, 0, 1), default=0.1, help=f"share of calls{shown}")
    add = parser.add_argument_group("rules that nobody outside AWS knows").add_argument
    add(
        "--rule",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="choose another rule, such as input_key=prefix; repeat it for several rules. The"
        f" names are {', '.join(fields_dict(Rules))}.",
    )
    return parser


def _number(
    type_: type[int | float], least: float, most: float = float("inf")
) -> Callable[[str], float]:
    """Return a converter for argparse that only accepts numbers in a range."""

    def number(text: str) -> float:
        value = type_(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"must be at least {least}" if value < least else f"must be at most {most}"
            )
        return value

    number.__name__ = type_.__name__
    return number


def _rules(options: Sequence[str]) -> Rules:
    """Return the rules of `NAME=VALUE` options. Raise `ValueError` if one is wrong."""
    changes: dict[str, Any] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in fields_dict(Rules):
            raise ValueError(f"there is no rule {name!r}; see --help")
        changes[name] = value
    return Rules(**changes)


if __name__ == "__main__":
    main()
