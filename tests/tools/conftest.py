"""Finished campaigns."""

from tests.synthetic import make_campaign, shared_nodes, synthetic

__all__ = ["make_campaign", "shared_nodes", "synthetic"]
