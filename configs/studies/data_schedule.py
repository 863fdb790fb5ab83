"""Should a model first learn to read images, first to draw them, or both at once?

  unijax sweep run configs/studies/data_schedule.py:tiny --root=runs/schedule --seeds=3

A third of the steps on one kind of document and the rest on all, against all from the
start. Published systems do either: Transfusion mixes from the start, Show-o and Janus
train in stages.

Held equal: steps in total, one schedule of the learning rate over the whole run, the
mixture of whatever is on. With --flops stages keep their shares. Not equal, by design:
how many documents of each kind are seen.

An answer: "iid draw" and "iid ask" against all at once. A stage that is worth its steps
is better in what it leaves for later, too; one that only moves documents from one task
to the other is better in one score and worse in the other.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param

SCORES = common.SCORES
BASELINE = {"train.stages": ("all",)}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied, with its stages: tiny or 0.76B."""
  c = common.split(common.get_config(preset))
  third, off = c.train.steps // 3, {"weight": 0.0}
  drawn = [n for n in ("draw", "emoji") if n in c.data.sources]
  c.stages.all = {"steps": 3 * third}
  c.stages.rest = {"steps": 2 * third}
  read, draw = dict.fromkeys(drawn, off), {"read": off}
  c.stages.read = {"steps": third, "data": {"sources": read}}
  c.stages.draw = {"steps": third, "data": {"sources": draw}}
  c.train.update(steps=0, stages=BASELINE["train.stages"])
  c.optim.stage_schedule = "continue"
  return c


def sweep(preset: str = "tiny") -> list[Point]:
  """Stages in their order."""
  return param("train.stages", [("all",), ("read", "rest"), ("draw", "rest")])
