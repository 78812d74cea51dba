"""One value has one sequence of bytes, and what cannot be held exactly is refused by place and remedy."""

from __future__ import annotations

import enum
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.governance.errors import LogValueError
from emp_gym.governance.log.canonical import LARGEST, canonical, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_reads_back_and_is_what_json_would_write(value):
    body = canonical(value)
    assert parse(body) == value
    assert canonical(parse(body)) == body
    if body.isascii():
        assert body.decode() == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_rfc_8785_examples_without_floats():
    """RFC 8785 sections 3.2.2 and 3.2.3: escapes, literals, keys sorted by UTF-16 code units."""
    string = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"
    assert (
        canonical({"string": string, "literals": [None, True, False]})
        == ('{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}').encode()
    )
    unsorted = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(parse(canonical(unsorted)).values()) == [2, 4, 6, 7, 1, 5, 3]


def test_enums_and_tuples_are_what_they_hold():
    class Side(enum.IntEnum):
        BUY = 1

    assert canonical({"side": Side.BUY, "pair": (1, "x")}) == b'{"pair":[1,"x"],"side":1}'


REFUSED = [
    ({"pnl": [1, {"x": 0.1}]}, r"payload\.pnl\[1\]\.x is the float 0\.1; .*pass it as text"),
    ({"x": float("nan")}, r"payload\.x is the float nan"),
    ({"x": np.int64(3)}, r"payload\.x is of int64; .*int\(x\)"),
    ({"x": {1: 2}}, r"payload\.x has the key 1 of int; .*str\(key\)"),
    ([2**63], r"payload\[0\] must fit 64 bits, got an integer of 64 bits"),
    ({"x": b"raw"}, r"payload\.x is of bytes; .*whole payload as bytes"),
    ({"x": "\ud800"}, r"payload holds text that is not Unicode"),
    ({"x": {1, 2}}, r"payload\.x is of set"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[message[9:30] for _, message in REFUSED])
def test_what_cannot_be_held_exactly_is_refused(value, message):
    with pytest.raises(LogValueError, match=message):
        canonical(value)


def test_integers_are_held_up_to_63_bits_and_a_sign_and_nesting_up_to_64_levels():
    for value in (2**63 - 1, -(2**63 - 1)):
        assert canonical([value]) == b"[%d]" % value and parse(canonical([value])) == [value]
    for value in (2**63, -(2**63)):
        with pytest.raises(LogValueError, match="must fit 64 bits"):
            canonical(value)
    for wrap in (lambda inner: [inner], lambda inner: {"x": inner}):
        deep: object = 1
        for _ in range(64):
            deep = wrap(deep)
        assert parse(canonical(deep)) == deep
        with pytest.raises(LogValueError, match="nested deeper than 64"):
            canonical(wrap(deep))


def test_endless_nesting_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(LogValueError, match="nested deeper than 64"):
        canonical(value)
