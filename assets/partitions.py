"""Segments <-> Dagster partition keys.

A key is the segment's values as text, joined by `|`. Characters that Dagster refuses in partition keys, and
those that the key itself uses, are percent-encoded, so that any value comes back letter by letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote
from zlib import crc32

if TYPE_CHECKING:
    from dagster import DagsterInstance, DynamicPartitionsDefinition

SEPARATOR = "|"
EMPTY = "%-"
# `%` first: the others write it. Dagster's list: dagster/_core/definitions/partitions/utils/base.py
ESCAPES = (
    ("%", "%25"), ("|", "%7C"), ("...", "%2E%2E%2E"), ("\n", "%0A"), ("\r", "%0D"), ("\t", "%09"),
    ("\a", "%07"), ("\b", "%08"), ("\f", "%0C"), ("\v", "%0B"), ("\0", "%00"),
)  # fmt: skip
MOST_KEYS_AT_ONCE = 5_000
NUL = "cast(unhex('00') as string)"


def partition_key(values: Iterable[str]) -> str:
    """The key of a segment's values, given as text in the order of `segment` in fleet.yaml."""
    return SEPARATOR.join(_escaped(value) for value in values)


def segment_values(key: str) -> list[str]:
    """The segment's values as text: the inverse of `partition_key`."""
    return ["" if part == EMPTY else unquote(part) for part in key.split(SEPARATOR)]


def bucket_of(key: str, buckets: int) -> int:
    """The bucket a segment's rows and models lie in; the same in Spark and in Python."""
    return crc32(key.encode()) % buckets


def key_expression(columns: Sequence[str]) -> str:
    """Spark SQL that gives `partition_key` of a row's segment columns."""
    return "concat_ws('|', " + ", ".join(_escape_expression(column) for column in columns) + ")"


def bucket_expression(key: str, buckets: int) -> str:
    """Spark SQL that gives `bucket_of` a key column, as an integer."""
    from resources.spark import quoted

    return f"cast(crc32(cast({quoted(key)} as binary)) % {buckets} as int)"


def add_partitions(instance: DagsterInstance, name: str, keys: Iterable[str]) -> int:
    """Adds the keys that a dynamic partition set lacks and gives how many they were.

    In portions, because one statement with tens of thousands breaks SQLite (dagster issue 16260).
    """
    known = set(instance.get_dynamic_partitions(name))
    new = sorted(set(keys) - known)
    for start in range(0, len(new), MOST_KEYS_AT_ONCE):
        instance.add_dynamic_partitions(name, new[start : start + MOST_KEYS_AT_ONCE])
    return len(new)


def segments_partitions(name: str) -> DynamicPartitionsDefinition:
    """The dynamic partition set of a fleet's segments."""
    from dagster import DynamicPartitionsDefinition

    return DynamicPartitionsDefinition(name=name)


def _escaped(value: str) -> str:
    for plain, escaped in ESCAPES:
        value = value.replace(plain, escaped)
    return value or EMPTY


def _escape_expression(column: str) -> str:
    from resources.spark import quoted

    plain_text = f"cast({quoted(column)} as string)"
    text = plain_text
    for plain, escaped in ESCAPES:
        literal = "concat(" + ", ".join(f"char({ord(letter)})" for letter in plain) + ")"
        text = f"replace({text}, {literal if plain != chr(0) else NUL}, '{escaped}')"
    special = r"[%|\\x00-\\x1f]|[.][.][.]"
    return (
        f"case when {plain_text} = '' then '{EMPTY}' "
        f"when {plain_text} rlike '{special}' then {text} else {plain_text} end"
    )
