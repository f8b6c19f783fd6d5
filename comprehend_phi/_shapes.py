"""The shapes of what is sent and of arguments, each with its one rule, and what applies them.

The limits and patterns are those of the service model that botocore ships (`service-2.json`,
2018-10-30); `tests/test_contract.py` holds the two against each other. One rule goes beyond the
model: `//` in an S3 key, which AWS's guidelines for batch jobs exclude.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import Attribute, frozen

from .errors import RequestValidationError

_Rule = Callable[[str], str | None]  # what is wrong with a value, or None


def _character(value: str, index: int) -> str:
    """The one character of a refused value that an error may show."""
    code = ord(value[index])
    name = unicodedata.name(value[index], "unnamed")
    return f"the character at index {index} is U+{code:04X} ({name})"


def _match_problem(pattern: re.Pattern[str], value: str) -> str | None:
    """The rule of a pattern that reads the same in the model's regex dialect and in Python's."""
    return None if pattern.fullmatch(value) else f"must match {pattern.pattern}"


def _character_problem(others: re.Pattern[str], in_words: str, value: str) -> str | None:
    """The rule of a pattern that repeats one class of characters; `others` finds any other."""
    if (found := others.search(value)) is None:
        return None
    return f"must consist of {in_words}; {_character(value, found.start())}"


_ASCII_NAME = re.compile(r"[A-Za-z0-9 _.:/=+\-%@]*")
_NAME_PUNCTUATION = frozenset("_.:/=+-%@")


def _name_problem(value: str) -> str | None:
    r"""The rule of `[\p{L}\p{Z}\p{N}_.:/=+\-%@]*`, whose classes Python's `re` does not know."""
    if _ASCII_NAME.fullmatch(value):
        return None
    for index, character in enumerate(value):
        # \p{L}, \p{Z} and \p{N} are the general categories that begin with these letters.
        if unicodedata.category(character)[0] not in "LZN" and character not in _NAME_PUNCTUATION:
            return (
                "must consist of Unicode letters, separators and numbers and _.:/=+-%@;"
                f" {_character(value, index)}"
            )
    return None


def _line_problem(value: str) -> str | None:
    """The rule of `.*`. Which line breaks beside LF the service's dialect excludes, nobody says."""
    index = value.find("\n")
    return f"must be one line; {_character(value, index)}" if index >= 0 else None


def _s3_key_problem(value: str) -> str | None:
    if (index := value.find("//")) >= 0:
        return f"must not contain //, which AWS excludes from paths; there is one at index {index}"
    return _line_problem(value)


def _s3_uri_problem(value: str) -> str | None:
    return None if value.startswith("s3://") else "must be like s3://bucket/key"


_SURROGATE = re.compile(r"[\uD800-\uDFFF]")


@frozen
class StringShape:
    """A string shape of the service model. Lengths count code points."""

    name: str
    min_length: int = 0
    max_length: int | None = None
    pattern: str | None = None  # as the model spells it
    enum: tuple[str, ...] = ()
    rule: _Rule | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, in words that do not contain it; None when nothing is."""
        if not isinstance(value, str):
            return f"must be a str, not {type(value).__name__}"
        if len(value) < self.min_length:
            return f"must have at least {self.min_length} characters, not {len(value)}"
        if self.max_length is not None and len(value) > self.max_length:
            return f"must have at most {self.max_length} characters, not {len(value)}"
        if self.enum and value not in self.enum:
            return f"must be one of {', '.join(self.enum)}"
        problem = self.rule(value) if self.rule else None
        if problem is None and (found := _SURROGATE.search(value)):
            return f"must be text that UTF-8 can encode; {_character(value, found.start())}"
        return problem


@frozen
class IntegerShape:
    """An integer shape, both ends included."""

    name: str
    minimum: int
    maximum: int | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, in words that do not contain it; None when nothing is."""
        if isinstance(value, bool) or not isinstance(value, int):
            return f"must be an int, not {type(value).__name__}"
        if value < self.minimum:
            return f"must be at least {self.minimum}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum}"
        return None


