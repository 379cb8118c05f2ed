"""Ablations: which runs, what they differ by, and what their figures say."""
