"""The shapes of request members and arguments. Each shape is one rule, and an attrs validator.

The limits and patterns are those of the service model in botocore (`service-2.json`, 2018-10-30).
`tests/service/test_contract.py` compares them. Two rules go beyond the model: AWS's guidelines for
batch jobs exclude `//` from S3 keys, and its quotas limit a text in bytes.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

from attrs import Attribute, frozen

from ._wording import plural
from .errors import RequestValidationError

_Rule = Callable[[str], str | None]  # returns what is wrong with a value, or None


def check_argument(
    owner: str, field: str, shape: Shape, value: Any, *, optional: bool = False
) -> None:
    """Raise `RequestValidationError` if `value` does not have the shape.

    Args:
        owner: the class that is built, or the function that is called.
        field: the field or argument.
        shape: the shape that `value` must have.
        value: the value.
        optional: whether None is allowed too.
    """
    if value is None and optional:
        return
    if problem := shape.problem(value):
        raise RequestValidationError(owner=owner, field=field, shape=shape.name, reason=problem)


def _validate(shape: Shape, instance: object, attribute: Attribute[Any], value: Any) -> None:
    check_argument(type(instance).__name__, attribute.name, shape, value)


def _describe(value: str, index: int) -> str:
    """Describe one character of a rejected value. An error may show no more of it."""
    code = ord(value[index])
    name = unicodedata.name(value[index], "unnamed")
    return f"the character at index {index} is U+{code:04X} ({name})"


def matching(pattern: str) -> _Rule:
    """Return the rule of a pattern. One of the model must mean the same in Python's dialect."""
    compiled = re.compile(pattern)
    return lambda value: None if compiled.fullmatch(value) else f"must match {pattern}"


def _without(others: str, allowed: str) -> _Rule:
    """Return the rule of a pattern that repeats one class of characters.

    Args:
        others: matches any other character.
        allowed: describes the class.
    """
    compiled = re.compile(others)

    def problem(value: str) -> str | None:
        if (found := compiled.search(value)) is None:
            return None
        return f"must only contain {allowed}; {_describe(value, found.start())}"

    return problem


_ASCII_NAME = re.compile(r"[A-Za-z0-9 _.:/=+\-%@]*")
_NAME_PUNCTUATION = frozenset("_.:/=+-%@")


def _name_problem(value: str) -> str | None:
    r"""Check the pattern `[\p{L}\p{Z}\p{N}_.:/=+\-%@]*`. Python's `re` does not support `\p`."""
    if _ASCII_NAME.fullmatch(value):
        return None
    for index, character in enumerate(value):
        # \p{L}, \p{Z} and \p{N} are the general categories that begin with these letters.
        if unicodedata.category(character)[0] not in "LZN" and character not in _NAME_PUNCTUATION:
            return (
                "must only contain Unicode letters, separators and numbers and _.:/=+-%@;"
                f" {_describe(value, index)}"
            )
    return None


def _line_problem(value: str) -> str | None:
    """Check the pattern `.*`. It is unknown which line breaks besides LF the dialect excludes."""
    index = value.find("\n")
    return f"must be one line; {_describe(value, index)}" if index >= 0 else None


def _s3_key_problem(value: str) -> str | None:
    if (index := value.find("//")) >= 0:
        return f"must not contain //, which AWS excludes from paths; there is one at index {index}"
    return _line_problem(value)


def _s3_uri_problem(value: str) -> str | None:
    return None if value.startswith("s3://") else "must look like s3://bucket/key"


MAX_TEXT_BYTES = 20_000  # of DetectPHI
_SPLIT_TEXT = "; detect_phi_in_document splits longer text"


def _text_size_problem(value: str) -> str | None:
    """Check the size of a text. Bytes are in AWS's quotas, but not in the service model."""
    size = len(value.encode("utf-8", "surrogatepass"))
    if size <= MAX_TEXT_BYTES:
        return None
    return f"must have at most {MAX_TEXT_BYTES} bytes in UTF-8, not {size}{_SPLIT_TEXT}"


_SURROGATE = re.compile(r"[\uD800-\uDFFF]")


@frozen
class StringShape:
    """A string that UTF-8 can encode. Lengths count code points.

    Attributes:
        name: the name of the shape in the service model, or of the type.
        min_length: the minimum length.
        max_length: the maximum length, or None.
        pattern: the pattern in the service model, in its own dialect. `rule` checks it.
        enum: the allowed values, or empty if all are allowed.
        rule: returns what is wrong with a string, in words that do not contain it.
        if_too_long: what to do about a string that is too long, for the end of the message.
    """

    name: str
    min_length: int = 0
    max_length: int | None = None
    pattern: str | None = None
    enum: tuple[str, ...] = ()
    rule: _Rule | None = None
    if_too_long: str = ""

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, in words that do not contain it, or None."""
        if not isinstance(value, str):
            return f"must be a str, not {type(value).__name__}"
        # Code that formats the value, here and in boto3, would send the other text.
        if type(value) is not str and str(value) != value:
            return (
                f"must be a plain str, because str() of this {type(value).__name__} is another"
                " text; for a member of an Enum, pass its value"
            )
        if len(value) < self.min_length:
            characters = plural(self.min_length, "character")
            return f"must have at least {self.min_length} {characters}, not {len(value)}"
        if self.max_length is not None and len(value) > self.max_length:
            characters = plural(self.max_length, "character")
            most = f"must have at most {self.max_length} {characters}"
            return f"{most}, not {len(value)}{self.if_too_long}"
        if self.enum and value not in self.enum:
            return f"must be one of {', '.join(self.enum)}"
        problem = self.rule(value) if self.rule else None
        # Most values are ASCII, which is known without a search.
        if problem is None and not value.isascii() and (found := _SURROGATE.search(value)):
            return f"must be text that UTF-8 can encode; {_describe(value, found.start())}"
        return problem

    __call__ = _validate


@frozen
class IntegerShape:
    """An integer from `minimum` to `maximum`, inclusive. None means no maximum."""

    name: str
    minimum: int
    maximum: int | None = None

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, in words that do not contain it, or None."""
        if isinstance(value, bool) or not isinstance(value, int):
            return f"must be an int, not {type(value).__name__}"
        if value < self.minimum:
            return f"must be at least {self.minimum}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum}"
        return None

    __call__ = _validate


