"""Janus-Pro (Chen et al. 2025): Janus with more data, other stages and a larger size.

  --config=configs/janus_pro.py:tiny   trains on a laptop, embedded data
  --config=configs/janus_pro.py:7B     the paper's sizes: 1B, 7B

Axes and differences: those of configs/janus.py; the first stage is longer, the second
leaves out what taught pixels by class names, and the last has another mixture. One
batch size in all stages (the paper: 256, 512, 128).

`tiny` is that of configs/janus.py.
"""

from ml_collections import ConfigDict

from configs import janus

PUBLISHED = {"7B": 7_407_773_323}  # with the codec

STAGES = {  # steps, learning rate, shares of read, draw, text, what rests
  "adaptors": (20_000, 1e-3, (1.0, 3.0, 0.0), janus.ADAPTORS),
  "pretraining": (360_000, 1e-4, (2.0, 5.0, 3.0), ("vision/*",)),
  "tuning": (80_000, 4e-5, (5.0, 4.0, 1.0), ()),
}
SIZES = {
  "1B": (24, 2048, 16, 5632, STAGES),
  "7B": (30, 4096, 32, 11008, STAGES),
}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 1B or 7B."""
  return janus.get_config(preset, SIZES)
