"""The CPU time and memory of decoding a result file.

The file is one .out document of 3.5 KB as the service writes it, with 21 entities, some of which
have a trait. There are three candidates:

- this package, with immutable typed entities, including its check for UTF-8;
- `orjson.loads`, the fastest general JSON library, with untyped dicts;
- `json.loads` and attrs classes, the usual way to get typed values.

The values of all candidates are compared first. Calls are timed in blocks in this process. The
garbage collector is frozen and switched off, because its pauses would count against the candidate
that is running. So the figures do not include that the collector visits each dict but no entity.

Memory is the size that `tracemalloc` reports for 200,000 entities at the same time, scaled to a
million. A program needs this much if it reads all results before it uses them.

This needs orjson.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import attrs
import orjson
from _measure import Comparison, in_turns, print_table

import comprehend_phi
from comprehend_phi._results.decoding import decode_output

ROUNDS = 120
WARM_UPS = 6
CALLS = 100  # per block
OURS, ORJSON, ATTRS = "comprehend_phi", "orjson.loads", "json.loads and attrs"

DOCUMENT_BYTES = 3_500
HELD = 200_000  # entities
MILLION = 1_000_000

FASTER_THAN_ORJSON = 1.2
SHARE_OF_DICTS = 0.50

Decode = Callable[[bytes], Any]


@attrs.frozen
class Trait:
    """A trait, as a program without this package would define it."""

    name: str
    score: float


@attrs.frozen
class Entity:
    """An entity, as a program without this package would define it."""

    id: int
    begin_offset: int
    end_offset: int
    score: float
    text: str
    category: str
    type: str
    traits: tuple[Trait, ...]


def document() -> bytes:
    """Return a .out file of about 3.5 KB."""
    found = (
        ("NAME", "Ottoline Marsh"),
        ("PHONE_OR_FAX", "(555) 555-0142"),
        ("DATE", "03/14/2031"),
        ("ADDRESS", "12 Invented Lane, Exampleton"),
        ("ID", "555-0199"),
        ("AGE", "47"),
        ("PROFESSION", "clockmaker"),
    )
    entities: list[dict[str, Any]] = []
    position = 17
    while len(_file(entities)) < DOCUMENT_BYTES:
        type_, text = found[len(entities) % len(found)]
        entities.append(
            {
                "Id": len(entities),
                "BeginOffset": position,
                "EndOffset": position + len(text),
                "Score": 0.9973849058151245 - len(entities) / 1_000,
                "Text": text,
                "Category": "PROTECTED_HEALTH_INFORMATION",
                "Type": type_,
                "Traits": [{"Name": "NEGATION", "Score": 0.83}] if type_ == "AGE" else [],
            }
        )
        position += len(text) + 31
    return _file(entities)


def _file(entities: list[dict[str, Any]]) -> bytes:
    content = {"Entities": entities, "UnmappedAttributes": [], "ModelVersion": "0.1.0"}
    return json.dumps(content, separators=(",", ":")).encode()


def by_us(body: bytes) -> Sequence[comprehend_phi.Entity]:
    """Decode a document as `JobResults` does."""
    return decode_output(body, bucket="results", key="note.txt.out").entities


def by_orjson(body: bytes) -> Any:
    """Decode a document to untyped dicts."""
    return orjson.loads(body)["Entities"]


def by_attrs(body: bytes) -> Sequence[Entity]:
    """Decode a document with the standard library, and build the objects by hand."""
    return tuple(
        Entity(
            id=entity["Id"],
            begin_offset=entity["BeginOffset"],
            end_offset=entity["EndOffset"],
            score=entity["Score"],
            text=entity["Text"],
            category=entity["Category"],
            type=entity["Type"],
            traits=tuple(Trait(trait["Name"], trait["Score"]) for trait in entity["Traits"]),
        )
        for entity in json.loads(body)["Entities"]
    )


CANDIDATES: dict[str, Decode] = {ORJSON: by_orjson, ATTRS: by_attrs, OURS: by_us}


def values(entities: Any) -> list[tuple[Any, ...]]:
    """Return the decoded values in a form that can be compared."""
    fields = ("id", "begin_offset", "end_offset", "score", "text", "category", "type")
    names = ("Id", "BeginOffset", "EndOffset", "Score", "Text", "Category", "Type")
    return [
        tuple(entity[name] for name in names)
        if not hasattr(entity, "text")
        else tuple(getattr(entity, field) for field in fields)
        for entity in entities
    ]


def timed(decode: Decode, body: bytes) -> Callable[[], float]:
    """Return a function that measures the CPU seconds of one decoding, as a block's mean."""

    def block() -> float:
        gc.collect()  # collect what the last block left, before the measurement begins
        began = process_time()
        for _ in range(CALLS):
            decode(body)
        return (process_time() - began) / CALLS

    return block


def bytes_per_million(decode: Decode, body: bytes) -> float:
    """Return the memory of a million entities in bytes."""
    count = 0
    held: list[Any] = []
    tracemalloc.start()
    while count < HELD:
        held.append(decode(body))
        count += len(held[-1])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / count * MILLION


def main() -> None:
    """Compare the values, measure and print the results."""
    body = document()
    expected = values(by_orjson(body))
    if any(values(decode(body)) != expected for decode in CANDIDATES.values()):
        raise SystemExit("the values are not the same: there is nothing to compare")

    memory = {name: bytes_per_million(decode, body) for name, decode in CANDIDATES.items()}
    gc.collect()
    gc.freeze()
    gc.disable()
    taken = in_turns(
        {name: timed(decode, body) for name, decode in CANDIDATES.items()},
        rounds=ROUNDS,
        warm_ups=WARM_UPS,
    )
    print_table(
        f"CPU time to decode a document of {len(body):,} bytes with {len(expected)} entities,"
        f" {ROUNDS} rounds of {CALLS}",
        taken,
        [
            Comparison(OURS, ORJSON, target=1 / FASTER_THAN_ORJSON),
            Comparison(OURS, ATTRS),
        ],
        unit="us",
    )
    print(f"Memory of a million entities, scaled from {HELD:,}")
    wide = max(map(len, memory))
    for name, size in memory.items():
        line = f"  {name:{wide}}  {size / 1e6:>6.0f} MB"
        if name != ORJSON:
            ratio = size / memory[ORJSON]
            line += f"  {ORJSON:{wide}}  {ratio:>5.3f}"
            if name == OURS:
                met = "met" if ratio <= SHARE_OF_DICTS else "MISSED"
                line += f"  at most {SHARE_OF_DICTS:.2f}: {met}"
        print(line)


if __name__ == "__main__":
    main()
