"""The sections `drift` and `notify` of `fleet.yaml`: how the fleet is watched, what follows, and who is told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from resources.section import Positive, Section, Share


class Drift(Section):
    """How drift is told from chance, and what follows: docs/drift.md.

    `rate`: share of the alarms that may be false; `effect`: the least that matters, a Wasserstein distance in standard
    deviations of the reference; `window`: periods of the current window, by frequency. `cooldown`: days before a
    segment is retrained again for drift; `fleet_share`: share of the segments above which all are retrained; `worst`:
    how many segments get a report. `retrain`: whether drifted segments are retrained without being asked for,
    while `make ui` or a Dagster daemon is up.
    """

    rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    effect: Annotated[float, Field(ge=0)] = 0.3
    window: Positive | None = None
    cooldown: Annotated[float, Field(ge=0)] = 7.0
    fleet_share: Share = 0.3
    worst: Annotated[int, Field(ge=0, le=100)] = 5
    retrain: bool = True


class Notify(Section):
    """What the owner is told through the receivers that FLEET_NOTIFY names: docs/sensors.md.

    `ui`: where Dagster's web page is, for links; `warnings`: whether checks that warn are told too; `champion_age`:
    days after which models that still serve are stale, by default four rounds of the schedule and at least 28;
    `late`: minutes that a scheduled run may be late.
    """

    ui: Annotated[str, Field(pattern=r"^https?://[^\s/]")] = "http://127.0.0.1:3000"
    warnings: bool = True
    champion_age: Annotated[float, Field(gt=0)] | None = None
    late: Annotated[float, Field(gt=0)] = 60.0
