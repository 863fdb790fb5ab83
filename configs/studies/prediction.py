"""What should be predicted of a noised image, and along which path?

  unijax sweep run configs/studies/prediction.py:tiny --root=runs/predict --seeds=3

Clean data, noise, v or velocity, on the cosine, the linear and the straight path. Few,
large patches of pixels have more numbers than noise can be told from in a narrow
decoder, which speaks for clean data here; nothing of that follows for latents.

Held equal: data, order, noise, timesteps (none at the very end, where a path of pure
noise determines no data from noise), sampler and its steps, FLOPs. The error is
measured in the space of its own target, so losses of images must not be compared:
scores are.

An answer: the difference of "iid draw" from velocity on the straight path. Effects of
target and path that add up would make one table of two; if they do not, quote pairs.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param, product

SCORES = ("iid draw", "combo draw", "iid edit")
BASELINE = {"diffusion.predict": "velocity", "diffusion.path": "rectified_flow"}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  c = common.get_config(preset)
  c.diffusion.update(time_max=0.999, loss_target="same")
  return c


def sweep(preset: str = "tiny") -> list[Point]:
  """Targets x paths."""
  return product(
    param("diffusion.predict", ["x0", "epsilon", "v", "velocity"]),
    param("diffusion.path", ["cosine", "linear", "rectified_flow"]),
  )
