"""Cells of a request to values: numbers, truths, texts and times, or why a cell is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from assets.champions.serving.question import NUMBER, Floats

# as tables are read: assets/raw/cells.py
A_NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?|nan", re.IGNORECASE)
TRUE, FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
A_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?(Z|[+-]\d\d:?\d\d)?")
SHOWN = 60

Told = Callable[[list[int], str], None]


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, NaT."""
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and isnan(value))


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def converted(column: pd.Series, convert: Callable[[Any], Any], tell: Told) -> list[Any]:
    """Each cell converted, None where it is empty or cannot be; each distinct value is looked at once.

    `convert` says by a ValueError why it cannot.
    """
    memo: dict[Any, Any] = {}
    refused: dict[str, list[int]] = {}
    found = []
    for row, value in enumerate(column.tolist()):
        try:
            known = (value.__class__, value)  # 1, 1.0 and True are not the same
            if known not in memo:
                memo[known] = None if is_empty(value) else convert(value)
            found.append(memo[known])
        except (ValueError, TypeError) as error:
            what = str(error) if isinstance(error, ValueError) else f"{shown(value)} is no single value"
            refused.setdefault(what, []).append(row)
            found.append(None)
    for what, rows in refused.items():
        tell(rows, what)
    return found


def numbers(column: pd.Series, kind: str, tell: Told) -> Floats:
    """A column of numbers or truths as numbers; NaN where a cell is empty."""
    if kind == NUMBER and column.dtype.kind in "iuf":
        values = column.to_numpy(np.float64)
    else:
        convert = number if kind == NUMBER else truth
        values = np.array([np.nan if v is None else v for v in converted(column, convert, tell)], np.float64)
    if (endless := np.flatnonzero(np.isinf(values))).size:
        tell(endless.tolist(), "is infinite")
    return values


def number(value: Any) -> float:
    """The number that a cell holds, or that its text says.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return float("nan")
        if A_NUMBER.fullmatch(text):
            return float(text)
    elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{shown(value)} is no number")


def truth(value: Any) -> float:
    """1 or 0 for true or false.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if not text:
            return float("nan")
        if text in TRUE + FALSE:
            return float(text in TRUE)
    elif isinstance(value, (bool, np.bool_)) or value in (0, 1):
        return float(value)
    raise ValueError(f"{shown(value)} is neither true nor false")


def texts(column: pd.Series, known: Iterable[str], tell: Told) -> list[str | None]:
    """A column of texts, None where a cell is empty. `known` are the values that it may have.

    Readers of CSV files take `007` for a number: a number stands for the one known text that says it.
    """
    said: dict[float | bool, list[str]] = {}

    def convert(value: Any) -> str | None:
        if isinstance(value, str):
            return utf8(value) or None
        if not isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
            raise ValueError(f"{shown(value)} is no text")
        if not said:
            said.update(texts_by_number(known))
        return text_of_number(value, said)

    return converted(column, convert, tell)


def utf8(text: str) -> str:
    """The text itself.

    Raises:
        ValueError: it holds half of a character, which JSON can write and nothing can keep.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shown(text)} is no text") from None
    return text


def texts_by_number(known: Iterable[str]) -> dict[float | bool, list[str]]:
    """Known texts by the number, or the truth (as a text), that each says."""
    said: dict[Any, list[str]] = {"": []}
    for text in known:
        if A_NUMBER.fullmatch(text.strip()):
            said.setdefault(float(text), []).append(text)
        elif text.strip().lower() in ("true", "false"):
            said.setdefault(text.strip().lower(), []).append(text)
    return said


def text_of_number(value: Any, said: dict[Any, list[str]]) -> str:
    """The one known text that says a number or a truth; where none does, the number as it is written.

    Raises:
        ValueError: several texts say it.
    """
    is_truth = isinstance(value, (bool, np.bool_))
    found = said.get(str(value).lower() if is_truth else float(value), [])
    if len(found) > 1:
        listed = ", ".join(map(repr, sorted(found)[:5]))
        raise ValueError(f"{shown(value)} may be any of {listed}: send text, which CSV cannot, and JSON can")
    if found:
        return found[0]
    return str(value).lower() if is_truth else f"{float(value):g}" if float(value).is_integer() else str(value)


def moment(value: Any) -> pd.Timestamp:
    """A time in UTC, without zone.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        if not A_TIME.fullmatch(value.strip()):
            raise ValueError(f"{shown(value)} is no time such as 2024-05-31 or 2024-05-31T13:00:00")
        found = pd.Timestamp(value.strip())
    elif isinstance(value, (date, np.datetime64)):
        found = pd.Timestamp(value)
    else:
        raise ValueError(f"{shown(value)} is no time; write text such as 2024-05-31")
    return (found.tz_convert("UTC").tz_localize(None) if found.tzinfo else found).as_unit("ns")
