"""Rows of plain tables typed as Arrow arrays, cell by cell what `parse_rows` makes of them in Spark SQL.

A table is plain if its time is text, a time or a date, its segments are text or integers, what models look at is text,
truth or numbers, no column had another name, and nothing that rules look at asks for one of Spark's own casts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.partitions import SEPARATOR, partition_key
from assets.raw.arrow_cells import (
    Doubles,
    Places,
    Texts,
    Truths,
    booleans_in,
    is_number_text,
    moments_in,
    numbers_in,
    texts_of,
)
from assets.raw.calendar import FIRST_SENSIBLE, LAST_SENSIBLE
from assets.raw.kinds import Told
from assets.raw.parse import Kind, time_pattern
from assets.raw.rules import meant_type
from assets.raw.source import CORRUPT
from resources.settings import Settings

FIRST_MICROS, LAST_MICROS = (np.datetime64(day, "us").astype(np.int64) for day in (FIRST_SENSIBLE, LAST_SENSIBLE))
SPECIAL = r"[%|\x00-\x1f]|[.][.][.]"  # in a segment's value: what a partition key has to write otherwise
MICROS_A_DAY = 86_400_000_000
MOST_ODD_TIMES = 20_000  # distinct texts; with more of them the table is Spark's to read


@dataclass(frozen=True)
class Reading:
    """How a plain table's rows are read: the roles of its columns, and what its odd texts of times say.

    Of `ruled` columns it is the contract's to say what becomes of text that does not parse.
    """

    segment: list[str]
    time: str
    kinds: dict[str, Kind]
    patterned: bool
    ruled: frozenset[str]
    times: Mapping[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, kinds: dict[str, Kind], times: Mapping[str, int | None]) -> Reading:
        """The reading of a fleet's table with time."""
        assert settings.time, "asked of tables with time"
        ruled = frozenset(name for name, column in settings.contract.columns.items() if meant_type(column))
        return cls(
            settings.segment, settings.time, kinds, bool(time_pattern(settings)), ruled - {settings.label}, times
        )

    @property
    def columns(self) -> list[str]:
        """The columns that are looked at."""
        return list(dict.fromkeys([*self.segment, self.time, *self.kinds, CORRUPT]))


class Keys(NamedTuple):
    """The distinct partition keys of some rows, and the place of each row's own."""

    texts: pa.Array
    places: Places


class Typed(NamedTuple):
    """Rows typed.

    `micros` is the time in microseconds since 1970 where `timed`; `values` are numbers, or text; `against` names what
    is held against rows, and which, in the order in which a row's reasons are given; `told` counts what the cells of
    each text column say; `odd` are texts of times that nobody has told yet.
    """

    keys: Keys
    micros: Places
    timed: Truths
    values: dict[str, pa.Array]
    against: list[tuple[str, Truths]]
    told: dict[str, Told]
    odd: list[str]


class _Column(NamedTuple):
    values: pa.Array
    unparsable: Truths | None = None
    infinite: Truths | None = None
    told: Told | None = None


def typed(rows: pa.RecordBatch, reading: Reading) -> Typed:
    """Some rows, typed."""
    corrupt = rows[CORRUPT].is_valid().to_numpy(zero_copy_only=False)
    cells = {name: rows[name] for name in reading.columns}
    whole = ~corrupt
    against = [("malformed", corrupt)]
    against += [(f"null_segment:{name}", whole & _is_null(cells[name])) for name in reading.segment]
    time = _times(cells[reading.time], reading, whole)
    outside = time.known & ((time.micros < FIRST_MICROS) | (time.micros >= LAST_MICROS))
    against += [
        (f"null_time:{reading.time}", whole & time.blank),
        (f"unparsable:{reading.time}", whole & ~time.blank & ~time.known),
        (f"time_out_of_range:{reading.time}", whole & outside),
    ]
    found = {name: _column(cells[name], kind, whole) for name, kind in reading.kinds.items()}
    for name, column in found.items():
        if column.unparsable is not None and name not in reading.ruled:
            against.append((f"unparsable:{name}", whole & column.unparsable))
        if column.infinite is not None:
            against.append((f"infinite:{name}", whole & column.infinite))
    told = {name: column.told for name, column in found.items() if column.told is not None}
    values = {name: column.values for name, column in found.items()}
    told |= {reading.time: time.told} if time.told is not None else {}
    keys = keys_of([cells[name] for name in reading.segment])
    return Typed(keys, time.micros, time.known, values, against, told, time.odd)


def _is_null(column: pa.Array) -> Truths:
    return column.is_null().to_numpy(zero_copy_only=False)


