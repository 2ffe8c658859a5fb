"""Alignment and the measures of evaluation."""
