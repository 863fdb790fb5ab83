"""Laws 2, 4 and 5 for every way to write images and every sharing of parameters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small
from tests.laws import variants
from tests.laws.variants import CASES, VARIANTS, config, in_rows
from unijax.config_sections import ModelConfig
from unijax.config_writes import WRITES
from unijax.data.document import Document
from unijax.nn import masks
from unijax.train import step
from unijax.train.metrics import to_scalars
from unijax.write import WRITE_PATHS


def close(one, other, rtol):
  """Relative to the largest entry of each array: sums are taken in another order."""
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True
  ):
    a, b = np.asarray(a), np.asarray(b)
    assert np.isfinite(a).all(), path
    assert abs(a - b).max() <= rtol * max(abs(b).max(), 1e-3), (path, a, b)


def run(name, batch, weights=None, seed=1):
  weights = weights or step.total_weights(batch)
  params = small.params(config(name), 0)
  return variants.loss_and_gradient(name)(params, batch, jax.random.key(seed), weights)


def test_the_tables_have_the_same_names():
  values = ModelConfig.__annotations__["write"]
  assert set(WRITE_PATHS) == set(WRITES) == set(values.__args__)
  assert set(variants.WRITE) == set(WRITES)


@pytest.mark.parametrize("name", CASES)
def test_packed_equals_unpacked(name):
  c = config(name)
  (loss, metrics), grads = one_a_row = run(name, in_rows(c, [0], [1], [2], [3], [4]))
  for places in ([[0, 1, 2], [4, 3]], [[3, 2, 1], [4], [0]]):
    close(run(name, in_rows(c, *places)), one_a_row, rtol=2e-5)
  assert (variants.path(c).metric in to_scalars(metrics)) != c.write.never
  assert optax.tree.norm(grads) > 0 and loss > 0


@pytest.mark.parametrize("name", CASES)
def test_parts_of_a_batch_add_up(name):
  """Unequal parts: all images in some rows, only text or nothing in others."""
  c = config(name)
  batch = in_rows(c, [2], [0, 1], [], [4], [3])
  weights, key = step.total_weights(batch), jax.random.key(1)
  params, f = small.params(c, 0), variants.loss_and_gradient(name)
  empty = in_rows(c)
  rows = lambda which: jax.tree.map(
    lambda x, e: np.where(np.isin(np.arange(len(x)), which).reshape(-1, *[1] * (x.ndim - 1)), x, e),
    batch, empty,
  )  # fmt: skip
  (whole, _), whole_grads = f(params, batch, key, weights)
  parts = [f(params, rows(which), key, weights) for which in ([0, 1], [2], [3, 4])]
  close(sum(p[0][0] for p in parts), whole, rtol=1e-5)
  close(jax.tree.map(lambda *x: sum(x), *[p[1] for p in parts]), whole_grads, rtol=2e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lacks", ["images", "text", "both"])
def test_rows_that_lack_something_give_no_nan(name, lacks):
  c = config(name)
  batch = in_rows(c, *{"images": [[2]], "text": [[3], [4]], "both": []}[lacks])
  if lacks == "text":
    batch = dataclasses.replace(batch, text_weight_BT=batch.text_weight_BT * 0)
  (loss, metrics), gradients = run(name, batch)
  norm = optax.tree.norm(gradients)
  assert np.isfinite(loss) and np.isfinite(norm)
  images = lacks == "text" and not c.write.never
  assert (loss == 0) == (norm == 0) == (lacks != "images" and not images)
  scalars = to_scalars(metrics)
  assert ("text_nll" in scalars) == (lacks == "images")
  assert (variants.path(c).metric in scalars) == images


# -- causality by gradient -----------------------------------------------------------------


@functools.cache
def jacobians(name: str):
  """{output: {input: [T, T or I]}}: how outputs at t move with inputs, and these.

  Every position has a token of its own, so that the gradient to a row of the token
  table is the gradient to one position.
  """
  c = config(name, data__seq_len=48)
  model, path = small.functions(c).model, variants.path(c)
  b = small.builder(c)
  documents = (1, 2) if c.write.never else (1, 3) if c.read.pictures else (4, 3)
  known = variants.documents(c)
  layouts = [b.layout(known[i], key=i) for i in documents]
  batch = jax.tree.map(lambda x: np.asarray(x)[None], b.row(layouts))
  inputs, truth = jax.jit(path.corrupt)(jax.random.key(0), batch)
  T = batch.tokens_BT.shape[1]
  inputs = inputs.replace(tokens_BT=np.arange(T, dtype=np.int32)[None])
  params = small.params(c, 1)

  def output(table, patches, pixels, t):
    x = inputs.replace(patches_BTC=patches, pixels_BIHWC=pixels)
    weights = {"params": {**params, "embedding": {"table": table}}}
    h_BTD, image = model.apply(weights, method=lambda m: path.heads(m, x, truth))
    logits = model.apply(weights, h_BTD, method=model.logits)
    found = {"logits": _at(logits, T, t)}
    if image is not None:
      found["image"] = sum(_at(y, T, t) for y in jax.tree.leaves(image))
    return found

  def one(t):
    pixels = inputs.pixels_BIHWC
    pixels = None if pixels is None else jnp.asarray(pixels, jnp.float32)
    args = params["embedding"]["table"], jnp.asarray(inputs.patches_BTC), pixels, t
    return jax.jacrev(output, (0, 1, 2))(*args)

  found = jax.jit(jax.vmap(one), compiler_options=small.QUICK)(jnp.arange(T))
  result = {}
  for name_, (table, patches, pixels) in found.items():
    result[name_] = {"token": abs(table[:, :T]).max(-1)}
    if patches.size:
      result[name_]["patch"] = abs(patches[:, 0]).max(-1)
    if pixels is not None:  # [T, I]
      result[name_]["pixels"] = abs(pixels[:, 0]).max((2, 3, 4))
  hidden = inputs.time_BT if c.write.hidden else np.zeros((1, T))
  return c, batch, np.asarray(hidden[0]) > 0, result


def _at(y, T, t):
  """A projection of what `y` [..., 1, T, ...] says at position t."""
  axis = y.shape.index(T)
  y = jnp.moveaxis(y, axis, 0)[t].reshape(-1)
  return y @ jax.random.normal(jax.random.key(1), y.shape)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_zero_exactly_where_the_mask_hides(name):
  c, batch, hidden, found = jacobians(name)
  span, segment, patch = batch.span_BT[0], batch.segment_BT[0], batch.patch_BT[0]
  index = np.arange(len(span))
  sees = (segment[:, None] == segment) & (segment > 0) & (index[:, None] >= index)
  if c.model.image_mask != "causal":
    sees |= (span[:, None] == span) & (span[:, None] != -1)  # an image, or a block
  if batch.hidden_BT is not None:  # noised copies are seen by themselves alone
    assert batch.hidden_BT.any()
    sees &= ~batch.hidden_BT[0] | (span[:, None] == span)
  is_patch, write = patch >= 0, c.write
  stands = {"patch": is_patch & ~hidden, "token": ~is_patch | write.discrete}
  if c.model.time_injection == "boi" or c.model.time_token == "alone":  # not read, then
    stands["token"] &= span < 0
  if c.read.pictures:
    feature = batch.feature_BT[0]
    stands["token"] &= is_patch | (feature == -1)
  for output, inputs in found.items():
    reads, rows = sees, segment > 0
    if output == "image":  # in order: what stands before a patch says what it may be
      reads = np.roll(sees, 1, axis=0) if write.in_order else sees
      rows = is_patch
      if write.slots:  # what the last slot of the image sees, and nothing of the image
        first = index - np.maximum(patch, 0)
        reads = sees[np.maximum(first - 1, 0)]
    assert ("patch" in inputs) == (not (write.discrete or write.never))
    for source, got in inputs.items():
      if source == "pixels":  # what sees a feature of a picture sees all of it
        law = np.stack(
          [(reads & (feature // c.features == i)).any(1) for i in range(got.shape[1])],
          axis=1,
        )
        assert law.any() and not law.all()
      else:
        law = reads & stands[source]
      got, law = np.asarray(got)[rows], law[rows]
      leaks = np.argwhere((got != 0) & ~law)
      assert not len(leaks), f"{output} reads hidden {source} (query, key): {leaks[:5]}"
      blind = np.argwhere((got < 1e-7) & law)
      assert not len(blind), f"{output} ignores {source} (query, key): {blind[:5]}"


def test_images_of_one_patch_make_the_image_mask_causal():
  c = config("diffusion-shared", data__image_size=4)
  one_patch = [dataclasses.replace(p, load=lambda: np.zeros((4, 4, 3), np.uint8), height=4, width=4)
               if hasattr(p, "load") else p for p in variants.DOCUMENTS[4].parts]  # fmt: skip
  b = small.builder(c)
  row = b.row(
    [b.layout(Document(tuple(one_patch), 5)), b.layout(variants.DOCUMENTS[2])]
  )
  row = jax.tree.map(lambda x: np.asarray(x)[None], row)
  assert (row.patch_BT >= 0).sum() == 2
  block, causal = (
    masks.intervals(row.span_BT, row.segment_BT, m) for m in ("bidirectional", "causal")
  )
  jax.tree.map(np.testing.assert_array_equal, block, causal)
  larger = variants.in_rows(config("diffusion-shared"), [4])
  ends = [
    masks.intervals(larger.span_BT, larger.segment_BT, m)[1]
    for m in ("bidirectional", "causal")
  ]
  assert (ends[0] != ends[1]).any()


HIDDEN = {  # of what `corrupt` knows, what is hidden
  "masked": lambda truth: truth,
  "masked_all": lambda truth: truth[1],
  "masked_diffusion": lambda truth: truth.hidden_BT,
}


@pytest.mark.parametrize(
  "name", [n for n in VARIANTS if config(n).model.write in HIDDEN]
)
def test_what_is_hidden_is_not_read(name):
  """Other codes, words or patches under the masks change nothing that the model reads."""
  c = config(name)
  batch, path = in_rows(c, [0, 1], [3, 4]), variants.path(c)
  corrupt = jax.jit(path.corrupt)
  inputs, truth = corrupt(jax.random.key(3), batch)
  hidden = HIDDEN[c.model.write](truth)
  may = batch.patch_BT >= 0
  if c.write.blocks:
    may |= batch.text_weight_BT > 0
    assert hidden[batch.patch_BT < 0].any()
  assert hidden[batch.patch_BT >= 0].any() and not hidden[~may].any()
  tokens = np.where(hidden, path.code_ids.first, batch.tokens_BT)
  patches = np.where(hidden[..., None], 7.0, batch.patches_BTC)
  changed = dataclasses.replace(batch, tokens_BT=tokens, patches_BTC=patches)
  assert (tokens != batch.tokens_BT).any()
  if not c.write.discrete:
    changed = dataclasses.replace(changed, tokens_BT=batch.tokens_BT)
  other, again = corrupt(jax.random.key(3), changed)
  again = HIDDEN[c.model.write](again)
  jax.tree.map(np.testing.assert_array_equal, (inputs, hidden), (other, again))
