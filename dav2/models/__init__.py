"""Encoders, the DPT head and their checkpoints."""
