"""Outputs and targets to scalars."""
