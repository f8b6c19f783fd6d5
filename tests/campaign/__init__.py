"""The fault campaign: a small program, killed and restarted, on a service where all goes wrong.

`plan` draws a schedule from a seed, `world` is the local service that follows it, `program` is the
program under test, `evidence` keeps what that program shows of itself, `schedule` runs one schedule
and counts, `__main__` runs many and prints the table.
"""
