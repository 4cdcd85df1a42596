"""Nouns, wire types, errors, settings: what every other module speaks. Imports nothing of Bessemer above it."""
