"""Values that belong to one process.

A forked child inherits all objects of its parent, but not the parent's threads. Its sockets are
still connected to the parent's peers, and a lock that another thread held during the fork stays
locked. So a child neither uses nor closes such objects: it makes its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Generic, TypeVar

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """A value that each process makes for itself when it first needs it.

    The process id shows whether the process has forked. Python's own hooks (`os.register_at_fork`)
    do not run in servers that fork in C, such as uWSGI.

    Args:
        make: makes the value. If two threads call it at the same time, one of the two values is
            kept.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: dict[int, _T] = {}

    def get(self) -> _T:
        """Return the value of this process."""
        process = os.getpid()
        if process not in self._made:
            # Atomic, without a lock that another thread may have held during the fork.
            self._made.setdefault(process, self._make())
        return self._made[process]


def import_before_threads(*modules: str) -> None:
    """Import modules now that threads would otherwise import later.

    Python locks each module while it is imported. If a process forks while one of its threads
    imports a module, the lock stays locked in the child, and importing the module there hangs.
    """
    for module in modules:
        import_module(module)


_first_process = os.getpid()
_modules = PerProcess(lambda: frozenset(sys.modules))


def inherited(module: str) -> bool:
    """Return whether this process may have inherited the imported `module` from its parent.

    A child decides this the first time it is asked, so ask before you import the module.
    """
    return os.getpid() != _first_process and module in _modules.get()
