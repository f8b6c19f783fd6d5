"""Large collections of notes: check them before you pay for a job.

Nothing here imports boto3 before it is needed.
"""

from .limits import ServiceLimits

__all__ = ["ServiceLimits"]
