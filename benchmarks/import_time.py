"""What `import comprehend_phi` costs beside `import boto3`.

Each import runs in a fresh interpreter, since a module is imported once per process. What counts
is the CPU time, user and system, that the kernel charged to that process, less that of an
interpreter that imports nothing in the same round: wall time would measure what else the machine
does, and the start of Python is no part of an import. The interpreters are isolated (`-I`), so
that they see the installed package and neither the checkout nor the user's own directory. The
warm-up rounds see to it that the bytecode is compiled and in the page cache.

Needs a POSIX system, for `os.wait4`.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from _measure import Comparison, in_turns, print_table

ROUNDS = 60
WARM_UPS = 6
EMPTY, OURS, THEIRS = "pass", "import comprehend_phi", "import boto3"


def cpu_seconds(code: str) -> float:
    """The CPU time of a fresh interpreter that runs `code`."""
    command = [sys.executable, "-I", "-c", code]
    pid = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise SystemExit(f"`{code}` failed in a fresh interpreter")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    taken = in_turns(
        {code: partial(cpu_seconds, code) for code in (EMPTY, OURS, THEIRS)},
        rounds=ROUNDS,
        warm_ups=WARM_UPS,
    )
    print_table(
        f"CPU time of an import in a fresh interpreter, {ROUNDS} rounds",
        taken,
        [Comparison(OURS, THEIRS, target=0.40)],
        unit="ms",
        idle=taken[EMPTY],
    )


if __name__ == "__main__":
    main()
