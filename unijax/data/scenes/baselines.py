"""What three stand-ins would output on evaluation items: the ends of every scale.

oracle        the truth: every score is 1, or the scorer is wrong
prior         never looks: a random training picture or caption, the most frequent
              training answer of the tag, for edits the picture unchanged
colour_blind  sees all but colour: the truth with every colour drawn anew
"""

import collections
import dataclasses
import random

from unijax.data.document import DataError
from unijax.data.scenes import items as items_lib
from unijax.data.scenes import language, sample, world
from unijax.data.scenes.answers import answer
from unijax.data.scenes.options import SceneOptions
from unijax.data.scenes.render import render

BASELINES = ("oracle", "prior", "colour_blind")
_PRIOR_QUESTIONS = 2000


def recolour(scene: world.Scene, rng) -> world.Scene:
  """The scene with an independent uniform colour for every thing."""
  things = (t._replace(colour=sample.pick(rng, world.COLOURS)) for t in scene.things)
  return scene._replace(things=tuple(things))


def baseline(name: str, items, options: SceneOptions, seed: int = 0) -> list:
  """Outputs of a stand-in, in the form a model gives them.

  Args:
    name: one of `BASELINES`.
    items: from `items.examples`, all of one task.
    options: those of the items; `prior` knows their training split.
    seed: of all choices.

  Returns:
    one output an item: uint8 pictures for draw and edit, texts for describe and ask.
  """
  if name not in BASELINES:
    raise DataError(f"baseline must be one of {', '.join(BASELINES)}, got {name!r}")
  if not items:
    return []
  rng = random.Random(sample.mix(seed, BASELINES.index(name)))
  if name == "prior":
    return _prior(items, dataclasses.replace(options, split="train"), rng)
  change = recolour if name == "colour_blind" else lambda scene, rng: scene
  return [_from_scene(item, options, change, rng) for item in items]


def _from_scene(item, options, change, rng):
  """The right output if the truth were `change(truth)`."""
  if isinstance(item, items_lib.DrawItem):
    return render(change(item.scene, rng), options.image_size)
  if isinstance(item, items_lib.EditItem):
    return render(change(item.task.after, rng), options.image_size)
  scene = change(item.scene, rng)
  if isinstance(item, items_lib.DescribeItem):
    return language.describe(scene, rng, "train", options.sizes)[0]
  return answer(item.question, scene) or ""


def _prior(items, train: SceneOptions, rng) -> list:
  if isinstance(items[0], items_lib.EditItem):
    return [item.pixels for item in items]
  if isinstance(items[0], items_lib.AskItem):
    counts = collections.defaultdict(collections.Counter)
    for item in items_lib.examples(train, "ask", _PRIOR_QUESTIONS):
      counts[item.tag][item.answer] += 1
    best = {tag: counter.most_common(1)[0][0] for tag, counter in counts.items()}
    return [best.get(item.tag, "") for item in items]
  scenes = (sample.sample_scene(train, rng) for _ in items)
  if isinstance(items[0], items_lib.DrawItem):
    return [render(scene, train.image_size) for scene in scenes]
  return [language.describe(scene, rng, "train", train.sizes)[0] for scene in scenes]
