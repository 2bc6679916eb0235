"""The lakes that these tests share."""

from tests.served import own_served, served, timeless

__all__ = ["own_served", "served", "timeless"]
