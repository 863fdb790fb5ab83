"""Our side of the bench: unijax on CPU. `peer.py` says what the peer's side chose.

- float32, linear patches, learned patch positions, time added to patches, AdamW with
  clipping; hidden units of 8/3 of the width, which is what the peer has. Blocks are
  unrolled, which is faster than a scan and compiles longer.
- The same row: text and images in turn, exactly `length` positions, markers included.
- Sampling goes through `Generator.generate`, with a cache as large as the task needs.
  After the image it runs one more evaluation than the peer does, to commit the clean
  image to the cache. Untrained weights begin an image by chance only: the columns of
  EOS and BOI in the text head are zero, which greedy text never picks, and BOI is
  written after `text` tokens by a second call of the compiled decoder.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import rounds

from configs import base
from unijax.config import Config, from_config_dict
from unijax.data import rows as rows_lib
from unijax.data.document import Document, Image, Text
from unijax.data.rows import RowBuilder
from unijax.data.tokenizer import make_tokenizer
from unijax.infer.generate import Generator, Prompt
from unijax.train.functions import StepFunctions
from unijax.types import Batch

MATMUL = 2048  # side of the plain matrix product


def make_config(work: rounds.Workload) -> Config:
  """Returns the config of a workload."""
  patch = round((work.channels / 3) ** 0.5)
  if 3 * patch**2 != work.channels or work.vocab != 256:
    raise SystemExit("bench: --channels must be 3 p^2 and --vocab 256 (bytes)")
  c = base.get_config()
  c.model.update(
    depth=work.depth,
    width=work.width,
    heads=work.heads,
    kv_heads=work.heads,
    head_dim=work.width // work.heads,
    mlp_width=work.width * 8 // 3 // 8 * 8,
    patch_position="learned",
    scan_unroll=work.depth,
  )
  c.data.update(
    image_size=patch * work.grid,
    patch_size=patch,
    seq_len=work.length,
    images_per_row=work.images,
    sources={"none": dict(kind="scenes", weight=1.0, options={})},
  )
  c.train.batch_size = work.batch
  c.sample.update(steps=work.solver, max_text_tokens=2 * work.text + 1, max_images=1)
  return from_config_dict(c)


def words(rng: np.random.Generator, count: int) -> Text:
  """Returns a text of `count` bytes."""
  return Text(bytes(rng.integers(97, 123, count, dtype=np.uint8)).decode())


def train_batch(work: rounds.Workload, config: Config, builder: RowBuilder) -> Batch:
  """Returns a batch of full rows: text and images in turn."""
  rng = np.random.default_rng(0)
  size = config.data.image_size
  # BOS and EOS; BOI and EOI of each image.
  text = work.length - 2 - work.images * (work.patches + 2)
  if text < work.images + 1:
    raise SystemExit(f"bench: --length {work.length} leaves no room for text")
  share = text // (work.images + 1)
  rows = []
  for number in range(work.batch):
    parts = [words(rng, text - share * work.images)]
    for _ in range(work.images):
      pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
      parts += [Image(lambda pixels=pixels: pixels, size, size), words(rng, share)]
    document = Document(tuple(parts), id=number)
    layout = builder.layout(document, key=number, without_text=False)
    assert len(layout) == work.length, (len(layout), work.length)
    rows.append(builder.row([layout]))
  return rows_lib.stack(rows)


def training(work: rounds.Workload, functions: StepFunctions, batch: Batch):
  """Returns a function that does `updates` updates and returns rows per second."""
  batch = jax.device_put(batch)
  state = functions.init()

  def measure() -> float:
    def updates():
      nonlocal state
      for _ in range(work.updates):
        state, metrics = functions.train(state, batch)
      jax.block_until_ready((state, metrics))

    return work.batch * work.updates / rounds.timed(updates)

  return measure


class Steer:
  """Stands before `decode_text`: `text` tokens and BOI first, then `text` tokens."""

  def __init__(self, generator: Generator, work: rounds.Workload):
    self.decode, self.text = generator.functions.decode_text, work.text
    vocabulary = generator.builder.vocabulary
    self.boi = vocabulary.special.boi
    self.begin = jnp.zeros((generator.rows, vocabulary.size)).at[:, self.boi].set(1e9)

  def __call__(
    self, params, cache, logits, position, keys, allowance, images, limit, sampling
  ):
    """The arguments and results of `unijax.infer.functions.decode_text`."""
    few = np.minimum(allowance, self.text)
    cache, logits, tokens = self.decode(
      params, cache, logits, position, keys, few, images, limit, sampling
    )
    if images.any():  # the first of the two calls
      one = np.minimum(allowance, 1)
      cache, logits, _ = self.decode(
        params, cache, self.begin, position + few, keys, one, images, limit, sampling
      )
      tokens = tokens.at[:, self.text].set(self.boi)
    return cache, logits, tokens


def sampling(
  work: rounds.Workload, config: Config, params, builder: RowBuilder, batch: int
):
  """Returns a function that writes text, an image and text; it returns seconds."""
  positions = 1 + work.prompt + 2 * work.text + 2 + config.image_positions
  generator = Generator(config, params, builder, batch, slots=-(-positions // 8) * 8)
  generator.functions.decode_text = Steer(generator, work)
  rng = np.random.default_rng(0)
  prompts = [Prompt([words(rng, work.prompt)], seed=i) for i in range(batch)]

  def measure() -> float:
    done = []
    seconds = rounds.timed(lambda: done.extend(generator.generate(prompts)))
    for row in done:
      if len(row.images) != 1 or len(row.tokens) != 2 * work.text + 1:
        raise SystemExit(f"bench: wrote {len(row.tokens)} tokens, not all of them")
    return seconds

  return measure


def without_stops(params, builder: RowBuilder):
  """Returns weights whose text head gives EOS and BOI a logit of 0."""
  special = builder.vocabulary.special
  kernel = params["text_head"]["kernel"]
  kernel = kernel.at[..., jnp.array([special.eos, special.boi])].set(0.0)
  return {**params, "text_head": {**params["text_head"], "kernel": kernel}}


def plain_matmul():
  """Returns a function that multiplies two large matrices and returns GFLOP/s."""
  keys = jax.random.split(jax.random.key(0))
  a, b = (jax.random.normal(key, (MATMUL, MATMUL)) for key in keys)
  multiply = jax.jit(jnp.matmul)

  def measure() -> float:
    seconds = rounds.timed(lambda: jax.block_until_ready(multiply(a, b)))
    return 2 * MATMUL**3 / seconds / 1e9

  return measure


def matmul_flops(jaxpr) -> int:
  """Returns the FLOPs of a jaxpr's matrix products, loops of known length included."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      contracting, _ = equation.params["dimension_numbers"]
      left = equation.invars[0].aval.shape
      depth = np.prod([left[axis] for axis in contracting[0]], dtype=np.int64)
      total += 2 * int(depth) * equation.outvars[0].aval.size
    repeat = equation.params.get("length", 1)  # of a scan
    for inner in jax.tree.leaves(list(equation.params.values())):
      inner = getattr(inner, "jaxpr", inner)
      if hasattr(inner, "eqns"):
        total += repeat * matmul_flops(inner)
  return total


def main() -> None:
  """Serves rounds on stdin; see `rounds`."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  rounds.add_arguments(parser)
  work = rounds.parse(parser.parse_args())
  config = make_config(work)
  builder = RowBuilder(config, make_tokenizer("bytes"))
  functions = StepFunctions(config, builder.vocabulary.size)
  batch = train_batch(work, config, builder)
  params = without_stops(functions.init().params, builder)
  step = jax.make_jaxpr(functions.train)(functions.init(), batch)
  about = {
    "name": "unijax",
    "jax": jax.__version__,
    "parameters": sum(p.size for p in jax.tree.leaves(params)),
    "train_gflop_per_row": matmul_flops(step.jaxpr) / work.batch / 1e9,
  }
  figures = {
    "train": training(work, functions, batch),
    "sample_1": sampling(work, config, params, builder, 1),
    "sample_8": sampling(work, config, params, builder, 8),
    "matmul": plain_matmul(),
  }
  rounds.serve(about, figures)


if __name__ == "__main__":
  main()
