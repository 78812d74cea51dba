"""Text of others is spelled out where it would act on a terminal, and left alone where it would not."""

from __future__ import annotations

import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from emp_gym.governance.verify import plain
from emp_gym.printable import ACTING, printable


def test_what_acts_is_spelled_out():
    assert printable("a\x1b[2Jb") == r"a\x1b[2Jb"
    assert printable("\r\x07\x9b31m") == r"\r\x07\x9b31m"
    assert printable("ali\u202ece\u200b\u2066") == r"ali\u202ece\u200b\u2066"
    assert printable("a\nb\tc\u2028d") == r"a\nb\tc\u2028d"
    assert printable("\udc80\U000e0041") == r"\udc80\U000e0041"


def test_lines_stay_where_they_are_asked_for():
    assert printable("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"


def test_what_can_be_read_is_left_alone():
    for text in ("", "näme 株 ≥ – “x” \u00a0 🙂", "back\\slash", "[bold]"):
        assert printable(text) == text
    assert printable(17) == "17"


@given(st.text())
def test_nothing_acts_afterwards_and_twice_is_once(text: str):
    shown = printable(text)
    assert not any(unicodedata.category(letter) in ACTING for letter in shown)
    assert printable(shown) == shown


def test_every_letter_of_unicode_is_judged_alike_by_the_verifier_that_stands_alone():
    letters = "".join(map(chr, range(sys.maxunicode + 1)))
    assert printable(letters) == plain(letters)
