"""What every section of `fleet.yaml` is: typed, strict, and closed to keys that it does not know."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


# what may be written, which a validator alone would not tell the JSON schema
Names = Annotated[list[str], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of `fleet.yaml`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
