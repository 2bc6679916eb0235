"""The section `drift` of `fleet.yaml`: how the fleet is watched, and when a watched segment is retrained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from resources.section import Positive, Section, Share


class Drift(Section):
    """How drift is told from chance, and what follows: docs/drift.md.

    `rate`: share of the alarms that may be false; `effect`: the least that matters, a Wasserstein distance in standard
    deviations of the reference; `window`: periods of the current window, by frequency. `cooldown`: days before a
    segment is retrained again for drift; `fleet_share`: share of the segments above which all are retrained; `worst`:
    how many segments get a report.
    """

    rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    effect: Annotated[float, Field(ge=0)] = 0.3
    window: Positive | None = None
    cooldown: Annotated[float, Field(ge=0)] = 7.0
    fleet_share: Share = 0.3
    worst: Annotated[int, Field(ge=0, le=100)] = 5
