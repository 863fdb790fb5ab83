"""Diffusion: noise paths, corruption and conversion, samplers, guidance."""
