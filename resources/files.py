"""Single files and folders by URI, local or remote: read, written as a whole, copied, removed."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

COPIED_AT_ONCE = 1 << 22
WILDCARD = r"[*?\[]"
S3 = "s3://"


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """PyArrow's file system for a URI or local path, and the path in it.

    A bucket's path is taken letter by letter, but in a URI with options (`?endpoint_override=...`): percent-encoded.
    """
    import pyarrow.fs as pafs

    if "://" not in uri:
        return pafs.LocalFileSystem(), uri
    if not uri.startswith(S3) or "?" in uri:
        return pafs.FileSystem.from_uri(uri)
    bucket, slash, path = uri.removeprefix(S3).partition("/")
    return pafs.FileSystem.from_uri(f"{S3}{bucket}")[0], f"{bucket}{slash}{path}".rstrip("/")


def storage_options(uri: str) -> dict[str, str] | None:
    """What deltalake has to be told of a bucket beside the environment: that its endpoint may be `http`."""
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"allow_http": "true"} if plain and uri.startswith(S3) else None


def folder_of_glob(path: str) -> str:
    """The folder that a glob looks into: what stands before its first wildcard."""
    return re.split(WILDCARD, path, maxsplit=1)[0].rpartition("/")[0]


def bytes_at(uri: str) -> int:
    """Bytes of the file, the folder, or (of a glob) the folder that it looks into; 0 where that cannot be told."""
    import pyarrow as pa
    import pyarrow.fs as pafs

    if not uri:
        return 0
    try:
        system, path = filesystem(uri)
        info = system.get_file_info(folder_of_glob(path) if re.search(WILDCARD, path) else path)
        if info.type == pafs.FileType.Directory:
            return sum(each.size or 0 for each in system.get_file_info(pafs.FileSelector(info.path, recursive=True)))
        return info.size or 0
    except (OSError, ValueError, pa.ArrowException):
        return 0  # a query, or what is told when the source is listed


def read_file(uri: str) -> bytes | None:
    """Content of one file, None if there is none."""
    system, path = filesystem(uri)
    try:
        with system.open_input_stream(path) as stream:
            return stream.read()
    except FileNotFoundError:
        return None


@contextmanager
def whole_file(uri: str) -> Iterator[pa.NativeFile]:
    """A stream to one file, which is there once the `with` block ends well, and never in part."""
    system, path = filesystem(uri)
    system.create_dir(path.rpartition("/")[0], recursive=True)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with system.open_output_stream(temporary) as sink:
            yield sink
        system.move(temporary, path)
    except BaseException:
        if system.get_file_info(temporary).is_file:
            system.delete_file(temporary)
        raise


def write_file(uri: str, content: bytes) -> str:
    """Writes one file as a whole, never visible in part, and gives its URI."""
    with whole_file(uri) as sink:
        sink.write(content)
    return uri


def copy_file(source: str, target: str) -> str:
    """Copies one file, which is never visible in part, and gives the target's URI."""
    return copy_from(*filesystem(source), target)


def copy_from(system: pafs.FileSystem, path: str, target: str) -> str:
    """Copies one file of a file system, byte for byte, to a URI, which it gives; the copy is never visible in part."""
    with system.open_input_stream(path, compression=None) as stream, whole_file(target) as sink:
        while chunk := stream.read(COPIED_AT_ONCE):
            sink.write(chunk)
    return target


def write_parquet(table: pa.Table, uri: str, **options: Any) -> None:
    """Writes a Parquet file that nobody reads before it is committed; `options` are those of PyArrow's writer."""
    import pyarrow.parquet as pq

    system, path = filesystem(uri)
    system.create_dir(path.rpartition("/")[0], recursive=True)
    pq.write_table(table, path, filesystem=system, **options)


def is_hidden(relative: str) -> bool:
    """Whether a file or a folder above it has a name that readers of tables pass over (`_SUCCESS`)."""
    return any(part.startswith((".", "_")) for part in relative.split("/") if part)


@dataclass(frozen=True)
class StoredFile:
    """A file that is there: its URI, its size in bytes, and when it was written, in seconds since 1970."""

    uri: str
    size: int
    written: float


def files_under(uri: str) -> list[StoredFile]:
    """Every file below a folder, hidden ones too, by URI; none where there is no such folder."""
    import pyarrow.fs as pafs

    system, root = filesystem(uri)
    found = system.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    stored = [StoredFile(uri + f.path[len(root) :], f.size, (f.mtime_ns or 0) / 1e9) for f in found if f.is_file]
    return sorted(stored, key=lambda file: file.uri)


def folders_in(uri: str) -> list[str]:
    """Names of the folders in a folder; none where there is no such folder."""
    import pyarrow.fs as pafs

    system, root = filesystem(uri)
    found = system.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    return sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)


def remove_file(uri: str) -> None:
    """Deletes one file, if it is there."""
    system, path = filesystem(uri)
    if system.get_file_info(path).is_file:
        system.delete_file(path)


def remove(uri: str) -> None:
    """Deletes a folder and what is in it, if it is there."""
    import pyarrow.fs as pafs

    system, path = filesystem(uri)
    if system.get_file_info(path).type == pafs.FileType.Directory:
        system.delete_dir(path)


def discard(uri: str, made_for_it: Iterable[Path]) -> None:
    """Deletes a folder of work that is over, and those above it that were made for it; what cannot be, a prune removes.

    A task that goes on after another failed may still write, and its files must not hide what failed.
    """
    with suppress(OSError):
        remove(uri)
        remove_empty(made_for_it)


def make_folder(uri: str) -> None:
    """Makes a folder and those above it, where they are not there."""
    system, path = filesystem(uri)
    system.create_dir(path, recursive=True)


def missing_folders(uri: str) -> list[Path]:
    """The folder and those above it that do not exist yet, deepest first; none but on a local disk."""
    system, path = filesystem(uri)
    if system.type_name != "local":
        return []
    folder = Path(path)
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Deletes those folders, deepest first, that are empty."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
