"""What a snapshot was made of: each file of the source with its content, and the snapshot that it first came with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel

from resources.lake import Lake


class SourceFile(BaseModel):
    """One file: SHA-256 of its bytes, number of the arrival it came with, and the part of the raw table it is in."""

    sha256: str
    arrived: int
    part: str


class Manifest(BaseModel):
    """The files behind a snapshot, by their path under the source's root; `reader` is how they were read."""

    reader: str
    files: dict[str, SourceFile]

    @property
    def digest(self) -> str:
        """The snapshot's data version: equal for the same bytes, read the same way, that arrived in the same order."""
        order = {number: place for place, number in enumerate(sorted({file.arrived for file in self.files.values()}))}
        content = [(path, file.sha256, order[file.arrived]) for path, file in sorted(self.files.items())]
        return hashlib.sha256(json.dumps([self.reader, content]).encode()).hexdigest()

    def parts(self, paths: list[str]) -> list[str]:
        """The parts of the raw table that hold some files."""
        return sorted({self.files[path].part for path in paths})


def following(last: Manifest | None, reader: str, contents: Mapping[str, str]) -> tuple[Manifest, list[str]]:
    """The manifest of what the source holds now, and the files in it that the last one lacks.

    `contents` gives the SHA-256 of each file. A file that was there with the same bytes keeps its arrival; if files are
    read in another way than last time, all of them are new.
    """
    known = last.files if last else {}
    kept = {path: known[path] for path, sha in contents.items() if path in known and known[path].sha256 == sha}
    arrival = 1 + max((file.arrived for file in known.values()), default=0)
    new = [path for path in contents if path not in kept]
    # a file that was renamed has arrived already
    gone = {file.sha256: file.arrived for path, file in known.items() if path not in contents}
    arrived = {path: gone.get(contents[path], arrival) for path in new}
    fresh = {path: SourceFile(sha256=contents[path], arrived=arrived[path], part="") for path in new}
    manifest = Manifest(reader=reader, files={path: (kept | fresh)[path] for path in sorted(contents)})
    return manifest, sorted(contents) if last is None or last.reader != reader else new


def write_manifest(lake: Lake, manifest: Manifest) -> None:
    """Keeps a manifest under its digest."""
    lake.write_file(_file(manifest.digest), manifest.model_dump_json().encode())


def read_manifest(lake: Lake, digest: str | None) -> Manifest | None:
    """The manifest of a snapshot, None if there is none (or the snapshot is from before there were any)."""
    content = lake.read_file(_file(digest)) if digest else None
    return Manifest.model_validate_json(content) if content else None


def _file(digest: str) -> str:
    return f"manifests/{digest}.json"
