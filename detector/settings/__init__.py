"""The typed sections of a config: every key, its type, its range, its default, what it means.

configs/reference.yaml shows the same; a test holds the two together, descriptions included.
"""
