"""Depth Anything V2: the science, free of any orchestration."""
