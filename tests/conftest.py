"""One place for compiled programs, so that a second run of the tests compiles little."""

import os
import pathlib

# Elsewhere too, so that an installed libtpu (extra `aot`) does not look for a TPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "jax_cache"  # ignored by git, removed by `make clean`

jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
