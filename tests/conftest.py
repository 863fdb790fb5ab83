"""One place for compiled programs, so that a second run of the tests compiles little."""

import pathlib

import jax

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "jax_cache"  # ignored by git, removed by `make clean`

jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
