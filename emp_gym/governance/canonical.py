"""Canonical JSON: one value, one sequence of bytes, so that a hash of the bytes is a hash of the value.

RFC 8785 without floats: keys sorted by UTF-16 code units, no white space, the shortest escapes, UTF-8. Integers are
written in full up to 64 bits, since nanoseconds do not fit the 53 bits of a double to which RFC 8785 keeps itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json import encoder
from typing import Any

from emp_gym.governance.errors import LogValueError

LARGEST = 2**63 - 1
quote = encoder.encode_basestring  # type: ignore[attr-defined]  # the standard library's, written in C
DEEPEST = 64  # lists and dicts inside one another


def canonical(value: Any, where: str = "payload") -> bytes:
    """The bytes of `value`: ints, strings, booleans, None, lists (tuples) and dicts with string keys.

    `LogValueError` names the place of anything else; `where` is what the top is called there.
    """
    return utf8(_text(value, where, 0), where)


def utf8(text: str, where: str) -> bytes:
    """`text` as UTF-8; `LogValueError` where it holds half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LogValueError(
            f"{where} holds text that is not Unicode (half a surrogate pair at character {error.start}); "
            "expected text that UTF-8 can hold; pass bytes as a bytes payload"
        ) from error


def _text(value: Any, where: str, depth: int) -> str:
    if isinstance(value, str):
        return quote(str(value))
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return _integer(value, where)
    if depth >= DEEPEST:
        raise LogValueError(f"{where} is nested deeper than {DEEPEST} levels; pass it as bytes")
    if isinstance(value, Mapping):
        return _object(value, where, depth)
    if isinstance(value, list | tuple):
        return "[" + ",".join([_text(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]) + "]"
    raise LogValueError(_refusal(value, where))


def _integer(value: int, where: str) -> str:
    if not -LARGEST <= value <= LARGEST:
        raise LogValueError(f"{where} must fit 64 bits, got an integer of {value.bit_length()} bits; pass it as text")
    return int.__repr__(value)


def _object(value: Mapping[Any, Any], where: str, depth: int) -> str:
    for key in value:
        if not isinstance(key, str):
            raise LogValueError(f"{where} has the key {key!r} of {type(key).__name__}; expected text; use str(key)")
    plain = all(map(str.isascii, value))
    keys = sorted(value) if plain else sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join([f"{quote(key)}:{_text(value[key], f'{where}.{key}', depth + 1)}" for key in keys]) + "}"


def _refusal(value: Any, where: str) -> str:
    if isinstance(value, float):
        return (
            f"{where} is the float {value!r}; the log holds exact values: "
            f'pass it as text (repr(x) gives "{value!r}") or as an integer with its unit in the name'
        )
    return (
        f"{where} is of {type(value).__name__}; expected int, str, bool, None, list or dict; "
        "convert it (int(x), x.tolist()) or pass the whole payload as bytes"
    )


def parse(body: bytes) -> Any:
    """The value of canonical bytes (ours, or a file's: plain JSON, nothing is executed)."""
    return json.loads(body)
