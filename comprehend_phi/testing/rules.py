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
        final_slash: a slash at the end of an output key is "ignored", or "kept": then the job
            folder is below `results//`.
        same_parameters: a start with a known token and the same parameters returns the "same-job",
            or is "refused" with InvalidRequestException.
        other_parameters: a start with a known token but other parameters is "refused" with
            InvalidRequestException, or returns the "same-job".
        remember_tokens: the service remembers a token "until-job-expires" or "until-job-ends".
        missing_role: a start whose role cannot be assumed is "refused" with
            InvalidRequestException, or the "job-fails". No role whose name begins with
            `no-such-role` can be assumed; all others can.
        missing_bucket: if a bucket does not exist, the "job-fails", or its start is "refused" with
            InvalidRequestException.
        kms_key_forms: "all" forms of a KMS key are accepted, or only an "arn".
        unfiltered_list: a list without a filter begins with the newest job ("newest-first") or the
            oldest ("oldest-first").
        two_filters: a list with two filters is "refused" with ValidationException, or "both" apply.
        stop_after_end: stopping a job that has ended is "refused" with InvalidRequestException, or
            "accepted" without effect.
        second_stop: stopping a job twice is "accepted", or "refused" with InvalidRequestException.
        state_after_stop: a job that was just stopped is "STOP_REQUESTED" for a while, or "STOPPED"
            at once.
        empty_location: if there are no files in the input location, the "job-fails", or it
            "completes".
        failure_messages: the messages of failed jobs are "sentences", or "absent".
        folder_markers: objects whose keys end in a slash are "ignored", or "read" like any file.
        empty_files: empty files are "processed" or "unprocessed".
        not_utf8: files that are not UTF-8 are "unprocessed", or "processed" with U+FFFD for what
            cannot be decoded.
        nul_characters: files that contain U+0000 are "processed" or "unprocessed".
        byte_order_marks: a byte order mark at the beginning of a file is "counted" in offsets, or
            "removed" first.
        line_ends: CR LF is two characters ("kept"), or "converted" to one.
        offsets: offsets count "code-points", or "utf-16" code units.
        json_files: a file whose name ends in `.json` is read "as-text", or only its member `Text`
            is read ("text-member").
        metered_characters: TotalMeteredCharacters in the manifest is the "exact" number of
            characters, or it is rounded up to units of 100 characters for each file
            ("units-per-file") or once ("units").
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
    final_slash: Literal["ignored", "kept"] = _choice("ignored", "kept")
    same_parameters: Literal["same-job", "refused"] = _choice("same-job", "refused")
    other_parameters: Literal["refused", "same-job"] = _choice("refused", "same-job")
    remember_tokens: Literal["until-job-expires", "until-job-ends"] = _choice(
        "until-job-expires", "until-job-ends"
    )
    missing_role: Literal["refused", "job-fails"] = _choice("refused", "job-fails")
    missing_bucket: Literal["job-fails", "refused"] = _choice("job-fails", "refused")
    kms_key_forms: Literal["all", "arn"] = _choice("all", "arn")
    unfiltered_list: Literal["newest-first", "oldest-first"] = _choice(
        "newest-first", "oldest-first"
    )
    two_filters: Literal["refused", "both"] = _choice("refused", "both")
    stop_after_end: Literal["refused", "accepted"] = _choice("refused", "accepted")
    second_stop: Literal["accepted", "refused"] = _choice("accepted", "refused")
    state_after_stop: Literal["STOP_REQUESTED", "STOPPED"] = _choice("STOP_REQUESTED", "STOPPED")
    empty_location: Literal["job-fails", "completes"] = _choice("job-fails", "completes")
    failure_messages: Literal["sentences", "absent"] = _choice("sentences", "absent")
    folder_markers: Literal["ignored", "read"] = _choice("ignored", "read")
    empty_files: Literal["processed", "unprocessed"] = _choice("processed", "unprocessed")
    not_utf8: Literal["unprocessed", "processed"] = _choice("unprocessed", "processed")
    nul_characters: Literal["processed", "unprocessed"] = _choice("processed", "unprocessed")
    byte_order_marks: Literal["counted", "removed"] = _choice("counted", "removed")
    line_ends: Literal["kept", "converted"] = _choice("kept", "converted")
    offsets: Literal["code-points", "utf-16"] = _choice("code-points", "utf-16")
    json_files: Literal["as-text", "text-member"] = _choice("as-text", "text-member")
    metered_characters: Literal["exact", "units-per-file", "units"] = _choice(
        "exact", "units-per-file", "units"
    )
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
