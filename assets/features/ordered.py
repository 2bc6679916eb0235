"""Rows by bucket, segment and period, and apart from them what is the same throughout a segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.features.contract import BUCKET
from assets.raw.parse import KEY, PERIOD

if TYPE_CHECKING:
    from assets.raw.arrow_cells import Places


@dataclass(frozen=True)
class Ordered:
    """Rows by bucket, segment and period, without the columns that are the same throughout a segment.

    `segments` has those, a row a segment in the same order; `segment` is the place of each row's own in it.
    """

    rows: pa.Table
    segments: pa.Table
    segment: Places

    @property
    def starts(self) -> Places:
        """The first row of each segment."""
        return np.searchsorted(self.segment, np.arange(self.segments.num_rows))

    def buckets(self) -> Iterator[pa.Table]:
        """All columns of the rows of each bucket; texts that are the same throughout a segment as dictionaries."""
        bucket = self.segments[BUCKET].to_numpy()
        ends = np.append(np.flatnonzero(bucket[1:] != bucket[:-1]) + 1, len(bucket))[: len(bucket)]
        first = 0
        for last in ends:
            start, end = np.searchsorted(self.segment, [first, last])
            local = pa.array((self.segment[start:end] - first).astype(np.int32))
            listed = self.segments.slice(first, last - first).combine_chunks()
            same = {name: _repeated(listed[name].combine_chunks(), local) for name in listed.column_names}
            own = self.rows.slice(start, end - start)
            yield pa.table({**same, **dict(zip(own.column_names, own.columns, strict=True))})
            first = last


def _repeated(of_segment: pa.Array, segment: pa.Array) -> pa.Array:
    if not pa.types.is_string(of_segment.type):
        return of_segment.take(segment)
    encoded = of_segment.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(segment), encoded.dictionary)


def ordered(rows: pa.Table, segment_columns: Sequence[str]) -> Ordered:
    """The rows in order, of which these columns, `__segment` and `fleet_bucket` are the same throughout a segment."""
    keys = rows[KEY].dictionary_encode().combine_chunks()  # texts of a large part may be too long for one array
    rows = rows.combine_chunks()
    codes = keys.indices.to_numpy()
    first = np.empty(len(keys.dictionary), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    same = list(dict.fromkeys([BUCKET, KEY, *segment_columns]))
    segments = rows.select(same).take(pa.array(first))
    order = pc.sort_indices(segments, [(BUCKET, "ascending"), (KEY, "ascending")])
    rank = np.empty(len(first), np.int64)
    rank[order.to_numpy()] = np.arange(len(first))
    segment, period = rank[codes], rows[PERIOD].to_numpy().astype(np.int64)
    least, most = (int(period.min()), int(period.max())) if len(period) else (0, 0)
    place = segment * (most - least + 1) + (period - least)
    own = rows.drop_columns(same)
    if not (place[1:] > place[:-1]).all():
        by_place = np.argsort(place, kind="stable")
        own, segment = own.take(pa.array(by_place)).combine_chunks(), segment[by_place]
    return Ordered(own, segments.take(order), segment)
