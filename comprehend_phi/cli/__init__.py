"""The command line, `comprehend-phi`. Needs the extra `cli`."""
