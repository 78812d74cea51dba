"""The book of a tape from its events alone, row by row: the slow proof that the event stream is self-contained."""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.types import DataError, MessageType


def replayed_book(tape: TapeSet, row: int, day: int = 0) -> tuple[dict[int, int], dict[int, int]]:
    """Bids and asks (price -> lots) after `row`, from the event stream alone."""
    rows = tape.day_slice(day)
    messages = tape.messages[rows]
    window = tape.window[_window_slice(tape, day)]
    books: tuple[dict[int, int], dict[int, int]] = ({}, {})
    at = 0
    for i in range(row + 1):
        message = messages[i]
        book = books[0 if message["side"] > 0 else 1]
        price, size = int(message["price"]), int(message["size"])
        if message["kind"] == MessageType.NEW:
            book[price] = book.get(price, 0) + size
        elif message["kind"] in (MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE) and price in book:
            book[price] -= size
            if book[price] <= 0:
                del book[price]
        while at < len(window) and window[at]["row"] == i:
            event = window[at]
            book = books[0 if event["side"] > 0 else 1]
            if event["kind"] == MessageType.ADOPT:
                book[int(event["price"])] = int(event["size"])
            else:
                book.pop(int(event["price"]), None)
            at += 1
    return books


def _window_slice(tape: TapeSet, day: int) -> slice:
    """Window events of `day`: their rows restart from 0 at each day's beginning."""
    starts = np.flatnonzero(np.diff(tape.window["row"]) < 0) + 1
    edges = [0, *starts.tolist(), len(tape.window)]
    if len(edges) - 1 != len(tape.days):
        raise DataError(f"{len(edges) - 1} runs of window events for {len(tape.days)} days")
    return slice(edges[day], edges[day + 1])
