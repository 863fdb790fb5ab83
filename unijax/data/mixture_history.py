"""Mixture weights that follow the losses, recorded so that batches stay a function.

Every `data.mixture_every` steps the held-out loss of each source moves the weights, and
the new weights hold from a row that no thread can have read yet. They are written down
beside the checkpoints: batch t is a function of t and of this record, a resumed run
reads the weights that the first run chose, and the record can be looked at and cited.

The rule is that of multiplicative weights on excess losses:

  w_i <- w_i exp(rate max(loss_i / reference_i - 1, 0)), normalised,
  w_i <- (1 - floor) w_i + floor / sources

The exponential update on losses clipped below a reference is that of Sheared LLaMA (Xia
et al. 2023, arXiv:2310.06694, algorithm 1), the mixing with the uniform distribution
that of DoReMi (Xie et al. 2023, arXiv:2305.10429, algorithm 1). Both work on text and
take differences of losses; here the excess is a ratio, since the losses of text and of
pictures have no common scale.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence

from unijax.data import hashing
from unijax.data.document import DataError
from unijax.disk import write_whole

NAME = "mixture.json"


@dataclasses.dataclass(frozen=True)
class Segment:
  """Weights that hold from a row on, and the losses that chose them at a step."""

  step: int
  first_row: int
  weights: tuple[float, ...]
  losses: tuple[float, ...]


def reweigh(
  weights: Sequence[float],
  losses: Sequence[float],
  references: Sequence[float],
  rate: float,
  floor: float,
) -> tuple[float, ...]:
  """Returns new weights that sum to 1, by the rule above; references are > 0."""
  excess = [max(x / r - 1.0, 0.0) for x, r in zip(losses, references, strict=True)]
  largest = max(excess)  # taken off: only differences count, and exp stays finite
  raised = [
    w * math.exp(rate * (x - largest)) for w, x in zip(weights, excess, strict=True)
  ]
  total, uniform = sum(raised), 1.0 / len(raised)
  return tuple((1.0 - floor) * r / total + floor * uniform for r in raised)


class History:
  """The weights of a run over its rows.

  Args:
    first: weights of the sources at row 0.
    plan: hash of the plan that the record belongs to.
    folder: of the record; None keeps it in memory alone.

  Raises:
    DataError: the record is damaged or of another plan; it cannot be made again.
  """

  def __init__(
    self, first: Sequence[float], plan: str, folder: str | os.PathLike | None
  ):
    self.first = tuple(w / sum(first) for w in first)
    self.plan = plan
    self.path = None if folder is None else pathlib.Path(folder) / NAME
    self.segments: list[Segment] = []
    if self.path is not None and self.path.exists():
      self.segments = self._read()

  def weights(self, row: int) -> tuple[float, ...]:
    """Returns the weights in force at a row."""
    chosen = [s.weights for s in self.segments if s.first_row <= row]
    return chosen[-1] if chosen else self.first

  def at(self, step: int) -> Segment | None:
    """Returns what the losses at this step have chosen already, if they have."""
    return next((s for s in self.segments if s.step == step), None)

  @property
  def last(self) -> int:
    """The last step whose losses have chosen weights, 0 before the first."""
    return self.segments[-1].step if self.segments else 0

  def add(self, segment: Segment) -> None:
    """Records weights, later than all before."""
    self.segments.append(segment)
    if self.path is not None:
      body = {"plan": self.plan, "segments": [*map(dataclasses.asdict, self.segments)]}
      text = json.dumps({**body, "digest": hashing.stable_hash(body, 32)}, indent=1)
      write_whole(self.path, text, shared=True)

  def _read(self) -> list[Segment]:
    try:
      body = json.loads(self.path.read_text())
      digest = body.pop("digest")
      if digest != hashing.stable_hash(body, 32):
        raise ValueError("its digest does not match")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
      raise DataError(
        f"{self.path}: the record of mixture weights is damaged ({error}); bring back "
        "a copy, or start a new run: without it the batches cannot be repeated"
      ) from error
    if body["plan"] != self.plan:
      raise DataError(
        f"{self.path}: recorded for another plan ({body['plan']}, this one is "
        f"{self.plan}); use the config and data of that run, or another directory"
      )
    return [
      Segment(s["step"], s["first_row"], tuple(s["weights"]), tuple(s["losses"]))
      for s in body["segments"]
    ]
