"""Evaluation items: what a model is given, and the truth its output is scored by."""

import dataclasses
import itertools

import numpy as np

from unijax.data.document import DataError
from unijax.data.scenes import edits, world
from unijax.data.scenes.options import SceneOptions
from unijax.data.scenes.render import render
from unijax.data.scenes.source import SceneSource
from unijax.data.scenes.spec import Spec


@dataclasses.dataclass(frozen=True)
class DrawItem:
  """Give `text`, take a picture; score it by `spec`. `scene` is one right answer."""

  index: int
  text: str
  spec: Spec
  scene: world.Scene


@dataclasses.dataclass(frozen=True, eq=False)
class DescribeItem:
  """Give `pixels` (uint8 [size, size, 3]), take a caption; score it by `scene`."""

  index: int
  pixels: np.ndarray
  scene: world.Scene


@dataclasses.dataclass(frozen=True, eq=False)
class AskItem:
  """Give `pixels` and `question`, take an answer; `tag` groups questions."""

  index: int
  pixels: np.ndarray
  question: str
  answer: str
  tag: str
  scene: world.Scene


@dataclasses.dataclass(frozen=True, eq=False)
class EditItem:
  """Give `pixels` and `text`, take a picture; score it by `task`."""

  index: int
  pixels: np.ndarray
  text: str
  task: edits.EditTask


Item = DrawItem | DescribeItem | AskItem | EditItem
ITEM_TASKS = ("draw", "describe", "ask", "edit")


def examples(options: SceneOptions, task: str, n: int) -> list[Item]:
  """The first `n` evaluation items of a task in the split of `options`.

  Of `options` all but `tasks`, `caption_first`, `num_documents` and `chat` counts.
  Items of `ask` are single questions, `questions_per_image` from each picture.

  Raises:
    DataError: for a task without items of its own (`multi`) or an unknown one.
  """
  if task not in ITEM_TASKS:
    raise DataError(f"no items for task {task!r}; use one of {', '.join(ITEM_TASKS)}")
  source = SceneSource(
    dataclasses.replace(
      options, tasks={task: 1.0}, caption_first=None, num_documents=max(n, 1)
    )
  )
  make = {"draw": _draw, "describe": _describe, "ask": _ask, "edit": _edit}[task]
  made = itertools.chain.from_iterable(
    make(source, index, options.image_size) for index in range(n)
  )
  return list(itertools.islice(made, n))


def _draw(source, index, image_size):
  text, spec, scene = source.caption(index)
  return [DrawItem(index, text, spec, scene)]


def _describe(source, index, image_size):
  scene = source.scene(index)
  return [DescribeItem(index, render(scene, image_size), scene)]


def _ask(source, index, image_size):
  scene = source.scene(index)
  pixels = render(scene, image_size)
  return [
    AskItem(index, pixels, q.text, q.answer, q.tag, scene)
    for q in source.questions(index)
  ]


def _edit(source, index, image_size):
  task = source.edit(index)
  return [EditItem(index, render(task.before, image_size), task.text, task)]
