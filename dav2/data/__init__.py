"""Samples, manifests, readers and shards."""
