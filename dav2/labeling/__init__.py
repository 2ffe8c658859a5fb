"""Batched inference that turns photographs into labels."""
