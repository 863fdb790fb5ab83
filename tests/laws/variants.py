"""What the suite of laws runs over: values of the axes, and the documents they see.

A new way to write images, or to share parameters, is covered by its line here.
"""

import functools

import jax
import pytest

from tests import small
from unijax.config import Config
from unijax.config_writes import WRITES
from unijax.data import rows
from unijax.data.document import Document, Image, Text, Turn
from unijax.train import step
from unijax.write import make_write_path

SIZE = 8  # pixels a side: 2 x 2 patches of 4 pixels, or codes of `blocks`
CODES = dict(data__codec="blocks", data__patch_size=1)
SMALL_EYES = dict(
  vision__depth=1, vision__width=16, vision__heads=2, vision__mlp_width=24,
)  # fmt: skip
NATIVE = dict(  # pictures that keep their shape, at most twice as large as they are
  data__fit="native", data__native_pixels=(16, 128), model__connector="merge",
  model__positions="grid", model__rope_sections=(2, 3, 3),
  **{**SMALL_EYES, "vision__depth": 2}, vision__patch_size=2, vision__frames=2,
  vision__positions="none", vision__pool="mean", vision__rope_grid=-1,
  vision__window=2, vision__whole_blocks=(1,), vision__norm_kind="rms",
  vision__mlp="swiglu",
)  # fmt: skip
IN_ORDER = dict(model__image_mask="causal", model__patch_position="learned")

WRITE = {
  "diffusion": dict(diffusion__predict="x0"),
  "codes": dict(model__write="codes", train__z_loss=1e-2, **CODES, **IN_ORDER),
  "masked": dict(model__write="masked", model__patch_position="learned", **CODES),
  "token_diffusion": dict(
    model__write="token_diffusion", model__head_depth=1, model__head_width=16,
    train__token_draws=2, sample__token_steps=3, sample__sampler="ddpm", **IN_ORDER,
  ),
  "gmm": dict(
    model__write="gmm", model__mixtures=3, data__image_tokens=(("line", 10),),
    **IN_ORDER,
  ),
  "regression": dict(
    model__write="regression", model__head_depth=1, model__head_width=16,
    train__regression="cosine", **IN_ORDER,
  ),
  "bridge": dict(
    model__write="bridge", diffusion__predict="x0", bridge__slots=3,
    bridge__connector="encoder", bridge__connector_depth=1, dit__depth=1, dit__width=16,
    dit__heads=2, dit__mlp_width=24, bridge__signal_weight=0.5,
  ),
  "masked_all": dict(
    model__write="masked_all", model__patch_position="learned", model__text_block=4,
    sample__text_steps=3, train__z_loss=1e-2, **CODES,
  ),
  "masked_diffusion": dict(
    model__write="masked_diffusion", model__head_depth=1, model__head_width=16,
    model__patch_position="learned", train__token_draws=2, train__hidden_min=0.3,
    sample__token_steps=3, sample__steps=3,
  ),
  "none": dict(
    model__write="none", model__read="features", data__image_frame="bare", **NATIVE,
  ),
}  # fmt: skip
SHARING = {"shared": {}}
EARLIER = dict(  # features as released encoders give them
  vision__depth=2, vision__skip_blocks=1, vision__features_norm=False,
  vision__mean=(0.4, 0.5, 0.6), vision__std=(0.2, 0.3, 0.2), vision__position_grid=3,
)  # fmt: skip
LISTED = dict(  # codes that a tokenizer has ids for, in an order of its own
  data__vocab=488, data__code_ids=tuple(264 + 5 * i % 216 for i in range(216)),
  data__image_tokens=(("open", 480), ("open", 481), ("line", 482), ("close", 483)),
)  # fmt: skip
READ = {  # each with one way to write; context images alone are read in this way
  "codes-features": dict(
    model__read="features", vision__patch_size=4, model__connector="resampler",
    model__connector_queries=3, **{**SMALL_EYES, **EARLIER}, **WRITE["codes"], **LISTED,
  ),
  "diffusion-both": dict(
    model__read="both", vision__patch_size=2, model__connector="shuffle",
    model__time_injection="token", model__sharing="full", **SMALL_EYES,
    **WRITE["diffusion"],
  ),
  "diffusion-fused": dict(
    model__read="fused", vision__patch_size=4, data__noise_limit=0.0, **SMALL_EYES,
    **WRITE["diffusion"],
  ),
}  # fmt: skip
BLOCKS = {  # of the decoder, each with one way to write
  "codes-layer-parallel": dict(
    model__norm="layer", model__block="parallel", model__qk_norm_kind="layer",
    model__mlp="gelu_tanh", model__bias="all", model__head_bias=True,
    model__rope_fraction=0.5, model__code_adapter="mlp", model__code_width=5,
    data__without_text="padded", **WRITE["codes"],
  ),
  "diffusion-branch-full": dict(
    model__block="branch", model__qk_norm_kind="layer_heads", model__bias="attention",
    model__mlp="gelu", model__sharing="full", model__rope_factor=8.0,
    model__rope_length=32, model__time_injection="adaln", **WRITE["diffusion"],
  ),
  "diffusion-boi": dict(
    model__read="features", vision__patch_size=4, model__feature_begin=True,
    model__time_injection="boi", model__time_waves="sinusoid", model__time_scale=9.0, model__time_features=6,
    model__time_of="data", model__image_mask="causal", data__without_text="hidden",
    **SMALL_EYES, **WRITE["diffusion"],
  ),
}  # fmt: skip
BLOCKS["codes-learned"] = dict(  # positions of a table, features through queries
  model__positions="learned", model__position_rows=70, model__position_first=2,
  model__mlp="relu", model__read="features", model__connector="qformer",
  model__connector_queries=3, vision__patch_size=4, vision__pool="class",
  text__depth=2, text__width=16, text__heads=2, text__mlp_width=24, text__norm="post",
  align__class_seen=True, data__pictures_first=True, **SMALL_EYES, **WRITE["codes"],
)  # fmt: skip
BLOCKS["diffusion-denoiser"] = dict(  # blocks that only denoise, latents read twice
  model__read="fused_latents", vision__patch_size=4, vision__last_norm=False,
  vision__features_norm=False, model__time_injection="token", model__time_token="alone",
  model__patch_out="run", model__qk_norm_eps=1e-6, denoiser__depth=2,
  denoiser__width=24, denoiser__heads=4, denoiser__kv_heads=2, denoiser__head_dim=6,
  denoiser__mlp_width=32, denoiser__last_eps=1e-6, denoiser__rope_factor=8.0,
  denoiser__rope_length=32, **SMALL_EYES, **WRITE["diffusion"],
)  # fmt: skip
FRAMED = {  # images with what frames them, and words of a task around them
  "masked-framed": dict(
    model__image_mask="framed", data__pictures_first=True, data__marks=(("#", 263),),
    data__chat=(
      ("begin", "."), ("user", "U"), ("assistant", "A"), ("image_begin", "#m"),
      ("draw_begin", "#"), ("draw_user", ""), ("draw_image", "!"),
    ),
    sample__confidence_decay="product", **WRITE["masked"],
  ),
}  # fmt: skip
FRAMED["diffusion-framed"] = dict(  # likewise, of images that are noised, read as needed
  model__image_mask="framed", model__sharing="full", model__positions="shared",
  model__patch_position="fixed", model__patch_grid=3, model__time_waves="sinusoid",
  model__read="needed", model__feature_position="fixed",
  model__connector_activation="gelu_tanh", vision__image_size=10, vision__patch_size=5,
  vision__position_grid=4, vision__position_resize="corner",
  data__without_text="bare", data__clean_copy=True, data__noise_limit=0.0,
  data__images_per_row=8, data__chat=(("begin", ""), ("user", "U"), ("assistant", "A")),
  sample__guidance_renorm="patch", **SMALL_EYES, **WRITE["diffusion"],
)  # fmt: skip
# Each value of an axis meets some of the others.
VARIANTS = {f"{w}-{s}": {**WRITE[w], **SHARING[s]} for w in WRITE for s in SHARING}
COPIES = dict(data__clean_copy=True, data__images_per_row=8)
VARIANTS |= {f"{w}-copies": {**WRITE[w], **COPIES} for w in WRITE if WRITES[w].whole}
VARIANTS |= READ | BLOCKS | FRAMED
# What the suite runs over; the slow part of it has what is mostly told by the others.
SLOW = (
  "diffusion-both", "diffusion-branch-full", "diffusion-framed", "diffusion-boi",
  "diffusion-denoiser", "codes-learned",
)  # fmt: skip
CASES = [
  pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
  for name in VARIANTS
]


