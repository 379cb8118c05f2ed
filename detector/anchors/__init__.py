"""Anchors: where they lie, which boxes they match, and what their outputs mean."""
