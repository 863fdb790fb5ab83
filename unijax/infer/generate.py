"""Interleaved generation: a batch of prompts in, text and pictures out.

Rows move between two phases in lock step. All rows that write text do so until each
has begun an image or ended; then all rows that began an image draw it together, in the
way of the config (`unijax.write`), commit the clean result, and write on. With guidance
every row has a shadow that has seen the images but none of the text, and perhaps one
that has seen the text but none of the pictures shown to it.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from unijax.config import Config
from unijax.data.document import DataError, Image, Text, Turn
from unijax.data.rows import RowBuilder
from unijax.infer import functions
from unijax.infer.batch import RowBatch
from unijax.infer.functions import SampleFunctions
from unijax.infer.narrow import Weights


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What to continue, and how.

  Attributes:
    parts: what stands before; ends where the model goes on.
    begin: 'auto' lets the model choose, 'image' begins with an image, 'text' allows
      no image at all.
    max_images, max_text_tokens: allowances; None takes those of the config.
    stop_after_image: end with the first image, without asking for more text.
    seed: of this row's noise and draws; rows do not depend on their neighbours.
    think: where an image is asked for, write text first, and draw where it ends;
      `sample.think_draw` or, with another `begin`, `sample.think_answer` stands before.
  """

  parts: Sequence[Text | Image | Turn]
  begin: str = "auto"
  max_images: int | None = None
  max_text_tokens: int | None = None
  stop_after_image: bool = False
  seed: int = 0
  think: bool = False

  def __post_init__(self):
    if self.begin not in ("auto", "image", "text"):
      raise DataError(f"begin must be auto, image or text, got {self.begin!r}")


@dataclasses.dataclass(frozen=True)
class Generated:
  """What one prompt became.

  Attributes:
    parts: str and uint8 [h, w, 3], in order.
    tokens: ids written, BOI and EOS too, without image positions.
    finished: whether the model ended by itself rather than at an allowance.
  """

  parts: list[str | np.ndarray]
  tokens: list[int]
  finished: bool

  @property
  def text(self) -> str:
    """All text, joined."""
    return "".join(p for p in self.parts if isinstance(p, str))

  @property
  def images(self) -> list[np.ndarray]:
    """All pictures."""
    return [p for p in self.parts if not isinstance(p, str)]


OnText = Callable[[int, str], None]  # (prompt, all text since its last image)
OnImage = Callable[[int, float, np.ndarray], None]  # (prompt, share done, uint8 HWC)


class Generator(Weights):
  """Samples from a trained model.

  Args:
    config: of the run; its sample section decides sampler, guidance and text.
    params: weights, usually the averaged ones; copies of them are held in the dtype
      that they are multiplied in.
    builder: lays out prompts; it carries the tokenizer.
    rows: prompts decoded together. Fixed: another number compiles anew.
    slots: positions of the cache; None is data.seq_len.

  Attributes:
    tasks: what it can be asked.
  """

  def __init__(
    self, config: Config, params, builder: RowBuilder, rows: int = 1, slots=None
  ):
    self.config, self.builder, self.dtype = config, builder, config.model.dtype
    reads = ("describe", "ask")
    self.tasks = ("draw", *reads, "edit") if config.draws else reads
    self.rows, self.slots = rows, slots or config.data.seq_len
    self.functions = SampleFunctions(config, builder.vocabulary)
    self.layers_apart = config.sample.layers_apart
    self.params = params

  def calls(self, params):
    """See `Weights`."""
    about = self.config, self.builder, params, self.rows, self.slots
    for name, given in functions.arguments(self.functions, *about).items():
      yield getattr(self.functions, name), given

  def generate(
    self,
    prompts: Sequence[Prompt],
    on_text: OnText | None = None,
    on_image: OnImage | None = None,
  ) -> list[Generated]:
    """Continues every prompt, in groups of `rows`.

    Args:
      prompts: what to continue; any number.
      on_text, on_image: called while text and pictures appear.

    Raises:
      DataError: a prompt leaves no room in the cache for a token or its image.
    """
    done = []
    for first in range(0, len(prompts), self.rows):
      batch = RowBatch(self, prompts[first : first + self.rows], first)
      batch.run(on_text, on_image)
      done += [Generated(r.parts, r.tokens, r.finished) for r in batch.rows]
    return done
