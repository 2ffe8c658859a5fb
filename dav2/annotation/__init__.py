"""Point pairs that people answer: which of two points is closer (DA-2K)."""
