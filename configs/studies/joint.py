"""Does one model that reads and draws lose against one that does only one of them?

  unijax sweep run configs/studies/joint.py:tiny --root=runs/joint --flops=3e13

Documents in which images are read, documents in which they are drawn, or half of each,
at the same compute. A joint model then sees half as much of each: a tie in a score
means that the other half was worth as much as more of the same.

Held equal: training FLOPs and steps, model, pictures, text documents. Not equal, by
design: documents of each kind.

An answer: "iid ask" of reading alone and "iid draw" of drawing alone against both. A
single task that is better by less than its doubled data would give (run it with half
the FLOPs to see how much) says that the tasks help each other; scores of what a model
was never taught are chance, and only show that.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param, zipped

READ, DRAW = "data.sources.read.weight", "data.sources.draw.weight"
SCORES = common.SCORES
BASELINE = {READ: 0.5, DRAW: 0.5}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  c = common.split(common.get_config(preset))
  if "emoji" in c.data.sources:  # which is drawing, too
    del c.data.sources.emoji
  return c


def sweep(preset: str = "tiny") -> list[Point]:
  """Weights of reading and of drawing."""
  return zipped(param(READ, [0.5, 1.0, 0.0]), param(DRAW, [0.5, 0.0, 1.0]))
