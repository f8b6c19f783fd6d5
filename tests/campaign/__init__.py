"""The fault campaign: programs are killed and restarted while their service keeps failing.

There are two kinds of schedules. In one, a program starts a job for each of several folders. In the
other, it plans a corpus, runs its jobs and writes redacted copies.

`plan` and `corpus_plan` derive a schedule from a seed. `world` is the local service with the faults
of the schedule. `program` and `corpus_program` are the programs under test; `corpus_copies` is the
part that writes copies. `life` has what the programs share, and `evidence` records every text that
they produce. `schedule` runs one schedule and compares what happened with what should have;
`corpus_judge` does this for a corpus. `tally` has the totals. `__main__` runs many schedules and
prints a table.
"""