@functools.cache
def config(name: str, **knobs) -> Config:
  """The smallest config of a variant that has everything."""
  base = dict(
    data__image_size=SIZE, data__patch_size=4, data__seq_len=64, data__noise_limit=0.5,
    data__images_per_row=6,
  )  # fmt: skip
  return small.config(**{**base, **VARIANTS[name], **knobs})


def image(seed: int, context: bool = False):
  return small.image(seed, context, SIZE)


def documents(c: Config):
  """Those that a config can lay out: without target images, where none is written."""
  if not c.write.never:
    return DOCUMENTS
  reads = lambda p: isinstance(p, Image) and not p.context
  return [Document(tuple(p for p in d.parts if not reads(p)), d.id) for d in DOCUMENTS]


DOCUMENTS = (
  Document((Turn("user"), Text("a red dog", False), Turn("assistant"), image(1)), 1),
  Document((Turn("user"), image(2, True), Turn("assistant"), Text("blue")), 2),
  Document((Text("only text"),), 3),
  Document((image(4), image(5)), 4),
  Document((Text("x"), image(6), Text("y"), image(7), Text("z")), 5),
)
ROWS = len(DOCUMENTS)


def in_rows(c: Config, *places):
  """Five rows that hold the documents at the given places; the rest are padding."""
  b = small.builder(c)
  known = documents(c)
  packed = [[b.layout(known[i], key=i) for i in row] for row in places]
  packed += [[]] * (ROWS - len(packed))
  return rows.stack([b.row(layouts) for layouts in packed])


def path(c: Config):
  """The way a config writes images."""
  return make_write_path(c, small.builder(c).vocabulary.size)


@functools.cache
def loss_and_gradient(name: str):
  """Compiled (params, batch, key, weights) -> ((loss, metrics), gradients)."""
  c = config(name)
  model = small.functions(c).model

  def run(params, batch, key, weights):
    loss = lambda p: step.loss_fn(p, model, c, batch, key, weights)
    return jax.value_and_grad(loss, has_aux=True)(params)

  return jax.jit(run, compiler_options=small.QUICK)


@functools.cache
def hidden(name: str):
  """Compiled whole rows without a cache: (params, Inputs) -> (h_BTD, logits_BTV)."""
  model = small.functions(config(name)).model

  def both(m, inputs):
    h_BTD = m.hidden(inputs)[0]
    return h_BTD, m.logits(h_BTD)

  run = lambda params, inputs: model.apply({"params": params}, inputs, method=both)
  return jax.jit(run, compiler_options=small.QUICK)
