"""Canonical JSON: one value, one sequence of bytes, so that a hash of the bytes is a hash of the value.

RFC 8785 without floats: keys sorted by UTF-16 code units, no white space, the shortest escapes, UTF-8. Integers are
written in full up to 64 bits, since nanoseconds do not fit the 53 bits of a double to which RFC 8785 keeps itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json import encoder
from typing import Any

from emp_gym.governance.errors import LogValueError

LARGEST = 2**63 - 1
DEEPEST = 64  # lists and dicts inside one another
quote = encoder.encode_basestring  # the standard library's, written in C; it escapes what RFC 8785 escapes
WORDS = {True: "true", False: "false"}


class _Refused(Exception):
    """A value that cannot be held; `place` grows on the way out."""

    def __init__(self, why: str) -> None:
        self.why, self.place = why, ""


def canonical(value: Any, where: str = "payload") -> bytes:
    """The bytes of `value`: ints, strings, booleans, None, lists (tuples) and dicts with string keys.

    `LogValueError` names the place of anything else; `where` is what the top is called there.
    """
    try:
        return utf8(_text(value, 0), where)
    except _Refused as refused:
        raise LogValueError(f"{where}{refused.place} {refused.why}") from None


def utf8(text: str, where: str) -> bytes:
    """`text` as UTF-8; `LogValueError` where it holds half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LogValueError(
            f"{where} holds text that is not Unicode (half a surrogate pair at character {error.start}); "
            "expected text that UTF-8 can hold; pass bytes as a bytes payload"
        ) from error


def _text(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, dict):
        return _object(value, depth)
    if isinstance(value, list | tuple):
        return _array(value, depth)
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return _object(value, depth)
    raise _Refused(_refusal(value))


def _integer(value: int) -> str:
    if value is True or value is False:
        return WORDS[value]
    if not -LARGEST <= value <= LARGEST:
        raise _Refused(f"must fit 64 bits, got an integer of {value.bit_length()} bits; pass it as text")
    return int.__repr__(value)


def _array(value: Sequence[Any], depth: int) -> str:
    parts = []
    if depth >= DEEPEST:
        raise _Refused(f"is nested deeper than {DEEPEST} levels; pass it as bytes")
    try:
        for item in value:
            parts.append(_text(item, depth + 1))
    except _Refused as refused:
        refused.place = f"[{len(parts)}]{refused.place}"
        raise
    return f"[{','.join(parts)}]"


def _object(value: Mapping[Any, Any], depth: int) -> str:
    if depth >= DEEPEST:
        raise _Refused(f"is nested deeper than {DEEPEST} levels; pass it as bytes")
    parts = []
    key: Any = None
    try:
        for key in _sorted_keys(value):
            parts.append(f"{quote(key)}:{_text(value[key], depth + 1)}")
    except _Refused as refused:
        refused.place = refused.place if key is None else f".{key}{refused.place}"
        raise
    return f"{{{','.join(parts)}}}"


def _sorted_keys(value: Mapping[Any, Any]) -> list[str]:
    for key in value:
        if not isinstance(key, str):
            raise _Refused(f"has the key {key!r} of {type(key).__name__}; expected text; use str(key)")
    if "".join(value).isascii():
        return sorted(value)
    return sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))


def _refusal(value: Any) -> str:
    if isinstance(value, float):
        return (
            f"is the float {value!r}; the log holds exact values: "
            f'pass it as text (repr(x) gives "{value!r}") or as an integer with its unit in the name'
        )
    return (
        f"is of {type(value).__name__}; expected int, str, bool, None, list or dict; "
        "convert it (int(x), x.tolist()) or pass the whole payload as bytes"
    )


def parse(body: bytes) -> Any:
    """The value of canonical bytes (ours, or a file's: plain JSON, nothing is executed). `ValueError` where it is none, or nested so
    deep that it is none of ours."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError(f"JSON is nested deeper than {DEEPEST} levels") from None
