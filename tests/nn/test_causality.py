"""Law 2: what a position computes depends on what its mask shows it, and nothing else.

The whole model is differentiated. Every position of the row has a token of its own,
so that the gradient to a row of the token table is the gradient to one position.
"""

import functools

import jax
import numpy as np
import pytest

from tests import small
from unijax.nn.sharing import SHARING

# Each value of an axis meets each value of every other axis.
VARIANTS = [
  # time_injection, positions, patch_codec, image_mask
  ("add", "sequential", "linear", "bidirectional"),
  ("add", "shared", "unet", "causal"),
  ("add", "grid", "linear", "causal"),
  ("token", "sequential", "unet", "causal"),
  ("token", "shared", "linear", "bidirectional"),
  ("token", "grid", "convnext", "bidirectional"),
  ("adaln", "sequential", "linear", "causal"),
  ("adaln", "shared", "unet", "bidirectional"),
  ("adaln", "grid", "linear", "bidirectional"),
]


def make(time_injection, positions, patch_codec, image_mask, **knobs):
  """A config, and inputs of one row: two documents, images side by side, padding."""
  c = small.config(
    model__time_injection=time_injection,
    model__positions=positions,
    model__patch_codec=patch_codec,
    model__image_mask=image_mask,
    model__patch_position="learned",
    data__seq_len=44,
    **knobs,
  )
  documents = [small.plain("ab", 0, 1, "c"), small.plain(2, "d", id=1)]
  batch = small.batch(c, documents)
  assert (batch.segment_BT == 0).any() and batch.span_BT.max() == 2
  rng = np.random.default_rng(0)
  time = rng.uniform(0.1, 0.9, 3)[batch.span_BT] * (batch.span_BT >= 0)
  noise = (
    rng.standard_normal(batch.patches_BTC.shape) * (batch.patch_BT >= 0)[..., None]
  )
  inputs = small.inputs(c, batch, batch.patches_BTC + noise, time)
  own = np.arange(c.data.seq_len, dtype=np.int32)[None]
  return c, inputs.replace(tokens_BT=own), batch.segment_BT[0]


def dependencies(inputs, segment, patch_codec, image_mask):
  """Which inputs each output may read: bool [T, T] for tokens and for patches."""
  span, patch = np.asarray(inputs.span_BT[0]), np.asarray(inputs.patch_BT[0])
  index = np.arange(len(span))
  sees = (segment[:, None] == segment) & (segment > 0) & (index[:, None] >= index)
  if image_mask == "bidirectional":
    sees |= (span[:, None] == span) & (span[:, None] >= 0)
  sees |= np.eye(len(span), dtype=bool)
  is_patch = patch >= 0
  mixes = np.eye(len(span), dtype=bool)
  if patch_codec != "linear":  # the codec mixes the patches of one image
    mixes |= (span[:, None] == span) & is_patch[:, None] & is_patch
  logits = {
    "token": sees & ~is_patch,
    "patch": (sees.astype(int) @ mixes > 0) & is_patch,
  }
  prediction = {kind: mixes.astype(int) @ x > 0 for kind, x in logits.items()}
  return {"logits": logits, "prediction": prediction}, is_patch


@functools.partial(jax.jit, static_argnums=0, compiler_options=small.QUICK)
def pull(model, params, inputs, weights):
  """Gradients of a weighted sum of outputs: {input: largest entry at s}, each [T]."""

  def total(table, patches, time):
    with_table = {**params, "embedding": {"table": table}}
    x = inputs.replace(patches_BTC=patches, time_BT=time)
    logits, prediction = model.apply({"params": with_table}, x)
    # A fixed random projection of each position's output keeps every dependence.
    project = lambda y, k: y[0] @ jax.random.normal(jax.random.key(k), y.shape[-1:])
    outputs = {"logits": project(logits, 0), "prediction": project(prediction, 1)}
    return sum(outputs[name] @ weights[name] for name in outputs)

  arguments = params["embedding"]["table"], inputs.patches_BTC, inputs.time_BT
  token, patch, time = jax.grad(total, (0, 1, 2))(*arguments)
  token = abs(token[: inputs.tokens_BT.shape[1]]).max(axis=-1)
  return {"token": token, "patch": abs(patch[0]).max(axis=-1), "time": abs(time[0])}


def jacobian(model, params, inputs, output):
  """{input: [T, T]}: how the output at t moves with the input at s."""
  T = inputs.tokens_BT.shape[1]
  names = ("logits", "prediction")
  rows = []
  for t in range(T):
    weights = {name: np.zeros(T, np.float32) for name in names}
    weights[output][t] = 1.0
    rows.append(pull(model, params, inputs, weights))
  return {k: np.stack([row[k] for row in rows]) for k in rows[0]}


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_gradient_is_zero_exactly_where_the_mask_hides(variant):
  check(variant)


@pytest.mark.parametrize("sharing", [s for s in SHARING if s != "shared"])
def test_the_same_whatever_text_and_images_share(sharing):
  check(VARIANTS[-1], model__sharing=sharing, model__depth=1)


def check(variant, **knobs):
  c, inputs, segment = make(*variant, **knobs)
  lawful, is_patch = dependencies(inputs, segment, *variant[2:])
  model = small.functions(c).model
  params = small.params(c, seed=1)
  for output, inputs_of in lawful.items():
    # The denoising prediction exists at patches only.
    rows = is_patch if output == "prediction" else segment > 0
    found = jacobian(model, params, inputs, output)
    for source, law in inputs_of.items():
      got, law = found[source][rows], law[rows]
      leaks = np.argwhere((got != 0) & ~law)
      assert not len(leaks), f"{output} reads hidden {source} (query, key): {leaks[:5]}"
      blind = np.argwhere((got < 1e-7) & law)
      assert not len(blind), f"{output} ignores {source} (query, key): {blind[:5]}"
    # A timestep reaches no further than the patches (and time token) that carry it.
    law = np.maximum(inputs_of["patch"], inputs_of["token"])[rows]
    if variant[2] == "linear":
      assert not (found["time"][rows] * ~law).any(), f"{output} reads time"
    assert (found["time"][rows] > 1e-7).any()
