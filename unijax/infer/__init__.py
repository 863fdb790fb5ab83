"""Sampling: prefill, decode text, denoise images against the cache, commit, go on."""
