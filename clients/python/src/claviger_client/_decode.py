"""JSON to models and back. Knows nothing of HTTP."""

from __future__ import annotations

import base64
import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar, Union

from .errors import ClavigerError, of_problem
from .secrets import SecretBytes, SecretStr
from .words import Word

T = TypeVar("T")
Decoder = Callable[[Any, str], Any]


class Mismatch(Exception):
    """A value is not of the documented type. Contains no value."""

    def __init__(self, pointer: str, expected: str) -> None:
        super().__init__(f"{pointer or '/'} is not {expected}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What the headers of a response say."""

    request_id: str | None
    """The gateway's id of the request, which is in its audit record, too."""

    audit_index: str | None
    """The place of the request's record in the audit log; of a batch each item has its own."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The base of what the gateway returns."""

    # Not printed: a later gateway may add a secret.
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    """Members that this release of the client does not know, as JSON."""

    meta: Meta | None = dataclasses.field(default=None, repr=False, compare=False)
    """The request's id and record. None for an object inside another one."""


def decode(kind: type[T], value: Any, meta: Meta | None = None) -> T:
    """Make a value of the type from JSON; raises `Mismatch`."""
    made = decoder(typing.cast(Any, kind))(value, "")
    if isinstance(made, Model):
        made = dataclasses.replace(made, meta=meta)
    return typing.cast(T, made)


@functools.cache
def decoder(kind: Any) -> Decoder:
    """The function that makes values of a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple:
        return _array(decoder(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(decoder(arguments[1]))
    if kind in _SCALARS:
        return _SCALARS[kind]
    if issubclass(kind, Word):
        return lambda value, at: kind(_text(value, at))
    if issubclass(kind, ClavigerError):
        return lambda value, at: of_problem(_object(value, at))
    return _model(kind)


def _union(kinds: tuple[Any, ...]) -> Decoder:
    present = [kind for kind in kinds if kind is not type(None)]
    if len(present) == 1:
        inner = decoder(present[0])
        return lambda value, at: None if value is None else inner(value, at)
    # The result of a batch's item: what failed has the member `error`, and nothing else has.
    failed = next(kind for kind in present if "error" in kind.__dataclass_fields__)
    (succeeded,) = (decoder(kind) for kind in present if kind is not failed)
    failure = decoder(failed)
    return lambda value, at: (failure if isinstance(value, dict) and "error" in value else succeeded)(value, at)


def _array(inner: Decoder) -> Decoder:
    def array(value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Mismatch(at, "an array")
        return tuple(inner(item, f"{at}/{index}") for index, item in enumerate(value))

    return array


def _mapping(inner: Decoder) -> Decoder:
    return lambda value, at: {name: inner(item, f"{at}/{name}") for name, item in _object(value, at).items()}


def _model(kind: type[Model]) -> Decoder:
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.name not in ("extra", "meta")]
    members = [(field.name.rstrip("_"), field, decoder(hints[field.name])) for field in fields]
    known = {name for name, _, _ in members}

    def model(value: Any, at: str) -> Model:
        source = _object(value, at)
        made = {}
        for name, field, inner in members:
            if name in source:
                made[field.name] = inner(source[name], f"{at}/{name}")
            elif field.default is dataclasses.MISSING:
                raise Mismatch(f"{at}/{name}", "there")
        return kind(**made, extra={name: item for name, item in source.items() if name not in known})

    return model


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Mismatch(at, "an object")
    return value


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise Mismatch(at, "text")
    return value


def _flag(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise Mismatch(at, "true or false")
    return value


def _number(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Mismatch(at, "an integer")
    return value


def _base64(value: Any, at: str) -> bytes:
    try:
        return base64.b64decode(_text(value, at), validate=True)
    except ValueError:
        pass
    raise Mismatch(at, "standard base64")


def _time(value: Any, at: str) -> datetime:
    # `fromisoformat` of Python 3.10 takes no Z, and fractions of three or six digits only.
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|\+00:00)", _text(value, at))
    try:
        if match is not None:
            fraction = int((match[2] or "0")[:6].ljust(6, "0"))
            return datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(microsecond=fraction, tzinfo=timezone.utc)
    except ValueError:
        pass
    raise Mismatch(at, "a time in UTC")


_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def _duration(value: Any, at: str) -> timedelta:
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", _text(value, at))
    try:
        if match is not None:
            return int(match[1]) * _UNITS[match[2]]
    except (OverflowError, ValueError):
        pass
    raise Mismatch(at, "a duration")


_SCALARS: dict[Any, Decoder] = {
    str: _text,
    bool: _flag,
    int: _number,
    bytes: _base64,
    datetime: _time,
    timedelta: _duration,
    SecretBytes: lambda value, at: SecretBytes(_base64(value, at)),
    SecretStr: lambda value, at: SecretStr(_text(value, at)),
    Any: lambda value, at: value,
}


def encode(value: Any) -> Any:
    """Make JSON of an argument. Secrets are exposed here, and only here."""
    if dataclasses.is_dataclass(value):
        members = {field.name.rstrip("_"): getattr(value, field.name) for field in dataclasses.fields(value)}
        members.pop("meta", None)
        extra = members.pop("extra", {})
        return {name: encode(item) for name, item in members.items() if item is not None} | encode(extra)
    if isinstance(value, Mapping):
        return {name: encode(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encode(item) for item in value]
    if isinstance(value, SecretBytes):
        return base64.b64encode(value.expose()).decode()
    if isinstance(value, SecretStr):
        return value.expose()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return f"{value // timedelta(milliseconds=1)}ms"
    return value
