"""What the operations' calls are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from .._decode import encode

Duration = str | timedelta
"""A duration: `timedelta`, or text such as `"90d"`."""

MOST_ITEMS = 1000
MOST_BYTES = 16 << 20


def body(**members: Any) -> bytes:
    """A JSON object. What is None is left out."""
    return text({name: value for name, value in members.items() if value is not None})


def text(value: Any) -> bytes:
    """JSON."""
    return json.dumps(encode(value), separators=(",", ":")).encode()


def query(**parameters: Any) -> dict[str, str]:
    """The parameters that are not None."""
    return {name: str(value) for name, value in parameters.items() if value is not None}


def batches(items: Iterable[Any]) -> Iterator[tuple[bytes, int]]:
    """The bodies of as few requests as the API's bounds on items and bytes allow, and the items in each.

    An item that is too large by itself has a request of its own, so that the gateway says so.
    """
    parts: list[bytes] = []
    size = 0
    for part in map(text, items):
        if parts and (len(parts) == MOST_ITEMS or size + len(part) > MOST_BYTES - len(b'{"items":[]}')):
            yield b'{"items":[' + b",".join(parts) + b"]}", len(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield b'{"items":[' + b",".join(parts) + b"]}", len(parts)
