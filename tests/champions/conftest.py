"""The lakes that these tests share."""

from tests.lakes import own, trained
from tests.served import own_served, served, timeless

__all__ = ["own", "own_served", "served", "timeless", "trained"]
