"""What people look at: tables and plots as Dagster metadata, and mistakes explained."""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dagster import (
    AssetExecutionContext,
    AssetKey,
    Failure,
    MetadataValue,
    TableColumn,
    TableRecord,
    TableSchema,
)

from resources.problems import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

DATA_VERSION_TAG = "dagster/data_version"
INPUT_PROBLEMS = "input_problems"
_drawn: WeakKeyDictionary[Figure, str] = WeakKeyDictionary()
BLUE, ORANGE, GREEN, GREY, RED = "#3b6fb6", "#d9822b", "#4f9a6d", "#9aa5b1", "#c0392b"
VIOLET, BROWN = "#7d5ba6", "#8c6d46"
ERROR_SPAN = (0.01, 10.0)


def table(frame: pd.DataFrame) -> MetadataValue:
    """A pandas frame as a metadata table; floats are rounded to four significant digits."""
    columns = [TableColumn(str(name), _column_type(frame[name].dtype.kind)) for name in frame.columns]
    records = [TableRecord({str(k): _cell(v) for k, v in row.items()}) for row in frame.to_dict("records")]
    return MetadataValue.table(records=records, schema=TableSchema(columns=columns))


def column_schema(schema: pa.Schema) -> MetadataValue:
    """An Arrow schema as Dagster's column schema."""
    return MetadataValue.table_schema(TableSchema([TableColumn(field.name, str(field.type)) for field in schema]))


def plot(figure: Figure) -> MetadataValue:
    """A matplotlib figure as an image in Markdown."""
    return MetadataValue.md(f"![plot](data:image/png;base64,{png(figure)})")


def png(figure: Figure) -> str:
    """A matplotlib figure as base64 of a PNG; drawn once, however often it is shown."""
    if figure not in _drawn:
        _drawn[figure] = _png(figure)
    return _drawn[figure]


def _png(figure: Figure) -> str:
    buffer = BytesIO()
    with warnings.catch_warnings():
        # a segment's name may need a font that the machine lacks: its plot is still worth having
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def new_figure(title: str, width: float = 9, height: float = 3.6) -> tuple[Figure, Any]:
    """An empty figure and its axes; drawn without a display and without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return figure, axes


def errors_against(
    title: str, errors: pd.DataFrame, names: tuple[str, str], by: str, colours: Mapping[str, str]
) -> Figure:
    """Each segment's second error against its first, as shares, on logarithmic axes; below the line it is better.

    What lies beyond `ERROR_SPAN` is drawn at its edge: a few segments of next to no label would hide all others.
    """
    figure, axes = new_figure(title, 6.2, 5.2)
    shown = errors.dropna(subset=list(names))
    for group, colour in colours.items():
        part = shown[shown[by] == group]
        if len(part):
            x, y = (part[name].astype(float).clip(*ERROR_SPAN) for name in names)
            axes.scatter(x, y, s=10, alpha=0.55, color=colour, label=group)
    axes.plot(ERROR_SPAN, ERROR_SPAN, color="black", lw=0.8)
    axes.set(xscale="log", yscale="log", xlabel=names[0], ylabel=names[1])
    if len(shown):
        axes.legend(frameon=False)
    return figure


def previous_metadata(
    context: AssetExecutionContext, key: AssetKey, version: str
) -> Mapping[str, MetadataValue] | None:
    """Metadata of the last materialization if it had this data version: nothing changed, nothing is redrawn."""
    event = context.instance.get_latest_materialization_event(key)
    last = event.asset_materialization if event else None
    if last is None or (last.tags or {}).get(DATA_VERSION_TAG) != version:
        return None
    return last.metadata


@contextmanager
def mistakes_explained() -> Iterator[None]:
    """Turns an `InputError` into a Dagster failure that lists every problem and is not retried."""
    try:
        yield
    except InputError as error:
        lines = [str(problem) for problem in error.problems]
        raise Failure(
            description="\n".join(lines),
            metadata={INPUT_PROBLEMS: MetadataValue.json(lines)},
            allow_retries=False,
        ) from None


def _column_type(kind: str) -> str:
    return {"i": "int", "u": "int", "f": "float", "b": "bool", "M": "timestamp"}.get(kind, "string")


def _cell(value: Any) -> str | int | float | bool | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | int | str):
        return value
    if hasattr(value, "item"):
        value = value.item()
    return float(f"{value:.4g}") if isinstance(value, float) else value if isinstance(value, bool | int) else str(value)
