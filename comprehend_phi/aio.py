"""The asynchronous client; `comprehend_phi` exports the same names."""

from ._async_client import AsyncPHIClient
from ._jobs import AsyncJob

__all__ = ["AsyncJob", "AsyncPHIClient"]
