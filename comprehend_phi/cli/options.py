"""The options that several commands have, and how paths are parsed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from .exits import USAGE, Ended

# More than one letter, since Windows paths begin with a letter and a colon.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

COPIES = "must be a local folder: the copies are written to this machine only"
PAGE = "must be a local file: the page is written to this machine only"
LOCAL_JOB = "must be a local folder, because --local is given"


def local_path(argument: str, rule: str) -> Callable[[str], Path]:
    """Return a parser for the paths of local files, which refuses URIs and the empty string."""

    def parse(text: str) -> Path:
        if not text or _URI.match(text):
            raise Ended(USAGE, f"{argument} {rule}")
        return Path(text)

    return parse


JobId = Annotated[str, typer.Argument(metavar="JOB_ID", show_default=False)]
Region = Annotated[str | None, typer.Option("--region", metavar="NAME", help="The AWS region.")]
Profile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="The profile in AWS's own settings.")
]
EndpointUrl = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="Where Comprehend Medical is, when not at AWS. S3 follows AWS_ENDPOINT_URL_S3.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
RoleArn = Annotated[
    str | None,
    typer.Option(
        "--role-arn",
        metavar="ARN",
        envvar="COMPREHEND_PHI_ROLE_ARN",
        help="The role with which the service reads the notes and writes the results. Required"
        " at AWS.",
    ),
]
KmsKey = Annotated[
    str | None,
    typer.Option(
        "--kms-key",
        metavar="KEY",
        help="The key that encrypts the results; without it they are written in plain text.",
    ),
]
JobName = Annotated[
    str | None, typer.Option("--job-name", metavar="NAME", help="A name to list the job by.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="The request token of an earlier try: the same request with it starts no second job.",
    ),
]
AllowOverlap = Annotated[
    bool,
    typer.Option(
        "--allow-overlap",
        help="Start the job even if SOURCE and DESTINATION overlap at S3.",
    ),
]
SlotTimeout = Annotated[
    float,
    typer.Option(
        "--slot-timeout",
        metavar="SECONDS",
        help="How long to wait for a free job slot where all are taken.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="How long to wait; without it, until the job has ended.",
    ),
]
PollSeconds = Annotated[
    float | None,
    typer.Option(
        "--poll-seconds",
        metavar="SECONDS",
        help="The time between two polls; without it 10 at first, then more and more, up to 60.",
    ),
]
ShowNames = Annotated[
    bool, typer.Option("--show-names", help="Show job names and keys, which may name people.")
]
