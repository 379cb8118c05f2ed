"""YAML to one checked Config."""

from detector.config.load import flat, load, load_as, parse
from detector.config.schema import ALTERNATIVES, Config

__all__ = ["ALTERNATIVES", "Config", "flat", "load", "load_as", "parse"]