@frozen
class NumberShape:
    """A number such as seconds or a score."""

    name: str
    minimum: float
    maximum: float | None = None
    finite: bool = True

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, in words that do not contain it; None when nothing is."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"must be a number, not {type(value).__name__}"
        # Written so that not-a-number is refused too.
        if self.maximum is not None and not self.minimum <= value <= self.maximum:
            return f"must be between {self.minimum:g} and {self.maximum:g}"
        if not value >= self.minimum:
            return f"must be at least {self.minimum:g}"
        # Time is counted in floats; an integer may be larger than any of them.
        if value > sys.float_info.max and (self.finite or isinstance(value, int)):
            return "must be finite"
        return None


@frozen
class InstanceShape:
    """An object of a class or of a protocol that can be checked at run time.

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
        """Say in words that do not contain `value` what is wrong with it; None if nothing is."""
        # A class has the methods that a protocol asks for, yet nobody can call them.
        if isinstance(value, self.cls) and not isinstance(value, type):
            return None
        article = "an" if self.name[0] in "AEIOU" else "a"
        problem = f"must be {article} {self.name}, not {type(value).__name__}"
        return f"{problem}; {self.advice}" if self.advice else problem


@frozen
class CallableShape:
    """A function or anything else that can be called."""

    name: str = "callable"

    def problem(self, value: Any) -> str | None:
        """Say in words that do not contain `value` what is wrong with it; None if nothing is."""
        return None if callable(value) else f"must be callable, not {type(value).__name__}"


Shape = StringShape | IntegerShape | NumberShape | InstanceShape | CallableShape


def require(owner: str, field: str, shape: Shape, value: Any, *, optional: bool = False) -> None:
    """Raise RequestValidationError unless `value` has the shape.

    Args:
        owner: the class that is being built, or the function that is called.
        field: the field or argument.
        shape: what `value` has to be.
        value: what was given.
        optional: whether None is fine too.
    """
    if value is None and optional:
        return
    if problem := shape.problem(value):
        raise RequestValidationError(owner=owner, field=field, shape=shape.name, reason=problem)


@frozen
class Obeys:
    """The field validator of attrs classes: the value has the given shape."""

    shape: Shape
    optional: bool = False

    def __call__(self, instance: object, attribute: Attribute[Any], value: Any) -> None:
        """Raise RequestValidationError unless `value` has the shape."""
        owner = type(instance).__name__
        require(owner, attribute.name, self.shape, value, optional=self.optional)


_NAME_PATTERN = r"^([\p{L}\p{Z}\p{N}_.:/=+\-%@]*)$"
_BUCKET_PATTERN = r"^[0-9a-z\.\-_]*(?!\.)$"
_ROLE_PATTERN = r"arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+"

S3_BUCKET = StringShape(
    "S3Bucket",
    3,
    63,
    _BUCKET_PATTERN,
    rule=partial(_character_problem, re.compile(r"[^0-9a-z.\-_]"), "0-9, a-z and .-_"),
)
S3_KEY = StringShape("S3Key", 0, 1024, ".*", rule=_s3_key_problem)
TEXT = StringShape("str")
S3_URI = StringShape("S3 URI", rule=_s3_uri_problem)
IAM_ROLE_ARN = StringShape(
    "IamRoleArn",
    20,
    2048,
    _ROLE_PATTERN,
    rule=partial(_match_problem, re.compile(_ROLE_PATTERN)),
)
JOB_NAME = StringShape("JobName", 1, 256, _NAME_PATTERN, rule=_name_problem)
JOB_ID = StringShape("JobId", 1, 32, _NAME_PATTERN, rule=_name_problem)
KMS_KEY = StringShape("KMSKey", 1, 2048, ".*", rule=_line_problem)
CLIENT_REQUEST_TOKEN = StringShape(
    "ClientRequestTokenString",
    1,
    64,
    r"^[a-zA-Z0-9-]+$",
    rule=partial(_character_problem, re.compile("[^a-zA-Z0-9-]"), "a-z, A-Z, 0-9 and -"),
)
LANGUAGE_CODE = StringShape("LanguageCode", enum=("en",))
MAX_RESULTS = IntegerShape("MaxResultsInteger", 1, 500)

# The policies' own: no rule of AWS.
SECONDS = NumberShape("seconds", 0.0)
PAUSE = NumberShape("seconds", 0.001)  # a pause of nothing would poll without a pause
TIMEOUT = NumberShape("seconds", 0.0, finite=False)
FACTOR = NumberShape("factor", 1.0)
ATTEMPTS = IntegerShape("attempts", 1)

CALLABLE = CallableShape()
