"""The options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

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
