"""Rows with a hidden noised copy before each clean image are what sampling computes.

Sampling draws an image against the cached prefix, commits nothing of that, and then
commits the clean image. So everything outside of hidden copies is as if they were not
there, and a hidden copy is a step of a drawing.
"""

import functools

import jax
import numpy as np
import pytest

from tests import small
from tests.laws import variants
from unijax.data.document import Document, Text, Turn
from unijax.infer.functions import SampleFunctions, chunk_length
from unijax.nn import masks
from unijax.nn.cache import make_cache
from unijax.write import base
from unijax.write.base import Span

CASES = {
  "time token, grid, U-Net": dict(
    model__time_injection="token", model__positions="grid", model__patch_codec="unet",
    diffusion__path="cosine", diffusion__predict="epsilon",
  ),
  "adaln, causal, a copy a modality": dict(
    model__time_injection="adaln", model__sharing="full", model__positions="shared",
    model__image_mask="causal",
  ),
  "masked": variants.WRITE["masked"],
}  # fmt: skip
DOCUMENT = Document(
  (Turn("user"), Text("ab", False), Turn("assistant"), variants.image(1), Text("c"),
   Turn("user"), Text("d", False), Turn("assistant"), variants.image(2),
   variants.image(3, True), Text("e")), 7,
)  # fmt: skip
TOLERANCE = 2e-5  # of hidden states of size 1


@functools.cache
def trained(case: str):
  """(config, parameters, batch of the one document, what the model reads, what it makes)."""
  c = variants.config(
    "diffusion-copies", **{"data__noise_limit": 0.0, **CASES[case]}
  )  # fmt: skip
  b = small.builder(c)
  layout = b.layout(DOCUMENT, key=3)
  batch = jax.tree.map(lambda x: np.asarray(x)[None], b.row([layout]))
  path = variants.path(c)
  inputs, _ = jax.jit(path.corrupt)(jax.random.key(0), batch)
  params = small.params(c, 0)
  return c, params, batch, inputs, made(c)(params, inputs)


_MADE = {}


def made(c):
  """Compiled whole rows: (params, inputs) -> (h, logits, keys, values)."""
  model = small.functions(c).model

  def run(m, inputs):
    h_BTD, (keys, values), _ = m.hidden(inputs)
    return h_BTD, m.logits(h_BTD), keys, values

  apply = lambda params, inputs: model.apply({"params": params}, inputs, method=run)
  return _MADE.setdefault(small.key(c), jax.jit(apply, compiler_options=small.QUICK))


def near(one, other):
  one, other = np.asarray(one), np.asarray(other)
  assert one.shape == other.shape
  assert abs(one - other).max() < TOLERANCE * max(1.0, abs(other).max())


@pytest.mark.parametrize("case", CASES)
def test_without_the_hidden_copies_all_else_is_the_same(case):
  c, params, batch, inputs, whole = trained(case)
  hidden, T = batch.hidden_BT[0], c.data.seq_len
  assert hidden.sum() == 2 * c.image_positions
  keep = np.flatnonzero(~hidden)
  row = jax.tree.map(
    lambda x: np.pad(x[:, keep], ((0, 0), (0, T - len(keep)), *[(0, 0)] * (x.ndim - 2))),
    inputs.replace(hidden_BT=None),
  )  # fmt: skip
  span = row.span_BT.copy()
  span[:, len(keep) :] = -1
  segment = np.pad(batch.segment_BT[:, keep], ((0, 0), (0, T - len(keep))))
  start, end = masks.intervals(span, segment, c.model.image_mask)
  index = np.arange(T, dtype=np.int32)[None]
  patch = np.where(segment > 0, row.patch_BT, -1)
  row = row.replace(
    span_BT=span, patch_BT=patch, index_BT=index, start_BT=start, end_BT=end
  )
  here, used = slice(0, int((segment > 0).sum())), keep[batch.segment_BT[0, keep] > 0]
  h, logits, keys, values = made(c)(params, row)
  near(h[:, here], whole[0][:, used])
  near(logits[:, here], whole[1][:, used])
  for got, want in ((keys, whole[2]), (values, whole[3])):
    near(got[:, :, here], want[:, :, used])


@pytest.mark.parametrize("case", CASES)
def test_a_row_is_what_sampling_commits_and_draws(case):
  c, params, batch, inputs, whole = trained(case)
  b, hidden = small.builder(c), batch.hidden_BT[0]
  prompt = b.layout(DOCUMENT, key=3, open_end=True)
  assert not any(prompt.hidden) and len(prompt.images) == 3
  visible = np.flatnonzero(~hidden & (batch.segment_BT[0] > 0))[:-1]  # all but EOS
  assert len(visible) == len(prompt)
  functions = SampleFunctions(c, b.vocabulary)
  cache, start, drawn = make_cache(c, 1, c.data.seq_len), 0, 0
  while start < len(prompt):
    stop = start + 1
    while stop < len(prompt) and 0 <= prompt.span[stop] == prompt.span[start]:
      stop += 1
    first = visible[start]
    if first and hidden[first - 1]:  # its noised copy stands before it, after BOI
      noised = slice(first - (stop - start), first)
      draws(c, params, cache, inputs, whole, noised)
      drawn += 1
    part = b.chunk(prompt.part(start, stop), chunk_length(c))
    chunk = jax.tree.map(lambda x: np.asarray(x)[None], part)
    cache, logits = functions.prefill(params, cache, chunk)
    near(logits, whole[1][:, visible[stop - 1]])
    start = stop
  assert drawn == 2
  held = [x.swapaxes(2, 3)[:, :, : len(visible)] for x in cache.kv]
  near(held[0], whole[2][:, :, visible])
  near(held[1], whole[3][:, :, visible])


def draws(c, params, cache, inputs, whole, noised: slice):
  """One step of a drawing after BOI reads what the noised copy reads, and says it."""
  model = small.functions(c).model
  at = slice(noised.start - 1, noised.stop)
  span = Span(inputs.tokens_BT[:, at], inputs.position_BTA[:, at])
  now = base.block(c, (span,), cache)
  now = now.replace(patches_BTC=inputs.patches_BTC[:, noised])
  if c.write.timed:
    assert (inputs.time_BT[:, noised] > 0).all()
    now = now.replace(time_BT=inputs.time_BT[:, noised])
  run = lambda params: model.apply(
    {"params": params}, method=lambda m: m.hidden(now, cache)
  )
  h, (keys, values), _ = jax.jit(run, compiler_options=small.QUICK)(params)
  near(h, whole[0][:, noised])
  near(keys, whole[2][:, :, noised])
  near(values, whole[3][:, :, noised])
