"""Sampling from a model that only draws: captions in, one picture each out.

Or conditions, where it has no encoder of captions (`dit.told="vectors"`).
"""

import functools
from collections.abc import Sequence
from typing import ClassVar

import jax
import numpy as np

from unijax.config import Config
from unijax.data.document import DataError, Image, Text
from unijax.data.drawings import Captions
from unijax.data.rows import RowBuilder
from unijax.diffusion import process
from unijax.infer import conditions
from unijax.infer.functions import branches
from unijax.infer.generate import Generated, OnImage, OnText, Prompt
from unijax.infer.narrow import Weights
from unijax.infer.tracks import told
from unijax.nn.dit_blocks import Condition
from unijax.nn.text_to_image import TextToImage, given, make_text_to_image
from unijax.write.diffusion import Diffusion, solve


class DrawingGenerator(Weights):
  """Draws what prompts say; the interface is that of `generate.Generator`.

  Args:
    config: of the run; its sample section decides sampler and guidance.
    params: weights, usually the averaged ones; copies of them are held in the dtype
      that they are multiplied in.
    builder: carries the tokenizer and the codec.
    rows: prompts drawn together. Fixed: another number compiles anew.
  """

  tasks: ClassVar[tuple[str, ...]] = ("draw",)  # what it can be asked

  def __init__(self, config: Config, params, builder: RowBuilder, rows: int = 1):
    self.config, self.builder, self.rows = config, builder, rows
    self.dtype = config.model.dtype
    self.captions = Captions(builder, config.data.caption_length)
    vocab = builder.vocabulary.size
    self.path = Diffusion(config, vocab)  # its noise, its times and its knobs
    self.branches = branches(config)
    self.reads = config.dit.told == "captions"
    model = make_text_to_image(config, vocab)
    self._condition = jax.jit(functools.partial(_condition, model))
    self._draw = jax.jit(
      functools.partial(_draw, model, config, self.branches), donate_argnums=2
    )
    self.params = params

  def calls(self, params):
    """See `Weights`."""

    def shape(*sizes, dtype=np.int32):
      return jax.ShapeDtypeStruct(sizes, dtype)

    count = self.rows * self.branches
    if self.reads:
      captions = (params, shape(count, self.captions.length), shape(count))
      yield self._condition, captions
      condition = jax.eval_shape(self._condition, *captions)
    else:
      condition = jax.eval_shape(lambda: given(self.config.dit, count, 1))
    keys = shape(self.rows, dtype=jax.eval_shape(jax.random.key, 0).dtype)
    state = jax.eval_shape(self.path.begin, (), keys)
    knobs = jax.eval_shape(lambda: self.path.knobs(self.config))
    yield self._draw, (params, condition, state, keys, shape(), shape(), knobs)

  def generate(
    self,
    prompts: Sequence[Prompt],
    on_text: OnText | None = None,
    on_image: OnImage | None = None,
  ) -> list[Generated]:
    """Draws one picture for every prompt, in groups of `rows`.

    Args:
      prompts: text only, in turns or not; any number.
      on_text: never called: nothing is written.
      on_image: called while pictures appear.

    Raises:
      DataError: a prompt shows a picture, asks for text, or is too long.
    """
    captions = [self._tokens(p, i) for i, p in enumerate(prompts)]
    pictures = []
    for first in range(0, len(prompts), self.rows):
      group = slice(first, first + self.rows)
      seeds = [p.seed for p in prompts[group]]
      pictures += self._group(captions[group], seeds, first, on_image)
    return [Generated([x], [], True) for x in pictures]

  def draw(
    self,
    told: Sequence[Condition],
    against: Sequence[Condition],
    seeds: Sequence[int],
    on_image: OnImage | None = None,
  ) -> list[np.ndarray]:
    """Draws one picture for every condition, in groups of `rows`.

    Args:
      told: of one row each, as `conditions.read` returns them.
      against: what guidance contrasts each with; not looked at without guidance.
      seeds: of their noise.
      on_image: called while pictures appear.

    Returns:
      uint8 pictures [H, W, 3].

    Raises:
      DataError: there is guidance, and nothing to contrast with.
    """
    if self.branches == 2 and len(against) != len(told):
      raise DataError(
        f"guidance {self.config.sample.guidance:g} contrasts with another condition: "
        "give negative_vectors in the file, or --guidance=1"
      )
    pictures = []
    for first in range(0, len(told), self.rows):
      group = slice(first, first + self.rows)
      rows, shadow = list(told[group]), list(against[group])
      count = len(rows)
      rows += rows[:1] * (self.rows - count)
      shadow += shadow[:1] * (self.rows - count)
      whole = conditions.stacked(rows + shadow if self.branches == 2 else rows)
      pictures += self._pictures(whole, list(seeds[group]), first, on_image)
    return pictures

  def _tokens(self, prompt: Prompt, number: int) -> np.ndarray:
    if not self.reads:
      raise DataError(
        f"prompt {number}: this run has no encoder of texts; it draws from what one "
        "elsewhere said: `unijax sample --conditions=FILE.safetensors`"
      )
    if prompt.begin == "text" or any(isinstance(p, Image) for p in prompt.parts):
      raise DataError(
        f"prompt {number}: this run only draws, from text alone; it reads no pictures "
        "and writes no text"
      )
    parts = told(prompt.parts, self.config.sample, draws=True)
    caption = "".join(p.text for p in parts if isinstance(p, Text))
    return self.captions.tokens(caption, f"prompt {number}")

  def _group(self, captions, seeds, first: int, on_image) -> list[np.ndarray]:
    count, nothing = len(captions), self.captions.tokens("", "no caption")
    captions = captions + [nothing] * (self.rows - count)
    if self.branches == 2:
      against = self.config.sample.negative_prompt
      shadow = self.captions.tokens(against, "sample.negative_prompt")
      captions = captions + [shadow] * self.rows
    condition = self._condition(self.params, *self.captions.stack(captions))
    return self._pictures(condition, seeds, first, on_image)

  def _pictures(self, condition, seeds, first: int, on_image) -> list[np.ndarray]:
    """Pictures of a condition of all rows and branches, one for each seed."""
    done = self.latents(condition, seeds, first, on_image)
    return [self.builder.pixels(x) for x in done]

  def latents(
    self, condition: Condition, seeds: Sequence[int], first: int = 0, on_image=None
  ) -> np.ndarray:
    """Draws patches [n, P, C] of a condition.

    Args:
      condition: of all rows, then of what guidance contrasts them with.
      seeds: n of them, at most `rows`.
      first: number of the first picture, for `on_image`.
      on_image: called while they appear.
    """
    count = len(seeds)
    seeds = np.asarray(list(seeds) + [0] * (self.rows - count), np.uint32)
    keys = jax.vmap(jax.random.key)(seeds)
    state, knobs = self.path.begin((), keys), self.path.knobs(self.config)
    steps = self.path.steps
    stride = min(self.path.stride, steps) if on_image else steps
    for start in range(0, steps, stride):
      stop = min(start + stride, steps)
      state = self._draw(
        self.params, condition, state, keys, np.int32(start), np.int32(stop), knobs
      )
      if on_image:
        for i, x in enumerate(np.asarray(self.path.look(state))[:count]):
          on_image(first + i, stop / steps, self.builder.pixels(x))
    return np.asarray(self.path.image(state))[:count]


def _condition(model: TextToImage, params, tokens_BS, length_B) -> Condition:
  return model.apply({"params": params}, tokens_BS, length_B, method=model.condition)


def _draw(
  model: TextToImage, config: Config, branches: int, params, condition, state, keys_B,
  first, last, knobs,
):  # fmt: skip
  """Takes solver steps [first, last); the state is that of `write.diffusion.solve`."""
  d = config.diffusion

  def clean(x, t):
    args = (x, t, condition)
    out = model.apply({"params": params}, *args, method=model.predict)
    return process.from_kind(d.path, d.predict, out, x, t[:, None])[0]

  return solve(config, clean, branches, state, keys_B, first, last, knobs)
