"""The lake: committed tables and single files under one root folder or bucket."""

from __future__ import annotations

from urllib.parse import unquote

from dagster import ConfigurableResource

from resources.files import read_file, write_file
from resources.table import Table


class Lake(ConfigurableResource):
    """Root folder or bucket of one fleet; everything under it is written once and committed atomically."""

    uri: str

    @property
    def root(self) -> str:
        """The lake's folder or bucket; a plain path where it is local."""
        root = unquote(self.uri.removeprefix("file://")) if self.uri.startswith("file://") else self.uri
        return root.rstrip("/")

    def table(self, name: str) -> Table:
        """The committed table `name`, which need not exist yet."""
        return Table(self.path(name))

    def path(self, name: str) -> str:
        """URI of a single file in the lake; a plain path where the lake is a local folder."""
        return f"{self.root}/{name}"

    def write_file(self, name: str, content: bytes) -> str:
        """Writes a file as a whole (temporary name, then move) and gives its URI."""
        return write_file(self.path(name), content)

    def read_file(self, name: str) -> bytes | None:
        """Content of a file, None if there is none."""
        return read_file(self.path(name))
