"""The lake that these tests share."""

from tests.lakes import own, trained

__all__ = ["own", "trained"]
