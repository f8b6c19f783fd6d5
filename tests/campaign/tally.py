"""The totals of schedules."""

from __future__ import annotations

from collections import Counter

import attrs
from attrs import define, field


@define(kw_only=True)
class Tally:
    """The totals of schedules. Tallies can be added."""

    schedules: int = 0
    starts: int = 0
    jobs: int = 0
    documents_in: int = 0
    redacted: int = 0
    clean: int = 0
    unprocessed: int = 0
    withdrawn: int = 0
    changed: int = 0
    kills: int = 0
    gave_up: int = 0
    interrupted: int = 0
    events: Counter[str] = field(factory=Counter[str])
    faults: Counter[str] = field(factory=Counter[str])
    attempts: Counter[str] = field(factory=Counter[str])
    searched: Counter[str] = field(factory=Counter[str])
    sightings: Counter[str] = field(factory=Counter[str])
    raised: Counter[str] = field(factory=Counter[str])
    untyped: int = 0
    differences: list[str] = field(factory=list[str])

    def add(self, other: Tally) -> None:
        for name in (attribute.name for attribute in attrs.fields(Tally)):
            setattr(self, name, getattr(self, name) + getattr(other, name))
