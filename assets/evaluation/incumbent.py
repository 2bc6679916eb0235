"""The incumbent: the fleet that has served until now, as the registry's alias names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from resources.lake import Lake
from resources.mlflow import Mlflow

CHAMPIONS = "champions"


@dataclass(frozen=True)
class Champion:
    """A published fleet: its version and, a row a segment, who serves and where its model lies."""

    version: int
    tags: Mapping[str, str]
    listing: pa.Table

    @property
    def trainings(self) -> list[str]:
        """The trainings its models come from."""
        return sorted(key for key in self.listing["training"].unique().to_pylist() if key)


def published_champion(lake: Lake, mlflow: Mlflow) -> Champion | None:
    """The fleet that the alias `champion` stands for; None before the first promotion."""
    tags = mlflow.champion()
    if tags is None or not lake.table(CHAMPIONS).exists():
        return None
    rows = lake.table(CHAMPIONS).arrow(where=[("published", "=", tags["published"])])
    return Champion(int(tags["version"]), tags, rows.drop_columns(["published"]))
