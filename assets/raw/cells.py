"""Cells as Spark SQL reads them: which types are numbers, and what text says."""

from __future__ import annotations

from resources.spark import quoted

NUMERIC = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
# a pattern instead of try_cast, which pays an exception for each cell that does not parse; `$` lets a line end pass
NUMBER = r"^([+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity)|nan)\z"
TRUTHS, FALSES = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")


def is_number(type_: str) -> bool:
    """Whether a column of a Spark type, such as `decimal(10,2)`, holds numbers."""
    return type_.split("(", maxsplit=1)[0] in NUMERIC


def is_float(type_: str) -> bool:
    """Whether a column of a Spark type can hold NaN."""
    return type_ in ("float", "double")


def filled(column: str) -> str:
    """Spark SQL for a text cell without the blanks around it; null where nothing else is in it."""
    return f"nullif(trim({quoted(column)}), '')"


def says_number(text: str) -> str:
    """Spark SQL for whether a text is a number."""
    pattern = NUMBER.replace("\\", "\\\\")
    return f"lower({text}) rlike '{pattern}'"


def number_in(text: str) -> str:
    """Spark SQL for the number that a text is, as a double; null where it is none."""
    return f"if({says_number(text)}, cast({text} as double), null)"


def boolean_in(text: str) -> str:
    """Spark SQL for the truth that a text says, 1 or 0; null where it says none."""
    return f"case when lower({text}) in {TRUTHS} then 1d when lower({text}) in {FALSES} then 0d end"
