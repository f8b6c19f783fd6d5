"""Adds up the files of a job and their problems, in memory that does not grow with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from attrs import frozen

from .._keys import folder_key
from .._wording import amount
from ..models import StartPHIDetectionJobRequest
from .limits import ServiceLimits
from .report import InputProblem, InputReport, ProblemCode

CHARACTERS_PER_UNIT = 100
_MOST_KEPT = 1_000  # problems of one code

MAX_KEY_BYTES = 1_024  # Amazon S3 User Guide, "Naming Amazon S3 objects"
# `<account>-PHIDetection-<jobid>/` and `.out`, which the service adds to a key.
_ADDED_BYTES = len(f"{12 * '0'}-PHIDetection-{32 * '0'}/.out")

_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # GLACIER_IR can be read at once

_NOT_TEXT = re.compile(
    r"\.(?:json|jsonl|xml|html?|pdf|docx?|xlsx?|pptx?|rtf|odt"
    r"|gz|tgz|bz2|xz|zst|zip|7z|tar"
    r"|dcm|png|jpe?g|gif|tiff?|bmp|webp|heic)\Z",
    re.IGNORECASE,
)

# No UTF-8 character has more bytes.
_MAX_BYTES_PER_CHARACTER = 4


@frozen
class NoteContent:
    """What reading one note showed.

    Attributes:
        characters: its code points; None if it is not UTF-8.
        problems: codes and details.
    """

    characters: int | None
    problems: tuple[tuple[ProblemCode, str], ...] = ()


class Tally:
    """The running totals of one check.

    Args:
        request: the job.
        limits: AWS's quotas.
        on_problem: called with every problem.
    """

    def __init__(
        self,
        request: StartPHIDetectionJobRequest,
        limits: ServiceLimits,
        on_problem: Callable[[InputProblem], object] | None,
    ) -> None:
        self.file_count: int = 0
        self._total_bytes = 0
        self._characters = 0
        self._min_characters = 0
        self._max_units = 0
        self._limits = limits
        self._on_problem = on_problem
        self._problems: list[InputProblem] = []
        self._counts: Counter[ProblemCode] = Counter()
        self._siblings: set[str] = set()
        self._last_sibling = ""
        self._input_key = request.input_data_config.s3_key or ""
        self._folder = folder_key(self._input_key)
        output_folder = folder_key(request.output_data_config.s3_key)
        self._max_path_bytes = MAX_KEY_BYTES - _ADDED_BYTES - len(output_folder.encode())
        source, target = request.input_data_config, request.output_data_config
        if source.s3_bucket == target.s3_bucket and output_folder.startswith(self._folder):
            self.add_problem(
                ProblemCode.OUTPUT_INSIDE_INPUT,
                None,
                "the output location is the input location, or inside it",
            )

    def is_input(self, key: str) -> bool:
        """Return whether the job reads `key`: the input key names a folder or this object."""
        return key.startswith(self._folder) or key == self._input_key

    def add_file(self, key: str, size: int, storage_class: str | None = None) -> bool:
        """Add one file of the input. Return whether AWS would process it, as far as known."""
        if key.endswith("/"):
            self.add_problem(ProblemCode.FOLDER_MARKER, key, amount(size, "byte"))
            return False
        self.file_count += 1
        self._total_bytes += size
        is_processed = True
        if size > self._limits.max_file_bytes:
            detail = f"{size} bytes; the limit is {self._limits.max_file_bytes}"
            self.add_problem(ProblemCode.TOO_LARGE, key, detail)
            is_processed = False
        elif size == 0:
            self.add_problem(ProblemCode.EMPTY, key, "0 bytes")
        path = key[len(self._folder) :] if key != self._input_key else key.rpartition("/")[2]
        if "//" in path or path.startswith("/"):
            self.add_problem(ProblemCode.DOUBLE_SLASH, key, "AWS does not allow // in paths")
            is_processed = False
        if storage_class in _ARCHIVES:
            detail = f"storage class {storage_class}: the file cannot be read until it is restored"
            self.add_problem(ProblemCode.ARCHIVED, key, detail)
            is_processed = False
        if ending := _NOT_TEXT.search(path):
            self.add_problem(
                ProblemCode.NOT_PLAIN_TEXT, key, f"the name ends in {ending[0].lower()}"
            )
        # Most keys are short enough however many bytes their characters have.
        if len(path) * _MAX_BYTES_PER_CHARACTER > self._max_path_bytes:
            length = len(path.encode(errors="surrogatepass"))
            if (excess := length - self._max_path_bytes) > 0:
                detail = f"the output key would have {MAX_KEY_BYTES + excess} bytes"
                self.add_problem(ProblemCode.OUTPUT_KEY_TOO_LONG, key, detail)
        return is_processed

    def add_sibling(self, key: str) -> None:
        """Add a name that begins with the input key without being below it."""
        name = key[: key.find("/", len(self._input_key)) + 1] or key
        # The last one too, so that any number of sorted names counts once each.
        if name in self._siblings or name == self._last_sibling:
            return
        self._last_sibling = name
        if len(self._siblings) < _MOST_KEPT:
            self._siblings.add(name)
        detail = "the name begins with the input key, but is not below it"
        self.add_problem(ProblemCode.SIBLING_PREFIX, name, detail)

    def add_price(self, size: int, characters: int | None = None) -> None:
        """Add what AWS charges for one file of `size` bytes."""
        if characters is None:
            fewest, most = -(-size // _MAX_BYTES_PER_CHARACTER), size
        else:
            fewest = most = characters
            self._characters += characters
        self._min_characters += fewest
        self._max_units += max(1, units(most))

    def add_problem(self, code: ProblemCode, key: str | None, detail: str) -> None:
        """Add a problem: count it, keep the first ones, and call `on_problem`."""
        problem = InputProblem(code=code, key=key, detail=detail)
        self._counts[code] += 1
        if self._counts[code] <= _MOST_KEPT:
            self._problems.append(problem)
        if self._on_problem is not None:
            self._on_problem(problem)

    def report(self, *, was_listed: bool = True, has_characters: bool = False) -> InputReport:
        """Add the problems of the job as a whole, and return the report.

        Args:
            was_listed: whether the files of the input location are known.
            has_characters: whether all notes were read.
        """
        limits = self._limits
        if self.file_count > limits.max_job_files:
            detail = f"{self.file_count} files; the limit is {limits.max_job_files}"
            self.add_problem(ProblemCode.TOO_MANY_FILES, None, detail)
        if self._total_bytes > limits.max_job_bytes:
            detail = f"{self._total_bytes} bytes; the limit is {limits.max_job_bytes}"
            self.add_problem(ProblemCode.TOO_MANY_BYTES, None, detail)
        if was_listed and self.file_count == 0:
            self.add_problem(ProblemCode.NO_FILES, None, "the input location contains no files")
        return InputReport(
            file_count=self.file_count,
            total_bytes=self._total_bytes,
            characters=self._characters if has_characters else None,
            min_units=units(self._min_characters),
            max_units=self._max_units,
            problems=tuple(self._problems),
            problem_counts={str(code): count for code, count in self._counts.items()},
        )


def units(characters: int) -> int:
    """Return how many units so many characters are, rounded up."""
    return -(-characters // CHARACTERS_PER_UNIT)
