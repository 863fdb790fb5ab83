"""Sampling: prefill, decode text, draw images against the cache, commit, go on."""
