"""Frozen dataclasses to JSON and back, by their annotations; nothing else is ever decoded."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


def encode(value: Any) -> Any:
    """Turn dataclasses, enums, tuples and mappings into what `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def decode(kind: type[T], value: Any) -> T:
    """Build a `kind` from what `encode` made of one.

    Raises
    ------
    ValueError
        If `value` does not have the shape that the annotations of `kind` ask for.
    """
    return typing.cast(T, _decode(kind, value, kind.__name__))


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = [a for a in arguments if a is not type(None)]
        return _decode(inner, value, where)
    if origin is tuple:
        _expect(isinstance(value, list), where, value)
        return tuple(_decode(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        _expect(isinstance(value, dict), where, value)
        return {k: _decode(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        _expect(isinstance(value, dict), where, value)
        hints = typing.get_type_hints(kind)
        names = {f.name for f in dataclasses.fields(kind)}
        _expect(set(value) == names, where, sorted(set(value) ^ names))
        return kind(**{n: _decode(hints[n], value[n], f"{where}.{n}") for n in names})  # type: ignore[operator]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), where, value)
        return float(value)
    _expect(type(value) is kind, where, value)
    return value


def _expect(holds: bool, where: str, value: Any) -> None:
    if not holds:
        raise ValueError(f"{where}: unexpected {value!r}")
