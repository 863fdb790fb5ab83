"""Sampling from a model that only draws: captions in, one picture each out."""

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
from unijax.infer.functions import branches
from unijax.infer.generate import Generated, OnImage, OnText, Prompt
from unijax.infer.narrow import Weights
from unijax.infer.tracks import told
from unijax.nn.dit_blocks import Condition
from unijax.nn.text_to_image import TextToImage, make_text_to_image
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
    captions = (params, shape(count, self.captions.length), shape(count))
    yield self._condition, captions
    keys = shape(self.rows, dtype=jax.eval_shape(jax.random.key, 0).dtype)
    state = jax.eval_shape(self.path.begin, (), keys)
    knobs = jax.eval_shape(lambda: self.path.knobs(self.config))
    condition = jax.eval_shape(self._condition, *captions)
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

  def _tokens(self, prompt: Prompt, number: int) -> np.ndarray:
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
    seeds = np.asarray(seeds + [0] * (self.rows - count), np.uint32)
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
    done = np.asarray(self.path.image(state))[:count]
    return [self.builder.pixels(x) for x in done]


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
