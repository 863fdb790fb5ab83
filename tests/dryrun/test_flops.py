"""FLOPs counted by hand agree with those XLA counts, and with the traced products."""

import jax
import pytest
from flax import linen as nn

from tests import small
from unijax.dryrun import compiled, flops, products
from unijax.nn.sharing import SHARING
from unijax.train import step, tasks

SIZES = dict(
  model__depth=2, model__scan_unroll=2, model__width=256, model__heads=4,
  model__kv_heads=2, model__head_dim=64, model__mlp_width=512, data__seq_len=128,
  train__batch_size=1,
)  # fmt: skip


def counted_by_xla(c) -> float:
  """FLOPs of the compiled forward and backward pass; loops are unrolled."""
  functions = small.functions(c)
  params = jax.eval_shape(functions.init).params
  row = small.batch(c, [small.plain("a")])
  batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), row)
  key = jax.eval_shape(lambda: jax.random.key(0))

  def loss(params, batch, key):
    return step.loss_fn(params, functions.model, c, batch, key)[0]

  compiled = jax.jit(jax.grad(loss)).lower(params, batch, key).compile()
  return compiled.cost_analysis()["flops"]


@pytest.mark.parametrize(
  "knobs",
  [
    {},
    dict(model__time_injection="adaln"),
    dict(
      model__mlp="gelu", model__mlp_width=768, model__block="parallel",
      model__bias="all",
    ),
    dict(
      model__patch_codec="unet", model__unet_width=32, data__patch_size=4,
      data__image_size=16, data__images_per_row=2, model__width=128, model__depth=1,
      model__scan_unroll=1,
    ),
    dict(
      model__write="token_diffusion", model__image_mask="causal", model__depth=1,
      model__scan_unroll=1, train__token_draws=2,
    ),
    dict(
      model__write="gmm", model__image_mask="causal", model__depth=1,
      model__scan_unroll=1, model__mixtures=64,
    ),
  ],
  ids=["linear", "adaln", "no gate", "unet", "token_diffusion", "gmm"],
)  # fmt: skip
def test_agrees_with_xla(knobs):
  c = small.config(**{**SIZES, **knobs})
  parts = flops.forward(c, small.VOCABULARY.size, flops.everything(c))
  ours, theirs = 3 * sum(parts.values()), counted_by_xla(c)
  assert ours == pytest.approx(theirs, rel=0.03), ours / theirs


CODES = dict(
  data__codec="blocks", data__patch_size=1, data__noise_limit=0.0, data__seq_len=320,
  model__image_mask="causal", model__write="codes",
)  # fmt: skip
CONVNEXT = dict(
  model__patch_codec="convnext", model__unet_blocks=2, data__patch_size=4,
  data__seq_len=480,
)  # fmt: skip


DENOISER = dict(
  denoiser__depth=2, denoiser__width=24, denoiser__heads=3, denoiser__kv_heads=1,
  denoiser__head_dim=16, denoiser__mlp_width=40, model__time_injection="token",
)  # fmt: skip


@pytest.mark.parametrize(
  "knobs", [{}, CODES, CONVNEXT, DENOISER],
  ids=["diffusion", "codes", "convnext", "denoiser"],
)  # fmt: skip
def test_by_hand_is_what_the_forward_pass_multiplies(knobs):
  """To the last product: the hand count and the traced one are of the same thing."""
  c = small.scenes(**knobs)
  loader = tasks.make_loader(c)
  task = tasks.make_task(c, loader.vocab)
  key = jax.eval_shape(jax.random.key, 0)
  params = jax.eval_shape(lambda k: nn.unbox(task.init_params(k)), key)
  batch = compiled.shapes(loader.batch(0), c.train.batch_size)
  loss = lambda p, b, k: task.loss(p, b, k)[0]
  parts = flops.forward(c, loader.vocab, flops.everything(c))
  rows = c.train.batch_size
  assert products.count(loss, params, batch, key) == rows * sum(parts.values())


def test_attention_counts_the_keys_that_the_mask_shows():
  """A row of two documents: 4 text positions, and 3 before and 2 after an image of 4.

  BOS a b EOS sees 1 + 2 + 3 + 4; BOS BOI p p p p EOI EOS sees 1 + 2, then each patch
  all six, then 7 + 8.
  """
  c = small.config()
  row = small.batch(c, [small.plain("ab"), small.plain(1)])
  layout = flops.measure(row, "bidirectional")
  assert layout.visible == (1 + 2 + 3 + 4) + (1 + 2) + 4 * 6 + (7 + 8)
  assert (layout.tokens, layout.patches, layout.images) == (12, 4, 1)
  assert layout.padding == pytest.approx(1 - 12 / 64)
  assert flops.measure(row, "causal").visible == layout.visible - (0 + 1 + 2 + 3)
  m = c.model
  counted = flops.forward(c, small.VOCABULARY.size, layout)["attention"]
  assert counted == 2 * 2 * m.depth * m.heads * m.head_dim * layout.visible


def test_attention_counts_no_keys_of_hidden_copies():
  """BOS BOI, a hidden image of 4, its clean copy, EOI a EOS."""
  c = small.config(data__clean_copy=True)
  layout = flops.measure(small.batch(c, [small.plain(1, "a")]), "bidirectional")
  assert layout.visible == (1 + 2) + 4 * 6 + 4 * 6 + (7 + 8 + 9)
  assert (layout.tokens, layout.patches, layout.images) == (13, 8, 2)


def test_only_what_a_position_goes_through_is_counted():
  """Copies are free; routed experts cost their share, and a router."""
  base = dict(SIZES, model__mlp_width=384, model__experts=8)

  def counted(**knobs):
    c = small.config(**{**base, **knobs})
    return flops.forward(c, small.VOCABULARY.size, flops.everything(c))

  dense = counted()
  assert counted(model__sharing="ffn") == counted(model__sharing="full") == dense
  routed = counted(
    model__sharing="experts", model__experts_per_token=2, model__shared_experts=1,
    model__expert_width=128,
  )  # fmt: skip
  m = small.config(**base)
  router = 2 * m.model.depth * m.data.seq_len * m.model.width * m.model.experts
  assert routed == {**dense, "mlp": dense["mlp"] + router}


@pytest.mark.parametrize("sharing", SHARING)
def test_every_way_of_sharing_is_counted(sharing):
  c = small.config(model__sharing=sharing)
  assert flops.forward(c, small.VOCABULARY.size, flops.everything(c))["mlp"] > 0
