"""Weights of other libraries: read, matched, and written back."""
