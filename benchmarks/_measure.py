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
    title: str, taken: Mapping[str, Seconds], comparisons: Sequence[Comparison], *, unit: str
) -> None:
    """Print the median of each candidate and both ratios of each comparison.

    The ratio of the medians is what the targets are about. The median of the ratios within each
    round says the same by another way; where the two disagree, the machine was too noisy.
    """
    scale = {"ms": 1e3, "us": 1e6}[unit]
    wide = max(map(len, taken))
    print(title)
    print(f"  {'':{wide}}  {'median':>9}  {'beside':{wide}}  {'ratio':>5}  {'paired':>6}  target")
    baselines = [name for name in taken if name not in {line.name for line in comparisons}]
    for name in baselines:
        print(f"  {name:{wide}}  {median(taken[name]) * scale:>6.1f} {unit}")
    for name, baseline, target in comparisons:
        ratio = median(taken[name]) / median(taken[baseline])
        pairs = zip(taken[name], taken[baseline], strict=True)
        paired = median(ours / theirs for ours, theirs in pairs)
        line = (
            f"  {name:{wide}}  {median(taken[name]) * scale:>6.1f} {unit}"
            f"  {baseline:{wide}}  {ratio:>5.3f}  {paired:>6.3f}"
        )
        if target is not None:
            line += f"  at most {target:.2f}: {'met' if ratio <= target else 'MISSED'}"
        print(line)
