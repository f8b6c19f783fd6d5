"""What belongs to one process.

A fork inherits every object of its parent, but no threads, and the sockets are its parent's still.
A lock that another thread held at the fork stays locked in the child. So a child neither uses nor
closes what it inherits: it makes its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Generic, TypeVar

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """A value that each process makes for itself when it first asks for it.

    Processes are told apart by their ids. Python's own hooks (`os.register_at_fork`) do not run in
    servers that fork in C, such as uWSGI.

    Args:
        make: makes the value. Two threads may both make one, and one of the two values is kept.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: dict[int, _T] = {}

    def get(self) -> _T:
        """Return the value of this process."""
        process = os.getpid()
        if process not in self._made:
            # Atomic, and without a lock that might have been held at the fork.
            self._made.setdefault(process, self._make())
        return self._made[process]


def import_before_threads(*modules: str) -> None:
    """Import modules that threads need later.

    Python has a lock for each module that is being imported. If a process forks while one of its
    threads imports a module, the lock stays locked in the child, and importing the module there
    never returns.
    """
    for module in modules:
        import_module(module)


_first_process = os.getpid()
_modules = PerProcess(lambda: frozenset(sys.modules))


def inherited(module: str) -> bool:
    """Return whether this process may have been forked when `module` was imported already.

    A fork decides this when it is first asked. So ask before importing the module.
    """
    return os.getpid() != _first_process and module in _modules.get()
