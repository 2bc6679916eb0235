"""Whether the models of a listing are there, and byte for byte those that were fitted."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from assets.models.blend import with_weight
from assets.models.fleet_model import fleet_facts
from assets.models.line import FLEET_MODEL
from assets.models.shard import BOOSTERS, FITS, model_digests
from assets.models.store import TRAINING, Training, as_listing
from resources.files import StoredFile, copy_file, files_under, read_file, remove_file
from resources.lake import Lake

SET_ASIDE = "corrupt"
READERS = 4
DIGESTS = ["segment", *(f"{fit}_digest" for fit in FITS)]


def missing_files(lake: Lake, listing: pa.Table, known: Mapping[str, Training]) -> list[str]:
    """Model files (relative to the lake) that a listing's models lie in, and that are not there."""
    there = {file.uri.removeprefix(f"{lake.root}/") for file in files_under(lake.path(BOOSTERS))}
    return sorted(_files_of(listing, known) - there)


def set_aside_corrupt(lake: Lake, listing: pa.Table, known: Mapping[str, Training]) -> list[str]:
    """Reads every file that a listing's models lie in, and moves those to `corrupt/` that are not as written.

    Gives the files moved, relative to the lake: from then on they are missing, and what lay in them is fitted anew.
    Only digests that a listing has are compared. A file that was found whole is read again only when it changed.
    """
    stored = {file.uri.removeprefix(f"{lake.root}/"): file for file in files_under(lake.path(BOOSTERS))}
    listed = as_listing(listing).select(["shard", *DIGESTS])
    listed = listed.filter(pc.and_(pc.is_valid(listed["shard"]), pc.is_valid(listed[DIGESTS[1]])))
    shards = sorted(set(pc.unique(listed["shard"]).to_pylist()) & set(stored))
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda shard: _digests_now(stored[shard], shard), shards)
        there = pa.concat_tables([listed.schema.empty_table(), *found])
    here = listed.filter(pc.is_in(listed["shard"], pa.array(shards, pa.string())))
    corrupt = sorted(pc.unique(here.join(there, ["shard", *DIGESTS], join_type="left anti")["shard"]).to_pylist())
    fleets = sorted(_fleet_files(listing, known) & set(stored))
    corrupt += [file for file in fleets if fleet_facts(lake.root, file) is None]
    for file in corrupt:
        copy_file(lake.path(file), lake.path(f"{SET_ASIDE}/{file}"))
        remove_file(lake.path(file))
    return corrupt


@lru_cache(maxsize=20_000)
def _digests_now(stored: StoredFile, shard: str) -> pa.Table:
    """Digests of a shard's models as they lie there, beside its name; none where it is no shard any more."""
    content = read_file(stored.uri) or b""
    try:
        found = model_digests(content)
    except (OSError, pa.ArrowException):
        found = pa.table({name: pa.array([], pa.string()) for name in DIGESTS})
    return found.add_column(0, "shard", pa.array([shard] * len(found), pa.string()))


def _files_of(listing: pa.Table, known: Mapping[str, Training]) -> set[str]:
    return {*listing["shard"].drop_null().unique().to_pylist(), *_fleet_files(listing, known)}


def _fleet_files(listing: pa.Table, known: Mapping[str, Training]) -> set[str]:
    by_fleet = with_weight(as_listing(listing), FLEET_MODEL)[TRAINING].unique().to_pylist()
    return {file for identity in by_fleet if identity in known and (file := known[identity].fleet_file)}
