"""Frozen dataclasses to JSON and back, by their annotations; nothing else is ever decoded.

A run that goes on reads tens of thousands of records, so what annotations say is worked out once a type.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


class _Unexpected(Exception):  # noqa: N818  (never leaves this module)
    """A value of the wrong shape; `path` grows on the way out."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value
        self.path: list[str] = []


def encode(value: Any) -> Any:
    """Turn dataclasses, enums, tuples and mappings into what `json.dumps` takes."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def decode(kind: type[T], value: Any) -> T:
    """Build a `kind` from what `encode` made of one.

    Raises
    ------
    ValueError
        If `value` does not have the shape that the annotations of `kind` ask for.
    """
    try:
        return typing.cast(T, _decoder(typing.cast(Any, kind))(value))
    except _Unexpected as error:
        where = kind.__name__ + "".join(reversed(error.path))
        raise ValueError(f"{where}: unexpected {error.value!r}") from None


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


@functools.cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    """The function that builds a `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda value: value
    if origin in (typing.Union, types.UnionType):
        (inner,) = [a for a in arguments if a is not type(None)]
        return _optional(_decoder(inner), type(None) in arguments)
    if origin is tuple:
        return _tuple(_decoder(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(_decoder(arguments[1]))
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind
    return _float if kind is float else functools.partial(_exactly, kind)


def _optional(inner: Callable[[Any], Any], may_be_none: bool) -> Callable[[Any], Any]:
    return lambda value: None if value is None and may_be_none else inner(value)


def _tuple(inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def build(value: Any) -> Any:
        made: list[Any] = []
        for item in _exactly(list, value):
            try:
                made.append(inner(item))
            except _Unexpected as error:
                error.path.append(f"[{len(made)}]")
                raise
        return tuple(made)

    return build


def _mapping(inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def build(value: Any) -> Any:
        made: dict[str, Any] = {}
        for key, item in _exactly(dict, value).items():
            try:
                made[key] = inner(item)
            except _Unexpected as error:
                error.path.append(f".{key}")
                raise
        return made

    return build


def _dataclass(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    decoders = {name: _decoder(hints[name]) for name in _names(kind)}
    names = decoders.keys()

    def build(value: Any) -> Any:
        if _exactly(dict, value).keys() != names:
            raise _Unexpected(sorted(set(value) ^ names))
        made: dict[str, Any] = {}
        for name, inner in decoders.items():
            try:
                made[name] = inner(value[name])
            except _Unexpected as error:
                error.path.append(f".{name}")
                raise
        return kind(**made)

    return build


def _float(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _Unexpected(value)
    return float(value)


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise _Unexpected(value)
    return value
