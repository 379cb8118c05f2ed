"""What the typed sections of a config are made of; each key has a type, range, default, meaning.

configs/reference.yaml shows the same; a test holds the two together, descriptions included.
"""
