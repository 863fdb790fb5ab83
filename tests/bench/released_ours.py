"""Our side of `released.py`: the files are imported and run by the sampling functions.

- float32, weights laid out for writing (`sample.layers_apart`). Text and prompts go
  through `prefill`, in chunks as every prompt does, and `decode_text`; images through
  `begin_image` and `draw_image` on two caches, with the prompt and without.
- The same weights serve as a model that writes text alone and as one that writes codes:
  the last ids of the vocabulary are the codes.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import released_work
import rounds

from tests.interop.run import params as numbers
from unijax.config import Config, from_config_dict, to_dict
from unijax.data.layout import Layout
from unijax.data.rows import RowBuilder, stack
from unijax.data.tokenizer import ByteTokenizer
from unijax.infer import narrow
from unijax.infer.functions import SampleFunctions, chunk_lengths
from unijax.infer.row import chunks, padded
from unijax.infer.text_sampling import text_sampling
from unijax.interop import importing, system
from unijax.nn.cache import make_cache
from unijax.write.base import Span


def text_config(config: Config, work: released_work.Work) -> Config:
  """Of the release, to write so many tokens."""
  sample = dataclasses.replace(
    config.sample, max_text_tokens=work.text, layers_apart=True
  )
  return dataclasses.replace(config, sample=sample)


def image_config(config: Config, work: released_work.Work) -> Config:
  """The same decoder, writing codes in raster order with guidance, greedily."""
  values = to_dict(config)
  values["model"].update(write="codes", read="patches")
  values["data"].update(
    codec="blocks", patch_size=1, image_size=work.grid * released_work.STRIDE
  )
  values["sample"].update(
    guidance=float(work.guidance), image_temperature=0.0, layers_apart=True
  )
  return from_config_dict(values)


class Runner:
  """The sampling functions of a config on given ids."""

  def __init__(self, config: Config, params, every_id: bool):
    tokenizer = ByteTokenizer()
    if every_id:  # any row of the table may be written
      tokenizer.vocab_size = config.data.vocab
    self.config, self.params = config, params
    self.builder = RowBuilder(config, tokenizer)
    special = dataclasses.replace(self.builder.vocabulary.special, eos=-1)
    vocabulary = dataclasses.replace(self.builder.vocabulary, special=special)
    self.functions = SampleFunctions(config, vocabulary)
    self.chunks = chunk_lengths(config)

  def read(self, layouts: list[Layout], slots: int):
    """Reads rows of one length: (cache, logits after them)."""
    cache = make_cache(self.config, len(layouts), slots)
    for parts in zip(*(chunks(x, self.chunks) for x in layouts), strict=True):
      size = padded(parts, self.chunks)
      chunk = stack([self.builder.chunk(x, size) for x in parts])
      cache, logits = self.functions.prefill(self.params, cache, chunk)
    return cache, logits


def layout(ids) -> Layout:
  """Positions of text with these ids."""
  made = Layout(key=0)
  made.add_tokens([int(i) for i in ids], 0.0)
  return made


def span(rows: list[Layout], count: int) -> Span:
  """The positions of an image behind each row: BOI and its codes."""
  tokens, places = [], []
  for x in rows:
    x.add_image(None, count, 0, "sequential", 0.0, 0.0)
    tokens.append(x.tokens[-count - 1 :])
    places.append(x.position[-count - 1 :])
  return Span(np.asarray(tokens, np.int32), np.asarray(places, np.int32))


class Model:
  """See `released_work.figures`."""

  def __init__(self, config: Config, params, work: released_work.Work):
    self.work = work
    self.text = Runner(text_config(config, work), params, True)
    self.image = Runner(image_config(config, work), params, False)
    assert self.image.functions.path.code_ids.first == work.first_code

  def write(self, prompts, count: int):
    rows, length = prompts.shape
    made = [layout(ids) for ids in prompts]
    cache, logits = self.text.read(made, length + count)
    every = np.full(rows, count, np.int32)
    keys = jax.vmap(jax.random.key)(np.zeros(rows, np.uint32))
    _, _, tokens = self.text.functions.decode_text(
      self.text.params, cache, logits, np.full(rows, length, np.int32), keys, every,
      np.zeros(rows, bool), np.int32(count), text_sampling(self.text.config.sample),
    )  # fmt: skip
    return np.asarray(tokens)

  def draw(self, prompts):
    run, count = self.image, self.work.grid**2
    branches = [
      [layout([*ids, released_work.BOI]) for ids in told]
      for told in (prompts, [[]] * len(prompts))
    ]
    slots = max(len(rows[0]) for rows in branches) + count
    caches = tuple(run.read(rows, slots)[0] for rows in branches)
    spans = tuple(span(rows, count) for rows in branches)
    keys = jax.vmap(jax.random.key)(np.zeros(len(prompts), np.uint32))
    path = run.functions.path
    state = run.functions.begin_image(caches, keys)
    state = run.functions.draw_image(
      run.params, caches, state, spans, keys, np.int32(0), np.int32(count),
      path.knobs(run.config),
    )  # fmt: skip
    return np.asarray(path.look(state))

  def read(self, prompt):
    logits = self.text.read([layout(prompt[0])], prompt.shape[1])[1]
    return np.asarray(jnp.argmax(logits, axis=-1))


def main() -> None:
  """Serves rounds on stdin; see `rounds`."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  rounds.add_arguments(parser, released_work.Work)
  work = rounds.parse(parser.parse_args(), released_work.Work)
  found = importing.look("llama", work.folder)
  stacked = {p: jnp.asarray(x) for p, x in numbers(found).items()}
  params = narrow.apart(system.nested(stacked))
  figures = released_work.figures(Model(found.config, params, work), work)
  about = {
    "name": "unijax", "jax": jax.__version__, "threads": work.threads,
    "parameters": sum(x.size for x in jax.tree.leaves(params)),
    "wrote": {name: released_work.ids(make()) for name, make in figures.items()},
  }  # fmt: skip
  rounds.serve(about, {n: released_work.timed(f) for n, f in figures.items()})


if __name__ == "__main__":
  main()
