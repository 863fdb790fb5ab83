"""Zero-shot scores of aligned encoders: retrieval, and classification by captions.

Retrieval is on held-out pairs whose captions all differ. Classification takes pictures
of one thing each and asks which of all names fits best; a name is the mean of the
vectors of a few captions about it. Encoders of pictures alone are asked whether the
nearest of the other pictures is of the same kind. Encoders that give every picture the
same vector score 0, not chance: ties are lost.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from unijax.config import Config
from unijax.data.pair_loader import Captions, pair, pair_sources
from unijax.data.scenes import language, world
from unijax.data.sources import make_source
from unijax.evals.scene_scores import bootstrap
from unijax.train import contrastive

Interval = tuple[float, float, float]  # mean, low, high
PLACES = ("", *(f" at the {place}" for place in world.PLACES))
TRIED = 20  # documents read for each pair that is wanted: captions may be rare


@dataclasses.dataclass(frozen=True)
class Score:
  """A share of right answers.

  Attributes:
    value: with its 95 % bootstrap interval.
    chance: of guessing.
    count: questions.
  """

  value: Interval
  chance: float
  count: int


class Retrieval:
  """The encoders of a run, and the questions they are asked.

  Args:
    config: of the run.
    objective: of its task; must have `images`, and `texts` if words were compared.
  """

  def __init__(self, config: Config, objective):
    self.config, self.captions = config, Captions(config)
    self._images = jax.jit(objective.images)
    self._texts = jax.jit(objective.texts) if hasattr(objective, "texts") else None
    self._pairs = functools.cache(self._read)
    self._named = functools.cache(self._classes)

  def scores(self, params, items: int | None = None) -> dict[str, Score]:
    """Returns name -> score; `items` questions of a kind, None is eval.prompts."""
    items = items or self.config.eval.prompts
    if self._texts is None:
      return {
        f"{name}_by_neighbour": self._neighbours(params, pixels, label)
        for name, (pixels, label, _) in self._named(items).items()
        if len(set(label)) < len(label)  # else nothing has a neighbour of its kind
      }
    scores = {}
    for source, (pixels, texts) in self._pairs(items).items():
      if len(texts) > 1:
        matrix = self._similarity(params, pixels, texts)
        scores |= {f"{source}/{k}": v for k, v in recalls(matrix).items()}
    for name, (pixels, label, captions) in self._named(items).items():
      matrix = self._similarity(params, pixels, captions)
      scores[name] = classified(matrix, label)
    return scores

  def _neighbours(self, params, pixels, label) -> Score:
    """Of pictures by the nearest other one; chance is that of a random other one."""
    vectors = self._batches(functools.partial(self._images, params), pixels)[:, 0]
    return neighbours(vectors @ vectors.T, label)

  def _similarity(self, params, pixels, texts) -> np.ndarray:
    """Pictures by texts; of several captions a text, the mean vector counts."""
    flat = [t if isinstance(t, tuple) else (t,) for t in texts]
    tokens, end = self.captions.rows([c for group in flat for c in group])
    vectors = self._batches(functools.partial(self._texts, params), tokens, end)
    ends = np.cumsum([len(group) for group in flat])[:-1]
    means = np.stack([v.mean(axis=0) for v in np.split(vectors, ends)])
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    images = self._batches(functools.partial(self._images, params), pixels)
    return np.asarray(contrastive.similarity(images, means))

  def _batches(self, function: Callable, *arrays) -> np.ndarray:
    """Runs a compiled function over rows, always of the same number."""
    rows, count = self.config.eval.batch_size, len(arrays[0])
    made = []
    for first in range(0, count, rows):
      part = [x[first : first + rows] for x in arrays]
      short = rows - len(part[0])
      filled = [np.concatenate([x, np.repeat(x[-1:], short, axis=0)]) for x in part]
      made.append(np.asarray(function(*filled))[: rows - short])
    return np.concatenate(made)

  def _read(self, items: int):
    """Source -> held-out (pictures, captions), no caption twice."""
    result = {}
    for source, weight in pair_sources(self.config, held_out=True):
      found: dict = {}
      for i in range(min(len(source), TRIED * items) if weight > 0 else 0):
        caption, image = pair(source[i])
        found.setdefault(caption, image)
        if len(found) == items:
          break
      if found:
        pixels = np.stack([image.pixels() for image in found.values()])
        result[source.name] = (pixels, list(found))
    return result

  def _classes(self, items: int):
    """Name -> (pictures, number of the right name, captions of each name)."""
    made = {}
    for entry in self.config.data.sources:
      if entry.weight > 0 and entry.kind in CLASSES:
        for name, data in CLASSES[entry.kind](self.config, entry, items).items():
          made[f"{entry.name}/{name}"] = data
    return made


def scene_classes(config: Config, entry, items: int) -> dict:
  """Scenes of one thing: which of all colours and shapes?"""
  only = {"tasks": {"draw": 1.0}, "caption_first": None, "max_objects": 1}
  size = config.data.image_size
  source = make_source(entry, size, held_out=True, min_objects=1, **only)
  kinds = [(shape, colour) for shape in world.SHAPES for colour in world.COLOURS]
  names = [
    tuple(language.with_article(f"{colour} {shape}") + place for place in PLACES)
    for shape, colour in kinds
  ]
  numbers = range(min(items, len(source)))
  label = [kinds.index(source.scene(i).things[0].kind) for i in numbers]
  pixels = np.stack([pair(source[i])[1].pixels() for i in numbers])
  return {"kind": (pixels, np.asarray(label), names)}


def emoji_classes(config: Config, entry, items: int) -> dict:
  """Drawings that were trained on, moved: which of all their names?"""
  size = config.data.image_size
  source = make_source(entry, size, tasks={"draw": 1.0}, caption_first=None)
  names: dict[str, int] = {}
  label = [names.setdefault(caption, len(names)) for _, caption in source.glyphs]
  step = max(1, source.count // items)
  numbers = range(0, source.count, step)
  # Documents of a later round: the same drawing elsewhere.
  pixels = [source.pair(i, 10**6 + i)[1].pixels() for i in numbers]
  label = np.asarray([label[i] for i in numbers])
  return {"name_of_trained": (np.stack(pixels), label, [(name,) for name in names])}


CLASSES = {"scenes": scene_classes, "emoji": emoji_classes}


def recalls(similarity_NN: np.ndarray) -> dict[str, Score]:
  """Is the right one among the best 1 and 5? Row i and column i belong together."""
  scores, count = {}, len(similarity_NN)
  both = {"image_to_text": similarity_NN, "text_to_image": similarity_NN.T}
  for name, matrix in both.items():
    # All that are as good as the right one stand before it, itself left out.
    rank = (matrix >= np.diag(matrix)[:, None]).sum(axis=1) - 1
    for best in (1, 5):
      found = (rank < best).astype(float)
      chance = min(1.0, best / count)
      scores[f"{name}@{best}"] = Score(bootstrap(found), chance, count)
  return scores


def neighbours(similarity_NN: np.ndarray, label_N: np.ndarray) -> Score:
  """Is the most similar of the others of the same class?"""
  same = label_N[:, None] == label_N
  others = ~np.eye(len(label_N), dtype=bool)
  own = np.where(same & others, similarity_NN, -np.inf).max(axis=1)
  wrong = np.where(~same, similarity_NN, -np.inf).max(axis=1)
  chance = float((same & others).sum() / max(1, others.sum()))
  return Score(bootstrap((own > wrong).astype(float)), chance, len(label_N))


def classified(similarity_NC: np.ndarray, label_N: np.ndarray) -> Score:
  """Is the right class the best one?"""
  own = np.take_along_axis(similarity_NC, label_N[:, None], axis=1)
  right = (similarity_NC >= own).sum(axis=1) == 1
  chance = 1 / similarity_NC.shape[1]
  return Score(bootstrap(right.astype(float)), chance, len(label_N))
