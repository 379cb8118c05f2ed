"""A trained detector as a program that runs without this package."""
