"""The CPU time of `import comprehend_phi`, compared with `import boto3`.

Each import runs in a new interpreter, because a process imports a module only once. The figures are
the user and system CPU time of that process, minus the time of an interpreter in the same round
that imports nothing. Wall time would include other load on the machine. The interpreters are
isolated (`-I`), so they import the installed package and not the checkout. The warm-up rounds make
sure that the bytecode is compiled and in the page cache.

This needs a POSIX system, for `os.wait4`.
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
    """Return the CPU seconds of a new interpreter that runs `code`."""
    command = [sys.executable, "-I", "-c", code]
    pid = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise SystemExit(f"`{code}` failed in a new interpreter")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print the results."""
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
