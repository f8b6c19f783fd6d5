"""The fault campaign: a small program is killed and restarted while its service keeps failing.

`plan` derives a schedule from a seed. `world` is the local service with the faults of the schedule.
`program` is the program under test, and `evidence` records every text that it produces. `schedule`
runs one schedule and compares what happened with what should have. `__main__` runs many schedules
and prints a table.
"""
