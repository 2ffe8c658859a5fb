"""Procedural scenes of the built-in data, in published layouts."""
