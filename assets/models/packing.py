"""How a model is kept: LightGBM's text in two compressed parts, so that forecasting reads only what it needs."""

from __future__ import annotations

import hashlib
import re
import struct
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from lightgbm import Booster

CODEC = "zstd"
SIZES = struct.Struct("<III")  # bytes of the first part, of the first part compressed, of the second part
THREADS = re.compile(rb"\[num_threads: \d+\]")
# what LightGBM reads from a tree's text only if it is there, and no prediction needs: half of it (`Tree::Tree` in its
# src/io/tree.cpp); tree_sizes counts the bytes of the whole trees
DETAIL = re.compile(rb"\n((?:tree_sizes|split_gain|internal_(?:value|weight|count)|leaf_(?:weight|count))=[^\n]*+)")
AFTER_TREES = b"\nfeature_importances:"


def packed(booster: Booster) -> bytes:
    """LightGBM's model text, compressed with Zstandard; the same whatever the number of threads it was trained on."""
    trees, details = _parts(THREADS.sub(b"[num_threads: 1]", booster.model_to_string().encode()))
    codec = pa.Codec(CODEC)
    first, second = (codec.compress(part, asbytes=True) for part in (trees, details))
    return SIZES.pack(len(trees), len(first), len(details)) + first + second


def model_digest(model: bytes | None) -> str | None:
    """Digest (16 hexadecimal digits) of a packed model, by which it is known to be the one that was fitted."""
    return None if model is None else hashlib.blake2b(model, digest_size=8).hexdigest()


def unpacked(model: bytes) -> Booster:
    """The booster of a packed model: its predictions are the whole one's; gains and counts are only in `model_text`."""
    import lightgbm as lgb

    return lgb.Booster(model_str=_first(model).decode())


def unpacked_whole(model: bytes) -> Booster:
    """The booster of a packed model with all that LightGBM wrote: TreeSHAP goes by the rows that each node counted."""
    import lightgbm as lgb

    return lgb.Booster(model_str=model_text(model))


def model_text(model: bytes) -> str:
    """LightGBM's text of a packed model, whole: the inverse of `packed`."""
    _, packed_size, size = SIZES.unpack_from(model)
    rest = memoryview(model)[SIZES.size + packed_size :]
    return _whole(_first(model), pa.Codec(CODEC).decompress(rest, size, asbytes=True)).decode()


def _first(model: bytes) -> bytes:
    size, packed_size, _ = SIZES.unpack_from(model)
    part = memoryview(model)[SIZES.size : SIZES.size + packed_size]
    return pa.Codec(CODEC).decompress(part, size, asbytes=True)


def _parts(text: bytes) -> tuple[bytes, bytes]:
    """The trees without their details; and the details, after a line that says how many lines lie before each."""
    head, mark, tail = text.partition(AFTER_TREES)
    pieces = DETAIL.split(head)
    lines_before = " ".join(str(piece.count(b"\n")) for piece in pieces[:-1:2])
    return b"".join(pieces[::2]), b"\n".join([lines_before.encode(), *pieces[1::2]]) + mark + tail


def _whole(trees: bytes, details: bytes) -> bytes:
    first, _, rest = details.partition(b"\n")
    lines_before, lines, end = list(map(int, first.split())), trees.split(b"\n"), 1
    *taken, tail = rest.split(b"\n", len(lines_before))
    found = lines[:1]
    for before, detail in zip(lines_before, taken, strict=True):
        found += [*lines[end : end + before], detail]
        end += before
    return b"\n".join([*found, *lines[end:], tail])
