"""Identifiers are replaced, and everything else stays."""

from __future__ import annotations

import pytest

from comprehend_phi.testing.parity.masking import Mask

MASK = Mask(
    [
        ("role", "arn:aws:iam::123456789012:role/zinnia"),
        ("role", "zinnia"),
        ("bucket", "zinnia-notes"),
        ("profile", None),
        ("kms-key", ""),
    ]
)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("arn:aws:iam::123456789012:role/zinnia may not", "<role> may not"),
        ("the role zinnia", "the role <role>"),
        ("s3://zinnia-notes/a", "s3://<bucket>/a"),  # the longer value first
        ("'arn:aws:sts::1:assumed-role/x/y', please", "'<arn>', please"),
        ("arn:aws-us-gov:kms:r:1:key/2", "<arn>"),
        ("account 123456789012.", "account <account>."),
        (
            "123456789012-PHIDetection-0123456789abcdef0123456789abcdef",
            "<account>-PHIDetection-<id>",
        ),
        ("request 0A1B2C3D-0000-4000-8000-0123456789ab", "request <request-id>"),
        ("0123456789abcdef", "<id>"),
        ("part-00000.json", "part-00000.json"),
        ("71680 bytes, HTTP 404", "71680 bytes, HTTP 404"),
        ("1234567890123 ms", "1234567890123 ms"),
        ("The input location contains no files.", "The input location contains no files."),
        ("", ""),
    ],
)
def test_identifiers_are_replaced(text: str, masked: str) -> None:
    assert MASK(text) == masked
