"""The target of --local: a local service in this process, with local folders as its S3.

Only this module and the package `testing` know the local service.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from .._client import PHIClient
from .._folders import Folder, NotWrittenError
from .._service.boto3_clients import build_with_boto3
from .._wording import amount, join_first
from ..errors import ResultsError
from ..models import InputDataConfig, OutputDataConfig
from .exits import Exit, ExitCode
from .files import local_path, require_separate, require_writable
from .notes import find_notes, read_note
from .targets import StartOptions, Target

if TYPE_CHECKING:
    from .._clock import Clock

LOCAL_POLL_SECONDS = 0.25

# Without keys in these locations, the keys of the notes are their paths below the folder.
_SOURCE = InputDataConfig(s3_bucket="source")
_DESTINATION = OutputDataConfig(s3_bucket="destination")
_ROLE_ARN = "arn:aws:iam::123456789012:role/local"
_KMS_KEY = "alias/local"


def local_folders(
    source: str, destination: str, files: Mapping[str, Path | None]
) -> tuple[dict[str, Path], Path]:
    """Return the notes of a local job by key, and the folder for its results.

    Args:
        source: SOURCE, the folder of the notes.
        destination: DESTINATION, the folder for the results.
        files: the other files and folders that the command writes, by option.

    Raises:
        Exit: one of them cannot be used.
    """
    notes, output = _local_folder("SOURCE", source), _local_folder("DESTINATION", destination)
    if not notes.is_dir():
        raise Exit(ExitCode.USAGE, "SOURCE must be an existing folder if you use --local")
    outputs = {**files, "DESTINATION": output}
    require_separate({**outputs, "SOURCE": notes})
    require_writable("DESTINATION", output)
    found = find_notes(notes)
    for path in found.values():
        if path.is_symlink():
            require_separate({**outputs, f"the target of the link {path}": path})
    return found, output


def _local_folder(argument: str, text: str) -> Path:
    try:
        return local_path(text)
    except ValueError:
        pass
    raise Exit(ExitCode.USAGE, f"{argument} must be a local folder if you use --local")


@contextmanager
def at_local_service(
    notes: Mapping[str, Path], destination: Path, options: StartOptions, clock: Clock
) -> Generator[Target, None, None]:
    """Run the job in this process on these notes, by key."""
    request = evolve(
        options,
        data_access_role_arn=options.data_access_role_arn or _ROLE_ARN,
        kms_key=options.kms_key or _KMS_KEY,
    ).request(_SOURCE, _DESTINATION)
    server_class = _local_server()

    from botocore.config import Config

    session = _session()
    # No proxies: those of the environment may also apply to this machine.
    config = Config(proxies={}, retries={"total_max_attempts": 1})
    with server_class() as server:
        s3 = build_with_boto3(
            lambda: session.client("s3", endpoint_url=server.endpoint_url, config=config),
            "the client for s3",
        )
        try:
            for bucket in (_SOURCE.s3_bucket, _DESTINATION.s3_bucket):
                s3.create_bucket(Bucket=bucket)
            for key, path in notes.items():
                s3.put_object(Bucket=_SOURCE.s3_bucket, Key=key, Body=read_note(path))
            with PHIClient(
                session=session,
                endpoint_url=server.endpoint_url,
                config=config,
                s3_client=s3,
                clock=clock,
            ) as client:
                yield Target(client, request, _advice, _advice, lambda: _fetch(s3, destination))
        finally:
            s3.close()


def _advice(_job_id: str) -> str:
    return "The local job ended with this command."


def _local_server() -> Any:
    try:
        from ..testing import LocalServer
    except ModuleNotFoundError as error:
        missing = error.name
    else:
        return LocalServer
    raise Exit(
        ExitCode.USAGE,
        f"--local needs the module {missing}, which the extra `testing` of comprehend_phi installs",
    )


def _session() -> Any:
    """Return a boto3 session that ignores this machine's accounts, profiles and settings."""
    import boto3
    from botocore.session import Session

    unset = (None, None, None, None)
    nowhere = (None, None, os.devnull, None)
    variables = {"profile": unset, "config_file": nowhere, "credentials_file": nowhere}
    # boto3 needs keys to sign with. The local service checks no signature.
    return boto3.Session(
        "local",
        "local",
        region_name="us-east-1",
        botocore_session=Session(session_vars=variables),
    )


def _fetch(s3: Any, destination: Path) -> ResultsError | None:
    # The output quotes the PHI that was found.
    folder = Folder(destination, private=True, replaces=True)
    bucket = _DESTINATION.s3_bucket
    left_out: list[str] = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for key in [entry["Key"] for entry in page.get("Contents", [])]:
            try:
                folder.write(key, s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            except NotWrittenError as error:
                left_out.append(f"{key} ({error})")
    if not left_out:
        return None
    return ResultsError(
        f"{amount(len(left_out), 'file was', 'files were')} not written below {destination}:"
        f" {join_first(left_out)}"
    )
