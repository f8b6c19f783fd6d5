"""Calls to the service: operations, single attempts, and the errors of failed attempts."""
