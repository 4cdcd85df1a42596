"""Bessemer: an open AI factory that an organisation runs inside its own boundary."""

__version__ = "0.1.0"