def keys_of(columns: Sequence[pa.Array]) -> Keys:
    """The partition keys of rows, from their segment columns; a null is passed over."""
    parts = [_escaped(column) for column in columns]
    encoded = parts[0] if len(parts) == 1 else _joined(parts).dictionary_encode()
    texts = pa.concat_arrays([encoded.dictionary, pa.array([""])])
    places = encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
    return Keys(texts, places.astype(np.int64, copy=False))


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    texts = [part.cast(pa.string()) for part in parts]
    joined = pc.binary_join_element_wise(*texts, SEPARATOR, null_handling="emit_null")
    lacking = joined.is_null()
    # Arrow's `skip` leaves out rows of which all are null (25.0)
    held = zip(*[text.filter(lacking).to_pylist() for text in texts], strict=True)
    known = [SEPARATOR.join(each for each in row if each is not None) for row in held]
    return pc.replace_with_mask(joined, lacking, pa.array(known, pa.string()))


def _escaped(column: pa.Array) -> pa.DictionaryArray:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string())
    special = pc.or_(pc.match_substring_regex(texts, SPECIAL), pc.equal(texts, ""))
    if pc.any(special).as_py():
        pairs = zip(texts.to_pylist(), special.to_pylist(), strict=True)
        texts = pa.array([partition_key([text]) if odd else text for text, odd in pairs], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)


class _Times(NamedTuple):
    """Times of cells, which of them are known, which cells are blank, and texts that are yet to be told."""

    micros: Places
    known: Truths
    blank: Truths
    odd: list[str]
    told: Told | None = None


def _times(cells: pa.Array, reading: Reading, whole: Truths) -> _Times:
    if not _is_text(cells):
        timed = cells.is_valid().to_numpy(zero_copy_only=False)
        if pa.types.is_date32(cells.type):
            micros = cells.cast(pa.int32()).fill_null(0).to_numpy().astype(np.int64) * MICROS_A_DAY
        else:
            micros = cells.cast(pa.timestamp("us", cells.type.tz)).cast(pa.int64()).fill_null(0).to_numpy()
        return _Times(micros, timed, ~timed, [])
    texts = texts_of(cells)
    held = texts.counts() > 0
    found = moments_in(pc.if_else(pa.array(held), texts.texts, None), reading.times, reading.patterned)
    odd = texts.texts.filter(pa.array(found.odd & held)).to_pylist()
    filled = texts.texts.is_valid().to_numpy(zero_copy_only=False)
    counts = np.bincount(texts.places[whole], minlength=len(held))
    told = Told(int(counts[filled].sum()), 0, 0, int(counts[found.known].sum()))
    return _Times(texts.spread(found.micros), texts.spread(found.known), ~texts.spread(filled), odd, told)


def moments_of(cells: pa.Array, reading: Reading) -> pa.Array:
    """The times of cells of the time column, null where a cell holds none."""
    found = _times(cells, reading, np.ones(len(cells), bool))
    return pa.array(found.micros, mask=~found.known).cast(pa.timestamp("us"))


def _is_text(column: pa.Array) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)


def _column(cells: pa.Array, kind: Kind, whole: Truths) -> _Column:
    if not _is_text(cells):
        return _Column(as_text(cells)) if kind == "text" else _of_numbers(cells)
    texts = texts_of(cells)
    counts = np.bincount(texts.places[whole], minlength=len(texts.texts))
    filled = texts.texts.is_valid().to_numpy(zero_copy_only=False)
    says_number, truth = is_number_text(texts.texts), booleans_in(texts.texts)
    told = Told(int(counts[filled].sum()), int(counts[says_number].sum()), int(counts[~np.isnan(truth)].sum()), 0)
    if kind == "text":
        return _Column(as_text(cells), told=told)
    numbers = truth if kind == "boolean" else numbers_in(texts.texts)
    parsed = ~np.isnan(truth) if kind == "boolean" else says_number
    return _numeric(texts, numbers, filled & ~parsed, told)


def _numeric(texts: Texts, numbers: Doubles, unparsable: Truths, told: Told) -> _Column:
    values = texts.spread(numbers)
    infinite = np.isinf(numbers)
    return _Column(
        pa.array(values, mask=np.isnan(values)),
        texts.spread(unparsable),
        texts.spread(infinite) if infinite.any() else np.zeros(len(values), bool),
        told,
    )


def _of_numbers(cells: pa.Array) -> _Column:
    # not every large integer is a double, which is no reason to refuse it
    values = cells.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return _Column(pa.array(values, mask=np.isnan(values)), infinite=np.isinf(values))


def as_text(cells: pa.Array) -> pa.Array:
    """Cells as text, letter by letter; null where there is nothing in one."""
    text = cells.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), None, text)


def held_against(against: Sequence[tuple[str, Truths]], rows: int) -> tuple[Truths, pa.Array]:
    """Which rows something is held against, and the names of it (a list for each row, empty for a good one)."""
    names = [name for name, mask in against if mask.any()]
    masks = [mask for _, mask in against if mask.any()]
    many = np.zeros(rows, np.int32)
    for mask in masks:
        many += mask
    offsets = np.concatenate([[0], np.cumsum(many)]).astype(np.int32)
    told = np.zeros(offsets[-1], np.int32)
    at = offsets[:-1].copy()
    for number, mask in enumerate(masks):
        told[at[mask]] = number
        at[mask] += 1
    values = pa.array(names, pa.string()).take(pa.array(told))
    return many > 0, pa.ListArray.from_arrays(pa.array(offsets), values)