@frozen
class NumberShape:
    """A number from `minimum` to `maximum`, inclusive, such as seconds or a score."""

    name: str
    minimum: float
    maximum: float | None = None
    finite: bool = True

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, in words that do not contain it, or None."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"must be a number, not {type(value).__name__}"
        # Comparisons with not-a-number are false, so these two conditions reject it.
        if self.maximum is not None and not self.minimum <= value <= self.maximum:
            return f"must be between {self.minimum:g} and {self.maximum:g}"
        if not value >= self.minimum:
            return f"must be at least {self.minimum:g}"
        # Time is counted in floats, and an integer can be too large for a float.
        if value > sys.float_info.max and (self.finite or isinstance(value, int)):
            return "must be finite"
        return None

    __call__ = _validate


@frozen
class InstanceShape:
    """An instance of a class or of a runtime-checkable protocol.

    Attributes:
        cls: the class or protocol.
        advice: how to get such an object.
    """

    cls: type
    advice: str = ""

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.cls.__name__

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, in words that do not contain it, or None."""
        # A class has the methods of a protocol too, but they cannot be called.
        if isinstance(value, self.cls) and not isinstance(value, type):
            return None
        article = "an" if self.name[0] in "AEIOU" else "a"
        problem = f"must be {article} {self.name}, not {type(value).__name__}"
        return f"{problem}; {self.advice}" if self.advice else problem

    __call__ = _validate


@frozen
class RuleShape:
    """A value of any type that follows a rule.

    Attributes:
        name: the name of the expected type.
        problem: returns what is wrong with a value, in words that do not contain it, or None.
    """

    name: str
    problem: Callable[[Any], str | None]

    __call__ = _validate


Shape = StringShape | IntegerShape | NumberShape | InstanceShape | RuleShape


def _callable_problem(value: Any) -> str | None:
    return None if callable(value) else f"must be callable, not {type(value).__name__}"


_NAME_PATTERN = r"^([\p{L}\p{Z}\p{N}_.:/=+\-%@]*)$"
_BUCKET_PATTERN = r"^[0-9a-z\.\-_]*(?!\.)$"
_ROLE_PATTERN = r"arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+"

S3_BUCKET = StringShape(
    "S3Bucket",
    3,
    63,
    _BUCKET_PATTERN,
    rule=_without(r"[^0-9a-z.\-_]", "a-z, 0-9, dots, hyphens and underscores"),
)
S3_KEY = StringShape("S3Key", 0, 1024, ".*", rule=_s3_key_problem)
TEXT = StringShape("str")
S3_URI = StringShape("S3 URI", rule=_s3_uri_problem)
IAM_ROLE_ARN = StringShape("IamRoleArn", 20, 2048, _ROLE_PATTERN, rule=matching(_ROLE_PATTERN))
JOB_NAME = StringShape("JobName", 1, 256, _NAME_PATTERN, rule=_name_problem)
JOB_ID = StringShape("JobId", 1, 32, _NAME_PATTERN, rule=_name_problem)
KMS_KEY = StringShape("KMSKey", 1, 2048, ".*", rule=_line_problem)
CLIENT_REQUEST_TOKEN = StringShape(
    "ClientRequestTokenString",
    1,
    64,
    r"^[a-zA-Z0-9-]+$",
    rule=_without("[^a-zA-Z0-9-]", "a-z, A-Z, 0-9 and -"),
)
PHI_TEXT = StringShape(
    "BoundedLengthString", 1, 20_000, rule=_text_size_problem, if_too_long=_SPLIT_TEXT
)
LANGUAGE_CODE = StringShape("LanguageCode", enum=("en",))
MAX_RESULTS = IntegerShape("MaxResultsInteger", 1, 500)

# Rules of this package, for its policies and arguments.
SECONDS = NumberShape("seconds", 0.0)
PAUSE = NumberShape("seconds", 0.001)  # with 0, a loop would poll without a pause
TIMEOUT = NumberShape("seconds", 0.0, finite=False)
FACTOR = NumberShape("factor", 1.0)
ATTEMPTS = IntegerShape("attempts", 1)

BOOL = InstanceShape(bool)
NOTE_TEXT = InstanceShape(str, "decode bytes as UTF-8")
CALLABLE = RuleShape("callable", _callable_problem)
