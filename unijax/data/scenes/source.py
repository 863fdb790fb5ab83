"""The scene source: index -> document, with pictures drawn only when asked for."""

import functools
import hashlib
import json
import operator

from unijax.data.document import DataError, Document, Image, Text, Turn
from unijax.data.scenes import edits, language, questions, render, sample, world
from unijax.data.scenes.options import SceneOptions
from unijax.data.scenes.spec import Spec

VERSION = 1  # raise it with any change that alters documents


class SceneSource:
  """Random-access documents about scenes.

  Deterministic in (options, index), thread-safe (no state) and picklable.
  """

  def __init__(self, options: SceneOptions, name: str = "scenes"):
    self.options = options
    self.name = name
    weights = options.weights()
    total, self._thresholds = 0.0, []
    for task, weight in weights.items():
      total += weight
      if weight:
        self._thresholds.append((total, task))

  def __len__(self) -> int:
    return self.options.num_documents

  @property
  def signature(self) -> str:
    """Short hash of everything that decides the documents."""
    fields = {k: getattr(self.options, k) for k in self.options.__dataclass_fields__}
    # Weights decide, however they were written (1 or 1.0, by caption_first or not).
    del fields["caption_first"]
    fields["tasks"] = self.options.weights()
    text = json.dumps([VERSION, fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def task(self, index: int) -> str:
    """The task (and `kind`) of document `index`."""
    return self._start(index)[0]

  def scene(self, index: int) -> world.Scene:
    """The truth of document `index`: its first scene (an edit's scene before)."""
    _, _, scene = self._start(index)
    return scene

  def caption(self, index: int) -> tuple[str, Spec, world.Scene]:
    """(caption, what it asserts, scene) of `draw` or `describe` document `index`."""
    rng, scene = self._expect(index, "draw", "describe")
    return *self._caption(scene, rng), scene

  def questions(self, index: int) -> list[questions.Question]:
    """The questions and answers of `ask` document `index`."""
    rng, scene = self._expect(index, "ask")
    return self._questions(scene, rng)

  def edit(self, index: int) -> edits.EditTask:
    """The edit of `edit` document `index`."""
    rng, scene = self._expect(index, "edit")
    return edits.edit(scene, rng, self.options)

  def __getitem__(self, index: int) -> Document:
    """Document `index`; its `kind` is its task.

    Raises:
      IndexError: outside [0, len).
    """
    task, rng, scene = self._start(index)
    index = operator.index(index)
    builder = getattr(self, f"_{task}")
    return Document(tuple(builder(scene, rng)), id=index, kind=task)

  def _start(self, index: int):
    index = operator.index(index)
    if not 0 <= index < self.options.num_documents:
      raise IndexError(
        f"{self.name}: index {index} is outside [0, {self.options.num_documents})"
      )
    rng = sample.generator(self.options, index)
    at = rng.random()
    task = next((t for upto, t in self._thresholds if at < upto), None)
    task = task or self._thresholds[-1][1]  # rounding: the sum may end below 1
    scene = sample.sample_scene(self.options, rng)
    while task in ("edit", "multi") and not edits.editable(scene):
      scene = sample.sample_scene(self.options, rng)
    return task, rng, scene

  def _expect(self, index: int, *tasks: str):
    task, rng, scene = self._start(index)
    if task not in tasks:
      raise DataError(
        f"{self.name}: document {index} is of task {task!r}, not {' or '.join(tasks)}; "
        "ask `task(index)` first or give that task all the weight"
      )
    return rng, scene

  def _caption(self, scene, rng):
    phrasing = "paraphrase" if self.options.split == "paraphrase" else "train"
    focus = None
    if self.options.split == "relation":
      focus = sample.pick(rng, world.held_out_pairs(scene.things))
    return language.describe(scene, rng, phrasing, self.options.sizes, focus)

  def _questions(self, scene, rng):
    o = self.options
    return questions.questions(scene, rng, o.questions_per_image, o.split, o.sizes)

  def _image(self, scene, context: bool = False) -> Image:
    size = self.options.image_size
    load = functools.partial(render.render, scene, size)
    return Image(load, size, size, context, name=self.name)

  def _user(self, *parts):
    """A user turn (text given to the model), or the bare parts in plain documents."""
    if not self.options.chat:
      return parts
    untrained = (Text(p.text, loss=False) if isinstance(p, Text) else p for p in parts)
    return (_USER, *untrained)

  def _reply(self, *parts):
    return (_ASSISTANT, *parts) if self.options.chat else parts

  def _draw(self, scene, rng):
    text, _ = self._caption(scene, rng)
    return *self._user(Text(text)), *self._reply(self._image(scene))

  def _describe(self, scene, rng):
    text, _ = self._caption(scene, rng)
    return *self._user(self._image(scene, context=True)), *self._reply(Text(text))

  def _ask(self, scene, rng):
    picture = self._image(scene, context=True)
    asked = self._questions(scene, rng)
    if not self.options.chat:
      return picture, Text(" ".join(f"{q.text} {q.answer}" for q in asked))
    parts = []
    for i, question in enumerate(asked):
      first = (picture,) if i == 0 else ()
      parts += self._user(*first, Text(question.text))
      parts += self._reply(Text(question.answer))
    return parts

  def _edit(self, scene, rng):
    task = edits.edit(scene, rng, self.options)
    before = self._image(task.before, context=True)
    given = self._user(before, Text(task.text))
    return *given, *self._reply(self._image(task.after))

  def _multi(self, scene, rng):
    """Two or three pictures: a drawing edited step by step, or an album."""
    parts = [*self._draw(scene, rng)]
    steps = 1 if rng.random() < 0.5 else 2
    editing = rng.random() < 0.5
    for _ in range(steps):
      if editing and not edits.editable(scene):
        break
      if editing:
        task = edits.edit(scene, rng, self.options)
        text, scene = task.text, task.after
      else:
        scene = sample.sample_scene(self.options, rng)
        text = self._caption(scene, rng)[0]
      parts += self._user(Text(text)) + self._reply(self._image(scene))
    return parts


_USER, _ASSISTANT = Turn("user"), Turn("assistant")
