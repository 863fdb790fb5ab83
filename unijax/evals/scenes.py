"""Exact evaluation on scenes: what the model draws, says, answers and edits.

Each function samples one task on one split and returns the items, the outputs and a
score record for each; `unijax.evals.scene_scores` holds the scoring itself.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from unijax.config import Config
from unijax.data.scenes import SceneOptions, examples, read_scene
from unijax.data.sources import make_source
from unijax.evals import scene_scores
from unijax.infer import prompts
from unijax.infer.generate import Generator

SPLITS = ("iid", "combo", "count", "relation", "paraphrase")


@dataclasses.dataclass
class Outcome:
  """One task on one split: parallel lists of items, outputs and scores."""

  task: str
  split: str
  items: list
  outputs: list  # uint8 [h, w, 3] or str
  scores: list

  def table(self) -> dict[str, tuple[float, float, float]]:
    """Returns name -> (mean, low, high), 95 % bootstrap intervals."""
    return scene_scores.table(self.scores)


def scene_options(config: Config) -> SceneOptions | None:
  """Options of the config's first source of scenes, or None without one."""
  for entry in config.data.sources:
    if entry.kind == "scenes":
      return make_source(entry, config.data.image_size).options
  return None


class SceneEvaluator:
  """Runs the tasks of a scene data set on a generator.

  Args:
    options: of the training source; the splits are taken from it.
    generator: samples; its rows are the batch size, its `tasks` what it is asked.
    items: prompts a task and split.
    seed: of the noise; item i uses seed + i.
  """

  def __init__(self, options: SceneOptions, generator: Generator, items: int, seed=0):
    self.options, self.generator = options, generator
    self.items, self.seed = items, seed
    tasks = {
      "draw": self.draw, "describe": self.describe, "ask": self.ask,
      "edit": self.edit,
    }  # fmt: skip
    self.tasks: dict[str, Callable[[str], Outcome]] = {
      name: tasks[name] for name in generator.tasks
    }

  def splits(self) -> list[str]:
    """Splits that these options allow: 'count' needs room for more things."""
    o = self.options
    return [
      s
      for s in SPLITS
      if not (s == "count" and o.max_objects >= o.capacity())
      and not (s == "relation" and o.max_objects < 2)
    ]

  def draw(self, split: str) -> Outcome:
    """Captions of a split -> pictures, exact against what the caption states."""
    items = self._examples(split, "draw")
    pictures = self.pictures(
      [
        prompts.draw(x.text, self.options.chat, self.seed + i)
        for i, x in enumerate(items)
      ]
    )
    return Outcome("draw", split, items, pictures, self.score("draw", items, pictures))

  def describe(self, split: str) -> Outcome:
    """Pictures of a split -> captions, exact against the scene."""
    items = self._examples(split, "describe")
    texts = self.texts(
      [
        prompts.describe(x.pixels, self.options.chat, self.seed + i)
        for i, x in enumerate(items)
      ]
    )
    scores = self.score("describe", items, texts)
    return Outcome("describe", split, items, texts, scores)

  def ask(self, split: str) -> Outcome:
    """Pictures and questions of a split -> answers."""
    items = self._examples(split, "ask")
    texts = self.texts(
      [
        prompts.ask(x.pixels, x.question, self.options.chat, self.seed + i)
        for i, x in enumerate(items)
      ]
    )
    return Outcome("ask", split, items, texts, self.score("ask", items, texts))

  def edit(self, split: str) -> Outcome:
    """Pictures and instructions of a split -> changed pictures."""
    items = self._examples(split, "edit")
    pictures = self.pictures(
      [
        prompts.edit(x.pixels, x.text, self.options.chat, self.seed + i)
        for i, x in enumerate(items)
      ]
    )
    return Outcome("edit", split, items, pictures, self.score("edit", items, pictures))

  def score(self, task: str, items: list, outputs: list) -> list:
    """Scores outputs of a task, whoever made them."""
    if task == "draw":
      specs = [x.spec for x in items]
      return scene_scores.drawings(specs, outputs, grid=self.options.grid)
    if task == "describe":
      return scene_scores.captions(outputs, [x.scene for x in items])
    if task == "ask":
      truths, tags = [x.answer for x in items], [x.tag for x in items]
      return scene_scores.answers(outputs, truths, tags)
    return scene_scores.edits([x.task for x in items], outputs)

  def caption_cycle(self, drawn: Outcome) -> list[bool]:
    """caption -> picture -> caption: whether both captions can be of one picture."""
    texts = self.texts(
      [
        prompts.describe(p, self.options.chat, self.seed + i)
        for i, p in enumerate(drawn.outputs)
      ]
    )
    again = scene_scores.captions(texts, [x.scene for x in drawn.items])
    return [
      scene_scores.specs_agree(item.spec, score.parsed)
      for item, score in zip(drawn.items, again, strict=True)
    ]

  def image_cycle(self, described: Outcome) -> list[bool]:
    """picture -> caption -> picture: whether both show the same things."""
    pictures = self.pictures(
      [
        prompts.draw(text, self.options.chat, self.seed + i)
        for i, text in enumerate(described.outputs)
      ]
    )
    grid = self.options.grid
    return [
      scene_scores.scenes_agree(item.scene, read_scene(p, grid=grid, mode="soft"))
      for item, p in zip(described.items, pictures, strict=True)
    ]

  def pictures(self, batch) -> list[np.ndarray]:
    """The first picture that each prompt becomes."""
    return [row.images[0] for row in self.generator.generate(batch)]

  def texts(self, batch) -> list[str]:
    """The text that each prompt becomes."""
    return [row.text.strip() for row in self.generator.generate(batch)]

  def _examples(self, split: str, task: str):
    options = dataclasses.replace(self.options, split=split)
    return examples(options, task, self.items)
