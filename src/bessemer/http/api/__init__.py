"""Handlers, one file per noun. Thin: decode, call the module that knows, encode."""
