"""Cells as Arrow arrays: what text says, told once for each distinct text, as `cells` has it in Spark SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.raw.cells import FALSES, NUMBER, TRUTHS

Scalar = TypeVar("Scalar", bound=np.generic)
Doubles = NDArray[np.float64]
Truths = NDArray[np.bool_]
Places = NDArray[np.int64]
# what Spark's cast and Arrow's take for the same time; all else that either takes is Spark's to say
ISO_TIME = r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?)?\z"


class Texts(NamedTuple):
    """Cells of a text column: its distinct texts, without the blanks around them, and the place of each cell's text.

    Where nothing but blanks is in a cell its text is null; the last text is null, and empty cells are at its place.
    """

    texts: pa.Array
    places: Places

    def counts(self) -> Places:
        """How many cells each text has."""
        return np.bincount(self.places, minlength=len(self.texts))

    def spread(self, of_text: NDArray[Scalar]) -> NDArray[Scalar]:
        """For each cell what is said of its text."""
        return of_text[self.places]


def decoded(column: pa.Array) -> pa.Array:
    """The cells as such, where they are told by a dictionary."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def texts_of(column: pa.Array) -> Texts:
    """The distinct texts of a text column, and where each cell has its own."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    trimmed = pc.utf8_trim(encoded.dictionary.cast(pa.string()), " ")
    filled = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    places = encoded.indices.fill_null(len(filled)) if encoded.null_count else encoded.indices
    texts = pa.concat_arrays([filled, pa.nulls(1, pa.string())])
    return Texts(texts, places.to_numpy(zero_copy_only=False).astype(np.int64, copy=False))


def numbers_in(texts: pa.Array) -> Doubles:
    """The number that each text is, NaN where it is none; `nan` is none as well (see `is_number_text`)."""
    says = is_number_text(texts)
    said = texts if says.all() else pc.if_else(pa.array(says), texts, None)
    try:
        found = pc.cast(said, pa.float64())
    except pa.ArrowInvalid:  # a sign that Arrow does not know
        found = pa.array([None if text is None else float(text) for text in said.to_pylist()], pa.float64())
    return found.fill_null(np.nan).to_numpy(zero_copy_only=False)


def is_number_text(texts: pa.Array) -> Truths:
    """Which texts are numbers, `nan` and `inf` among them."""
    return _truths(pc.match_substring_regex(texts, NUMBER, ignore_case=True))


def booleans_in(texts: pa.Array) -> Doubles:
    """The truth that each text says, 1 or 0; NaN where it says none."""
    lowered = pc.utf8_lower(texts)
    found = np.full(len(texts), np.nan)
    for value, words in ((1.0, TRUTHS), (0.0, FALSES)):
        found[_truths(pc.is_in(lowered, pa.array(words)))] = value
    return found


class Moments(NamedTuple):
    """The time of each text in microseconds since 1970, which texts have one, and which are yet to be told."""

    micros: Places
    known: Truths
    odd: Truths


def moments_in(texts: pa.Array, told: Mapping[str, int | None], patterned: bool) -> Moments:
    """The times that texts say: ISO 8601's plain ones, and those of `told` (null: no time).

    With a pattern of the user's (`patterned`) every text has to be told.
    """
    filled = _truths(texts.is_valid())
    plain = np.zeros(len(texts), bool) if patterned else _truths(pc.match_substring_regex(texts, ISO_TIME))
    cast = _moments(pc.if_else(pa.array(plain), texts, None))
    plain &= _truths(cast.is_valid())
    micros = cast.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).copy()
    known, odd = plain, filled & ~plain
    for place in np.flatnonzero(odd):
        text = texts[place].as_py()
        if text in told:
            odd[place], moment = False, told[text]
            known[place], micros[place] = moment is not None, moment or 0
    return Moments(micros, known, odd)


def _moments(texts: pa.Array) -> pa.Array:
    """The time that each text is, null where there is no such time: 30 February."""
    try:
        return pc.cast(texts, pa.timestamp("us"))
    except pa.ArrowInvalid:  # does not say which
        if len(texts) == 1:
            return pa.nulls(1, pa.timestamp("us"))
        half = len(texts) // 2
        return pa.concat_arrays([_moments(texts[:half]), _moments(texts[half:])])


def _truths(found: pa.Array) -> Truths:
    return found.fill_null(False).to_numpy(zero_copy_only=False)
