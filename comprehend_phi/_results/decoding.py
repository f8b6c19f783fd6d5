"""Decoding the files that the service writes: the manifest, its lists and the `.out` files."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from .._entities import DetectPHIResponse
from ..errors import UnreadableObjectError
from .documents import Manifest

_T = TypeVar("_T")

_PHI = "PROTECTED_HEALTH_INFORMATION"


class _Summary(Manifest, frozen=True, kw_only=True, rename="pascal"):
    successful_files_count: int | None = None  # another spelling, seen in real manifests


class _ManifestFile(msgspec.Struct, rename="pascal"):
    summary: _Summary


class InputLocation(msgspec.Struct, rename="pascal"):
    """The input location in a manifest."""

    bucket: str
    path: str = ""


class _InputSummary(msgspec.Struct, rename="pascal"):
    input_data_configuration: InputLocation


class _InputFile(msgspec.Struct, rename="pascal"):
    summary: _InputSummary


class ListEntry(msgspec.Struct, rename="pascal"):
    """An entry of a list of processed or unprocessed files."""

    input: str
    output: str | None = None
    input_size: int | None = None
    error_code: str | None = None
    error_message: str | None = None


class _ListFile(msgspec.Struct, rename="pascal"):
    files: list[ListEntry | str]  # older jobs list only names


class _OutputFile(DetectPHIResponse, frozen=True, kw_only=True, rename="pascal"):
    pagination_token: str | None = None


def decode_manifest(body: bytes, *, bucket: str, key: str) -> Manifest:
    """Return the manifest. Raise `UnreadableObjectError` if it is broken."""
    summary = _decode(_manifest_file, body, bucket, key).summary
    members = {name: getattr(summary, name) for name in Manifest.__struct_fields__}
    if summary.success_files_count is None:
        members["success_files_count"] = summary.successful_files_count
    return Manifest(**members)


def decode_input_location(body: bytes, *, bucket: str, key: str) -> InputLocation:
    """Return the input location in a manifest. Raise `UnreadableObjectError` if there is none."""
    return _decode(_input_file, body, bucket, key).summary.input_data_configuration


def decode_file_list(body: bytes, *, bucket: str, key: str) -> list[ListEntry]:
    """Return the entries of a list. Raise `UnreadableObjectError` if it is broken."""
    files = _decode(_list_file, body, bucket, key).files
    return [file if isinstance(file, ListEntry) else ListEntry(input=file) for file in files]


def decode_output(body: bytes, *, bucket: str, key: str) -> DetectPHIResponse:
    """Return the content of a `.out` file, which is like a response of DetectPHI.

    Raise `UnreadableObjectError` if it is broken, or lacks entities.
    """
    content = _decode(_output_file, body, bucket, key)
    if content.pagination_token:
        reason = "the file has a PaginationToken, so entities are missing"
        raise UnreadableObjectError(reason, bucket=bucket, key=key)
    for entity in content.entities:
        # Nearly all entities have this category. Sharing one string saves 77 bytes for each.
        if entity.category == _PHI:
            msgspec.structs.force_setattr(entity, "category", _PHI)
    return content


_manifest_file = msgspec.json.Decoder(_ManifestFile)
_input_file = msgspec.json.Decoder(_InputFile)
_list_file = msgspec.json.Decoder(_ListFile)
_output_file = msgspec.json.Decoder(_OutputFile)


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes, bucket: str, key: str) -> _T:
    """Return the content of a file.

    Raises:
        UnreadableObjectError: the file is broken. The error contains nothing of the file and has no
            cause or context.
    """
    try:
        # msgspec does not check the encoding of members that it does not know.
        if not body.isascii():
            body.decode("utf-8")
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        reason = f"the file is not UTF-8 (byte {error.start})"
    except msgspec.ValidationError as error:
        # msgspec names the path and the types, not the value.
        reason = f"the file does not have the documented structure: {error}"
    except msgspec.DecodeError:
        reason = "the file is not JSON"
    except RecursionError:
        reason = "the file is nested too deeply"
    raise UnreadableObjectError(reason, bucket=bucket, key=key)
