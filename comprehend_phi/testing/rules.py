"""The rules of the service that nobody outside AWS knows, as switches."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import in_, min_len


def _choice(*options: str) -> Any:
    """Return a field that has one of `options`. The first one is the default."""
    return field(default=options[0], validator=in_(options))


@frozen(kw_only=True)
class Rules:
    """What nobody outside AWS knows. Each default is our guess; the other values are alternatives.

    Run your tests under other rules to find out whether your program depends on a guess.

    Attributes:
        input_key: "folder": the input key names a folder or one object. "prefix": it selects all
            objects whose keys begin with it, so `2031/02` also selects `2031/02-old/note.txt`.
        output_folder: "below": the job folder is below the output key, after a slash. "appended":
            its name is appended to the output key as it is.
        described_output_key: OutputDataConfig of a described job shows the key of the job "folder",
            or the key as "requested". AWS documents "folder" for requests without an output key.
        other_parameters: a start with a known token but other parameters is "refused" with
            InvalidRequestException, or returns the "same-job".
        remember_tokens: the service remembers a token "until-job-expires" or "until-job-ends".
        unfiltered_list: a list without a filter begins with the newest job ("newest-first") or the
            oldest ("oldest-first").
        two_filters: a list with two filters is "refused" with ValidationException, or "both" apply.
        stop_after_end: stopping a job that has ended is "refused" with InvalidRequestException, or
            "accepted" without effect.
        second_stop: stopping a job twice is "accepted", or "refused" with InvalidRequestException.
        error_status: the HTTP statuses of TooManyRequestsException and ResourceNotFoundException
            are both 400, as in the "api-reference", or 429 and 404, as in the "service-model".
        manifest_path: ManifestFilePath of a described job is a "key", a "uri" or "absent".
        list_locations: the manifest names its lists by "key", by "uri", or not at all ("absent").
        list_name: the name of each list in the folders `success/` and `failed/`.
        file_names: the lists name files by "key", by "uri" or by their "path" below the location.
        unprocessed_files: the list of unprocessed files has "objects" with error codes, or only
            "names", as in older jobs.
        success_count: the member of the manifest that counts processed files.
        write_test_file: a file `ComprehendMedicalS3WriteTestFile` in the job folder is "absent" or
            "present".

    Raises:
        ValueError: a rule has no such value.
    """

    input_key: Literal["folder", "prefix"] = _choice("folder", "prefix")
    output_folder: Literal["below", "appended"] = _choice("below", "appended")
    described_output_key: Literal["folder", "requested"] = _choice("folder", "requested")
    other_parameters: Literal["refused", "same-job"] = _choice("refused", "same-job")
    remember_tokens: Literal["until-job-expires", "until-job-ends"] = _choice(
        "until-job-expires", "until-job-ends"
    )
    unfiltered_list: Literal["newest-first", "oldest-first"] = _choice(
        "newest-first", "oldest-first"
    )
    two_filters: Literal["refused", "both"] = _choice("refused", "both")
    stop_after_end: Literal["refused", "accepted"] = _choice("refused", "accepted")
    second_stop: Literal["accepted", "refused"] = _choice("accepted", "refused")
    error_status: Literal["api-reference", "service-model"] = _choice(
        "api-reference", "service-model"
    )
    manifest_path: Literal["key", "uri", "absent"] = _choice("key", "uri", "absent")
    list_locations: Literal["key", "uri", "absent"] = _choice("key", "uri", "absent")
    list_name: str = field(default="files", validator=min_len(1))
    file_names: Literal["key", "uri", "path"] = _choice("key", "uri", "path")
    unprocessed_files: Literal["objects", "names"] = _choice("objects", "names")
    success_count: Literal["SuccessFilesCount", "SuccessfulFilesCount"] = _choice(
        "SuccessFilesCount", "SuccessfulFilesCount"
    )
    write_test_file: Literal["absent", "present"] = _choice("absent", "present")
