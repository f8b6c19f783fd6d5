"""The CPU time to split a text of 10 MB, compared with ten texts of 1 MB.

If the time grows linearly, the ratio is about 1; if it grew quadratically, it would be about 10.
Texts without a good place to split, or with many bad ones, are the difficult ones. `split` is not
public: `detect_phi_in_document` calls it before its first request.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time

from _measure import Comparison, in_turns, print_table

from comprehend_phi._splitting import split

LIMIT, OVERLAP = 20_000, 1_000  # bytes; the defaults of `detect_phi_in_document`
MEGABYTE = 1_000_000
SENTENCE = "Seen by Dr. Iris Example on 2031-02-03. Patient: Noor Sample, phone (555) 555-0142.\n"
TEXTS = {
    "sentences": SENTENCE,
    "one word": "x",
    "a word of two-byte letters": "é",
    "combining marks": "\u0301",
    "ends of lines": "\r\n",
    "spaces": " ",
    "full stops": ".",
    "quotations": '."""',
}
ONE, TEN = "10 MB in one text", "10 MB in ten texts"
MOST = 1.50


def timed(text: str, calls: int) -> Callable[[], float]:
    """Return a function that measures the CPU seconds of splitting a text `calls` times."""

    def block() -> float:
        gc.collect()
        began = process_time()
        for _ in range(calls):
            split(text, LIMIT, OVERLAP)
        return process_time() - began

    return block


def main() -> None:
    """Measure and print the results."""
    gc.disable()
    for name, unit in TEXTS.items():
        text = unit * (MEGABYTE // len(unit.encode()))
        candidates = {TEN: timed(text, 10), ONE: timed(text * 10, 1)}
        taken = in_turns(candidates, rounds=3, warm_ups=1)
        print_table(
            f"CPU time to split {name}, 3 rounds", taken, [Comparison(ONE, TEN, MOST)], unit="ms"
        )


if __name__ == "__main__":
    main()
