"""What the benchmarks share: measuring in turns, and the table of what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice, permutations
from statistics import median
from typing import NamedTuple

Seconds = Sequence[float]


class Comparison(NamedTuple):
    """One line of a table: what `name` costs beside `baseline`, and how much it may."""

    name: str
    baseline: str
    target: float | None = None


def in_turns(
    candidates: Mapping[str, Callable[[], float]], *, rounds: int, warm_ups: int
) -> dict[str, list[float]]:
    """The seconds that each candidate says it took, one figure per round.

    A round measures every candidate once, so that a disturbance of the machine meets all of them
    and the figures of one round belong together. The order changes with every round through all
    the orders there are, so that none always profits or suffers from the one before it. The
    figures of the first `warm_ups` rounds are thrown away.
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

    The ratio of the medians is what the targets are about. Beside it stand the median of the ratios
    within each round, and the ratio of the fastest rounds: other processes can only add to a time,
    never take from it. Where the three disagree, the machine was too busy to tell.

    Args:
        title: what was measured.
        taken: the seconds of each candidate, one figure per round.
        comparisons: the lines to print below the baselines, which are printed once each.
        unit: the unit of the medians, ms or us.
        idle: what each round takes without any candidate, to be left out of every figure.
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
    print(f"  {'':{wide}}  {'median':>8}  {'beside':{wide}}  ratio  paired  fastest  target")
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
