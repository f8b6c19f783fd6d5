"""The CPU time of `redact`, compared with code that does not check offsets.

There are two texts. One has 20 KB and 40 spans, like a long note. The other has 1 MB and 5,000
spans, which is more than the service accepts. It shows that the time grows linearly. There are two
loops without checks:

- pieces: sort the spans and join the pieces between them, which is the minimum;
- slices: build a new text for each span, from the last to the first, which is the usual code and
  takes quadratic time.

The redacted texts of all candidates are compared first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from time import process_time

from _measure import Comparison, in_turns, print_table

from comprehend_phi import Entity, redact

WARM_UPS = 6
OURS, PIECES, SLICES = "redact", "pieces, no checks", "slices, no checks"

Redact = Callable[[str, Sequence[Entity]], str]


def note(length: int, spans: int) -> tuple[str, list[Entity]]:
    """Return a text of `length` code points and evenly distributed entities."""
    filler = "seen in the clinic today, no complaints, plan unchanged; "
    step = length // spans
    pieces: list[str] = []
    entities: list[Entity] = []
    for number in range(spans):
        name = f"Ottoline Marsh {number}"
        pieces.append(name)
        pieces.append((filler * (step // len(filler) + 1))[: step - len(name)])
        entities.append(
            Entity(
                id=number,
                begin_offset=number * step,
                end_offset=number * step + len(name),
                score=0.99,
                text=name,
                category="PROTECTED_HEALTH_INFORMATION",
                type="NAME",
            )
        )
    return "".join(pieces), entities


def by_pieces(text: str, entities: Sequence[Entity]) -> str:
    """Redact with a minimum of work."""
    pieces: list[str] = []
    position = 0
    for entity in sorted(entities, key=lambda entity: entity.begin_offset):
        pieces.append(text[position : entity.begin_offset])
        pieces.append(f"[{entity.type}]")
        position = entity.end_offset
    pieces.append(text[position:])
    return "".join(pieces)


def by_slices(text: str, entities: Sequence[Entity]) -> str:
    """Redact with the usual code."""
    for entity in sorted(entities, key=lambda entity: entity.begin_offset, reverse=True):
        text = f"{text[: entity.begin_offset]}[{entity.type}]{text[entity.end_offset :]}"
    return text


CANDIDATES: dict[str, Redact] = {PIECES: by_pieces, SLICES: by_slices, OURS: redact}


def timed(how: Redact, text: str, entities: Sequence[Entity], calls: int) -> Callable[[], float]:
    """Return a function that measures the CPU seconds of one redaction, as a block's mean."""

    def block() -> float:
        gc.collect()  # collect what the last block left, before the measurement begins
        began = process_time()
        for _ in range(calls):
            how(text, entities)
        return (process_time() - began) / calls

    return block


def compare(title: str, length: int, spans: int, *, rounds: int, calls: int, unit: str) -> None:
    """Measure one text and print its table."""
    text, entities = note(length, spans)
    expected = redact(text, entities)
    if any(how(text, entities) != expected for how in CANDIDATES.values()):
        raise SystemExit("the redacted texts are not the same: there is nothing to compare")
    taken = in_turns(
        {name: timed(how, text, entities, calls) for name, how in CANDIDATES.items()},
        rounds=rounds,
        warm_ups=WARM_UPS,
    )
    print_table(
        f"CPU time to redact {title}, {rounds} rounds of {calls}",
        taken,
        [Comparison(OURS, PIECES), Comparison(OURS, SLICES)],
        unit=unit,
    )


def main() -> None:
    """Measure and print the results."""
    gc.collect()
    gc.freeze()
    gc.disable()
    compare("20 KB with 40 spans", 20_000, 40, rounds=60, calls=50, unit="us")
    compare("1 MB with 5,000 spans", 1_000_000, 5_000, rounds=6, calls=1, unit="ms")


if __name__ == "__main__":
    main()
