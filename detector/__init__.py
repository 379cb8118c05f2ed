"""Anchor-based object detection with configurable classification losses."""

__version__ = "0.1.0"
