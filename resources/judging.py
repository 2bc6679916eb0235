"""How a fleet is judged: the sections of `fleet.yaml` on failures, evaluation, promotion, forecasts and checks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from resources.section import Positive, Section, Share

Metric = Literal["wape", "mae", "rmse", "rmspe", "pinball", "auc", "log_loss"]
# objective -> the metric that models are judged by where none is named, and all that mean something for it
OF_NUMBERS = ("wape", "mae", "rmse", "rmspe")
METRICS = {"binary": ("log_loss", "auc"), "quantile": ("pinball", *OF_NUMBERS)}


Level = Annotated[float, Field(gt=0, lt=1)]


def _ascending(levels: list[float]) -> list[float]:
    if len(set(levels)) < len(levels):
        raise ValueError("a level is written twice")
    return sorted(levels)


class Failures(Section):
    """What happens to a segment whose training fails: seconds and retries it gets; the share that blocks promotion."""

    tolerated: Share = 0.05
    time_limit: Annotated[float, Field(gt=0)] = 900.0
    retries: Annotated[int, Field(ge=0, le=10)] = 1


class Evaluation(Section):
    """How models are judged; periods are those of `frequency`.

    `metric` follows the objective: `wape`, of `quantile` `pinball`, of `binary` `log_loss`.
    """

    holdout: Positive | None = None
    metric: Metric | None = None
    season: Positive | None = None
    minimum_history: Annotated[int, Field(ge=2)] | None = None


class Promotion(Section):
    """When a challenger may serve, and how it comes to: docs/promotion.md.

    `margin`: share by which a changed recipe's total error must be lower than the incumbent's while there are few
    origins; `tolerance`: share by which that of the same recipe on newer data may be higher over a horizon.
    `worse_than_baseline`: share of segments; `bias`: share of the labels' sum. `false_swaps`: share of segments that
    may be swapped, or kept, by chance. `origins`: how many before blocks and single segments are tested. `expires`:
    days that an approval is waited for. `shadow`, `split`: shares of segments, the same every week.
    """

    mode: Literal["automatic", "manual"] = "automatic"
    expires: Annotated[float, Field(gt=0)] = 14.0
    margin: Share = 0.01
    tolerance: Share = 0.02
    worse_than_baseline: Share = 0.5
    bias: Annotated[float, Field(gt=0)] = 0.5
    false_swaps: Share = 0.05
    origins: Annotated[int, Field(ge=4)] = 4
    shadow: Share = 0.0
    split: Share = 0.0


class Forecasts(Section):
    """What is forecast.

    `closed_after`: periods without a row after which a segment is closed; the horizon by default. `quantiles`: levels
    between 0 and 1 beside each forecast; two that sum to 1 bound an interval.
    """

    closed_after: Positive | None = None
    quantiles: Annotated[list[Level], Field(max_length=20), AfterValidator(_ascending)] = Field(default=[0.05, 0.95])


class Checks(Section):
    """Thresholds of the asset checks; shares of rows, segments or periods.

    `freshness` counts calendar periods since the last label; `label_shift` is a population stability index; `actuals`
    is the share of due forecasts that may lack a label, `live_error` how far above that at promotion the live error
    may be, as a share of it; by `coverage` the share of labels below a quantile may miss its level. `latency` (seconds,
    of 99% of the requests), `serving_errors`, `unknown_segments` (shares of requests) and `served_shift` (how far what
    is served may lie from what the champion learnt from, in standard deviations) are about the REST service.
    """

    quarantine: Share = 0.05
    freshness: Positive | None = None
    volume: Share = 0.5
    vanished: Share = 0.05
    appeared: Share = 0.5
    gaps: Share = 0.2
    nulls: Share = 0.98
    label_shift: Annotated[float, Field(gt=0)] = 0.25
    actuals: Share = 0.1
    live_error: Annotated[float, Field(gt=0)] = 0.5
    coverage: Share = 0.05
    latency: Annotated[float, Field(gt=0)] = 1.0
    serving_errors: Share = 0.01
    unknown_segments: Share = 0.05
    served_shift: Annotated[float, Field(gt=0)] = 0.5


def metrics_of(objective: str | None) -> tuple[str, ...]:
    """The metrics that mean something for an objective; the first is used where none is named."""
    return METRICS.get(objective or "", OF_NUMBERS)
