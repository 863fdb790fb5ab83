"""What a scene data set contains: one frozen, validated record."""

import dataclasses
from collections.abc import Mapping

from unijax.data import document
from unijax.data.scenes import world

TASKS = ("draw", "describe", "ask", "edit", "multi")
SPLITS = ("train", "iid", "combo", "count", "relation", "paraphrase")


@dataclasses.dataclass(frozen=True)
class SceneOptions:
  """Everything that decides the content of a `SceneSource`.

  Splits: `train`; `iid`, the same law from other seeds; `combo`, each scene has a
  colour-shape pair that training never shows; `count`, one or two things more than
  `max_objects`; `relation`, each scene has a pair of shapes in a direction that
  training never shows or states; `paraphrase`, wordings that training never uses.

  Attributes:
    image_size: pixels a side.
    min_objects, max_objects: things a scene, uniform, inclusive.
    grid: n puts one thing in a cell of an n x n grid with a little jitter and scales
      things with the cell; 0 puts them anywhere.
    seed: of the data set; splits of one seed never share a scene.
    num_documents: length of the source.
    split: one of `SPLITS`.
    tasks: task -> weight, over `TASKS`.
    caption_first: share of `draw` among `draw` and `describe`, which keep their total
      weight; None leaves the weights of `tasks` as they are.
    questions_per_image: question-answer pairs of an `ask` document; fewer where a
      scene allows fewer.
    sizes: whether texts state sizes, and edits and questions may be about them.
    chat: turns of user and assistant; False gives plain interleaved documents in
      which all text is trained.
  """

  image_size: int = 64
  min_objects: int = 1
  max_objects: int = 3
  grid: int = 0
  seed: int = 0
  num_documents: int = 20_000
  split: str = "train"
  tasks: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: {"draw": 1.0, "describe": 1.0, "ask": 1.0}
  )
  caption_first: float | None = None
  questions_per_image: int = 2
  sizes: bool = False
  chat: bool = True

  def __post_init__(self):
    object.__setattr__(self, "tasks", dict(self.tasks))
    problems = list(self._problems())
    if problems:
      raise document.DataError("scene options: " + "; ".join(problems))

  def object_range(self) -> tuple[int, int]:
    """(fewest, most) things of a scene in this split."""
    if self.split == "count":
      return self.max_objects + 1, min(self.max_objects + 2, self.capacity())
    if self.split == "relation":
      return max(2, self.min_objects), self.max_objects
    return self.min_objects, self.max_objects

  def capacity(self) -> int:
    """Most things that a picture of this placement can hold."""
    return min(world.MAX_THINGS, self.grid**2 if self.grid else world.MAX_THINGS)

  def weights(self) -> dict[str, float]:
    """Task -> probability, with `caption_first` applied."""
    weights = {task: float(self.tasks.get(task, 0.0)) for task in TASKS}
    if self.caption_first is not None:
      pairs = weights["draw"] + weights["describe"]
      weights["draw"] = pairs * self.caption_first
      weights["describe"] = pairs * (1.0 - self.caption_first)
    total = sum(weights.values())
    return {task: weight / total for task, weight in weights.items()}

  def _problems(self):
    smallest = world.radius("small", self.grid if self.grid >= 0 else 0)
    if self.grid not in (0, 2, 3, 4):
      yield f"grid must be 0 (anywhere), 2, 3 or 4, got {self.grid}"
    elif self.image_size * smallest < 2.75:
      yield (
        f"small things would have a radius of {self.image_size * smallest:.1f} pixels "
        "and be illegible; use a larger image_size or a coarser grid"
      )
    if not 1 <= self.min_objects <= self.max_objects:
      yield (
        "need 1 <= min_objects <= max_objects, "
        f"got {self.min_objects} and {self.max_objects}"
      )
    elif self.max_objects > self.capacity():
      yield f"max_objects {self.max_objects} exceeds this placement's {self.capacity()}"
    if self.num_documents < 1:
      yield f"num_documents must be positive, got {self.num_documents}"
    if self.split not in SPLITS:
      yield f"split must be one of {', '.join(SPLITS)}, got {self.split!r}"
    if self.split == "count" and self.max_objects >= self.capacity():
      yield (
        f"split 'count' needs max_objects below {self.capacity()}, "
        f"got {self.max_objects}"
      )
    if self.split == "relation" and self.max_objects < 2:
      yield f"split 'relation' needs max_objects of 2 or more, got {self.max_objects}"
    if self.questions_per_image < 1:
      yield f"questions_per_image must be positive, got {self.questions_per_image}"
    yield from self._task_problems()

  def _task_problems(self):
    unknown = sorted(set(self.tasks) - set(TASKS))
    if unknown:
      yield f"unknown tasks {', '.join(unknown)}; known: {', '.join(TASKS)}"
    if any(weight < 0 for weight in self.tasks.values()):
      yield f"task weights must not be negative, got {self.tasks}"
    if not sum(self.tasks.get(task, 0.0) for task in TASKS) > 0:
      yield "tasks must give some task a positive weight"
    if self.caption_first is not None:
      if not 0.0 <= self.caption_first <= 1.0:
        yield f"caption_first must be in [0, 1], got {self.caption_first}"
      if not self.tasks.get("draw", 0.0) + self.tasks.get("describe", 0.0) > 0:
        yield "caption_first needs a positive weight of draw or describe"
