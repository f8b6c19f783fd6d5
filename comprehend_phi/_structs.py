"""The base class of structs with fields that may contain protected health information."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class PrivateStruct(msgspec.Struct, frozen=True):
    """A struct whose repr leaves out the fields in `_private`."""

    _private: ClassVar[tuple[str, ...]] = ()

    # The rich library prints what this method returns.
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            (name, getattr(self, name))
            for name in self.__struct_fields__
            if name not in self._private
        ]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"
