"""Measuring candidates in turns, and printing tables, for all benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice, permutations
from statistics import median
from typing import NamedTuple

Seconds = Sequence[float]


class Comparison(NamedTuple):
    """One line of a table: the cost of `name` relative to `baseline`, and its target."""

    name: str
    baseline: str
    target: float | None = None


def in_turns(
    candidates: Mapping[str, Callable[[], float]], *, rounds: int, warm_ups: int
) -> dict[str, list[float]]:
    """Measure all candidates in turns and return the seconds of each, one figure per round.

    A round measures each candidate once, so other load on the machine affects all candidates and
    the figures of one round can be compared. The rounds go through all orders of the candidates, so
    no candidate always follows the same one. The first `warm_ups` rounds are not counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for order in islice(cycle(permutations(candidates)), warm_ups + rounds):
        for name in order:
            taken[name].append(candidates[name]())
    return {name: seconds[warm_ups:] for name, seconds in taken.items()}


def print_table(
    title: str,
    taken: Mapping[str, Seconds],
    comparisons: Sequence[Comparison],
    *,
    unit: str,
    idle: Seconds | None = None,
) -> None:
    """Print the median of each candidate and the ratios of each comparison.

    The targets apply to the ratio of the medians. The table also shows the median of the ratios
    within each round and the ratio of the fastest rounds, because other processes can only make a
    round slower. If the three disagree, the machine was too busy.

    Args:
        title: what was measured.
        taken: the seconds of each candidate, one figure per round.
        comparisons: the lines to print below the baselines, which are printed once each.
        unit: the unit of the medians, ms or us.
        idle: the seconds of each round without any candidate, which are subtracted.
    """
    scale = {"ms": 1e3, "us": 1e6}[unit]
    baselines = dict.fromkeys(line.baseline for line in comparisons)
    names = [*baselines, *(line.name for line in comparisons)]
    wide = max(map(len, names))
    rest = idle or [0.0] * len(taken[names[0]])

    def middle(name: str) -> float:
        return median(taken[name]) - median(rest)

    def fastest(name: str) -> float:
        return min(taken[name]) - min(rest)

    print(title)
    print(f"  {'':{wide}}  {'median':>8}  {'baseline':{wide}}  ratio  paired  fastest  target")
    for name in baselines:
        print(f"  {name:{wide}}  {middle(name) * scale:5.1f} {unit}")
    for name, baseline, target in comparisons:
        ratio = middle(name) / middle(baseline)
        rounds = zip(taken[name], taken[baseline], rest, strict=True)
        paired = median((ours - none) / (theirs - none) for ours, theirs, none in rounds)
        line = (
            f"  {name:{wide}}  {middle(name) * scale:5.1f} {unit}  {baseline:{wide}}"
            f"  {ratio:5.3f}  {paired:6.3f}  {fastest(name) / fastest(baseline):7.3f}"
        )
        if target is not None:
            line += f"  at most {target:.2f}: {'met' if ratio <= target else 'MISSED'}"
        print(line)
