"""Model shards: Parquet files of some segments' models, written once, known again by fingerprint.

A shard lies in its bucket's folder, `boosters/<bucket>/<name>.parquet`. It counts for nothing until a committed line of
the table of models names it; until then it is what a run that died has left, and the next run goes on from there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.models.line import KNOWN_COLUMNS, SHARD
from assets.models.packing import model_digest, unpacked
from resources.files import filesystem, read_file, whole_file

if TYPE_CHECKING:
    from lightgbm import Booster

BOOSTERS = "boosters"
FITS = ("served", "judged")
SEGMENTS_A_SHARD, SECONDS_A_SHARD = 64, 5.0
GENERATIONS = 4


class CorruptModelError(Exception):
    """A shard holds another model than the one that was fitted, or cannot be read."""


class ShardWriter:
    """Keeps a bucket's models as they come, a file every few seconds or 64 segments: a crash costs no more."""

    def __init__(self, lake: str, bucket: int) -> None:
        self._lake, self._folder = lake, f"{BOOSTERS}/{bucket:05d}"
        self._waiting: list[dict[str, Any]] = []
        self._next_shard()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._write()

    def add(self, record: dict[str, Any]) -> str:
        """Keeps one segment's models (a row of `SHARD`); gives the shard they will lie in, relative to the lake."""
        shard = self._name
        self._waiting.append(record)
        if len(self._waiting) >= SEGMENTS_A_SHARD or time.monotonic() > self._due:
            self._write()
        return shard

    def _write(self) -> None:
        import pyarrow.parquet as pq

        if self._waiting:
            with whole_file(f"{self._lake}/{self._name}") as sink:
                pq.write_table(pa.Table.from_pylist(self._waiting, SHARD), sink, compression="none")
        self._waiting = []
        self._next_shard()

    def _next_shard(self) -> None:
        # names sort by time, so that the newest are found without asking for each file's date
        self._name = f"{self._folder}/{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.parquet"
        self._due = time.monotonic() + SECONDS_A_SHARD


def known_fits(lake: str, bucket: int, wanted: AbstractSet[str], segments: int) -> dict[str, dict[str, Any]]:
    """What the bucket's shards hold of some fingerprints: columns of `KNOWN_COLUMNS` and the shard.

    The newest shards are read first, until all are found or four generations of the bucket's `segments` were looked at.
    A model whose bytes are not those that were fitted is not known.
    """
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq

    system, root = filesystem(f"{lake}/{BOOSTERS}/{bucket:05d}")
    listed = system.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    names = sorted(info.base_name for info in listed if info.base_name.endswith(".parquet"))
    found: dict[str, dict[str, Any]] = {}
    seen = 0
    while names and len(found) < len(wanted) and seen < GENERATIONS * segments:
        name = names.pop()
        shard = f"{BOOSTERS}/{bucket:05d}/{name}"
        try:
            with system.open_input_file(f"{root}/{name}") as stream:
                rows = pq.ParquetFile(stream).read(columns=["segment", "fingerprint", *KNOWN_COLUMNS]).to_pylist()
            fresh = [row for row in rows if row["fingerprint"] in wanted and row["fingerprint"] not in found]
            whole = _whole_segments(lake, shard, pa.Table.from_pylist(fresh)) if fresh else frozenset()
        except (OSError, pa.ArrowException):
            continue
        seen += len(rows)
        found |= {row["fingerprint"]: row | {"shard": shard} for row in fresh if row["segment"] in whole}
    return found


def _whole_segments(lake: str, shard: str, listed: pa.Table) -> frozenset[str]:
    """Those of some listed segments whose models, in a shard, are byte for byte as they were fitted.

    Where no digest was written there is nothing to compare.
    """
    columns = ["segment", *(f"{fit}_digest" for fit in FITS)]
    there = model_digests(read_file(f"{lake}/{shard}") or b"").select(columns)
    wanted = listed.select(columns).cast(there.schema)
    same = wanted.join(there, columns, join_type="inner")
    unsaid = wanted.filter(pc.is_null(wanted[columns[1]]))
    return frozenset([*same["segment"].to_pylist(), *unsaid["segment"].to_pylist()])


def model_digests(shard: bytes) -> pa.Table:
    """Of each segment in a shard the digests of its models as they are now (`segment`, `served_digest` ...).

    Raises:
        OSError, pa.ArrowException: these bytes are no shard.
    """
    import pyarrow.parquet as pq

    found: dict[str, list[str | None]] = {"segment": [], **{f"{fit}_digest": [] for fit in FITS}}
    for batch in pq.ParquetFile(pa.BufferReader(shard)).iter_batches(batch_size=64, columns=["segment", *FITS]):
        found["segment"] += batch["segment"].to_pylist()
        for fit in FITS:
            found[f"{fit}_digest"] += map(model_digest, batch[fit].to_pylist())
    return pa.table(found, schema=pa.schema([(name, pa.string()) for name in found]))


def boosters(lake: str, rows: pa.Table, column: str) -> Iterator[tuple[str, Booster]]:
    """Segments and their boosters, of listed rows (`segment`, `shard`); `column` is `served` or `judged`.

    Each shard is read once, a row group in memory at a time.

    Raises:
        CorruptModelError: a model is not the one whose digest is listed.
    """
    for stored in stored_models(lake, rows, column):
        yield stored.segment, unpacked(stored.checked())


@dataclass(frozen=True)
class StoredModel:
    """A segment's packed model as a shard has it, and the digest that is listed of it (None: none was written)."""

    segment: str
    model: bytes
    shard: str
    digest: str | None

    def checked(self) -> bytes:
        """The packed model.

        Raises:
            CorruptModelError: it is not the one whose digest is listed.
        """
        if self.digest not in (None, model_digest(self.model)):
            raise CorruptModelError(f"the model of {self.segment!r} in {self.shard} is not the one that was fitted")
        return self.model


def stored_models(lake: str, rows: pa.Table, column: str) -> Iterator[StoredModel]:
    """The packed models of listed rows, as `boosters` gives them unpacked."""
    import pyarrow.parquet as pq

    with_model = rows.filter(pc.is_valid(rows["shard"])).select(["shard", "segment", f"{column}_digest"])
    for shard in pc.unique(with_model["shard"]).to_pylist():
        own = with_model.filter(pc.equal(with_model["shard"], shard))
        wanted = dict(zip(own["segment"].to_pylist(), own[f"{column}_digest"].to_pylist(), strict=True))
        system, path = filesystem(f"{lake}/{shard}")
        with system.open_input_file(path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=64, columns=["segment", column]):
                for key, model in zip(*(part.to_pylist() for part in batch.columns), strict=True):
                    if key in wanted:
                        yield StoredModel(key, model, shard, wanted[key])
