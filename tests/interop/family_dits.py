"""Transformers of Stable Diffusion 3 and FLUX.1 of diffusers against ours.

Both are told given vectors; pictures are drawn by our own sampling, and by a loop over
the library's transformer with the library's own scheduler, from the same noise. Ours are
squares, so theirs are, too.
"""

import dataclasses
import json

import numpy as np

from tests.interop import from_noise, numbers
from tests.interop.cases import Case, Wrong, loaded

CHANNELS, SIDE = 4, 4  # of latents; patches a side
WIDTH, POOLED = 12, 10  # of vectors that are told
LENGTHS = 5, 3  # of what is told
TIMES, STEPS = (0.2, 0.7), 6
GUIDANCE, TOLD = 3.0, 3.5  # contrasted with another condition; told as a number
DIT, SAMPLE = {}, {}  # knobs, of a mistake


class Pipeline:
  """What a folder of a pipeline has, without encoders of text."""

  def __init__(self, transformer, vae, scheduler):
    self.transformer, self.vae, self.scheduler = transformer, vae, scheduler

  def save_pretrained(self, folder):
    for name in ("transformer", "vae", "scheduler"):
      getattr(self, name).save_pretrained(folder / name)


def kind(published):
  import diffusers

  return getattr(diffusers, published["_class_name"])


def build(published):
  from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

  return Pipeline(
    kind(published["transformer"]).from_config(published["transformer"]),
    AutoencoderKL.from_config(published["vae"]),
    FlowMatchEulerDiscreteScheduler.from_config(published["scheduler"]),
  )


def load(folder):
  from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

  published = json.loads((folder / "transformer" / "config.json").read_text())
  return Pipeline(
    loaded(kind(published), folder / "transformer"),
    loaded(AutoencoderKL, folder / "vae"),
    FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
  )


# -- the library ---------------------------------------------------------------------------


def latents(x):
  """Patches [N, P, (p q c)] -> [N, C, h, w]."""
  cut = x.reshape(-1, SIDE, SIDE, 2, 2, CHANNELS).transpose(0, 5, 1, 3, 2, 4)
  return cut.reshape(-1, CHANNELS, 2 * SIDE, 2 * SIDE)


def patches(z):
  """The inverse of `latents`."""
  cut = np.asarray(z).reshape(-1, CHANNELS, SIDE, 2, SIDE, 2)
  return cut.transpose(0, 2, 4, 3, 5, 1).reshape(-1, SIDE**2, 4 * CHANNELS)


def packed(z):
  """[N, C, h, w] -> [N, P, (c p q)], as the pipeline of FLUX.1 packs them."""
  cut = z.reshape(-1, CHANNELS, SIDE, 2, SIDE, 2).permute(0, 2, 4, 1, 3, 5)
  return cut.reshape(-1, SIDE**2, 4 * CHANNELS)


def unpacked(x):
  """The inverse of `packed`."""
  cut = x.reshape(-1, SIDE, SIDE, CHANNELS, 2, 2).permute(0, 3, 1, 4, 2, 5)
  return cut.reshape(-1, CHANNELS, 2 * SIDE, 2 * SIDE)


def velocity(transformer, z, time, vectors, pooled):
  """The library's velocity at latents [N, C, h, w] and times [N] in 0 .. 1."""
  import torch

  if hasattr(transformer.config, "pos_embed_max_size"):
    return transformer(z, vectors, pooled, 1000 * time, return_dict=False)[0]
  place = torch.arange(SIDE**2)
  ids = torch.stack([0 * place, place // SIDE, place % SIDE], dim=-1).float()
  told = torch.full_like(time, TOLD) if transformer.config.guidance_embeds else None
  out = transformer(
    packed(z), vectors, pooled, time, ids, torch.zeros(vectors.shape[1], 3), told,
    return_dict=False,
  )[0]  # fmt: skip
  return unpacked(out)


def steps(scheduler, flux: bool) -> None:
  """Sets its times as the pipelines do."""
  c = scheduler.config
  if not flux:
    scheduler.set_timesteps(STEPS)
    return
  slope = (c.max_shift - c.base_shift) / (c.max_image_seq_len - c.base_image_seq_len)
  mu = c.base_shift + slope * (SIDE**2 - c.base_image_seq_len)
  scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS), mu=mu)


def peer(model, inputs):
  import torch

  x = {n: torch.from_numpy(np.array(v)) for n, v in inputs.items()}
  z, transformer = torch.from_numpy(latents(inputs["noise"])), model.transformer
  if "drawn" not in inputs:
    time = torch.tensor(TIMES)
    return {
      name: patches(velocity(transformer, z, time, x["vectors"][:, :n], x["pooled"]))
      for name, n in zip(("long", "short"), LENGTHS, strict=True)
    }
  flux = hasattr(transformer.config, "guidance_embeds")
  steps(model.scheduler, flux)
  for t in model.scheduler.timesteps:
    time = t.expand(len(z)) / 1000
    v = velocity(transformer, z, time, x["vectors"], x["pooled"])
    if not flux:
      other = velocity(transformer, z, time, x["negative"], x["negative_pooled"])
      v = other + GUIDANCE * (v - other)
    z = model.scheduler.step(v, t, z, return_dict=False)[0]
  c = model.vae.config
  pixels = model.vae.decode(z / c.scaling_factor + c.shift_factor).sample
  return {"latents": patches(z), "pixels": pixels.permute(0, 2, 3, 1).numpy()}


# -- ours ----------------------------------------------------------------------------------


def ours(config, params, inputs):
  import jax
  import jax.numpy as jnp

  from unijax.data.rows import RowBuilder
  from unijax.data.tokenizer import ByteTokenizer
  from unijax.infer.drawing import DrawingGenerator
  from unijax.nn.dit_blocks import Condition
  from unijax.nn.text_to_image import make_text_to_image

  stride = 2
  told = {"guidance_told": TOLD} if config.dit.guidance else {"guidance": GUIDANCE}
  config = dataclasses.replace(
    from_noise.sampled(config, steps=STEPS, **{**told, **SAMPLE}),
    dit=dataclasses.replace(config.dit, **DIT),
    data=dataclasses.replace(config.data, image_size=2 * SIDE * stride),
  )
  if config.dit.rope_axes:
    config = from_noise.sampled(config, guidance=1.0)

  def condition(vectors, pooled):
    N, S = vectors.shape[:2]
    return Condition(vectors, np.full(N, S, np.int32), pooled)

  if "drawn" in inputs:
    said = condition(inputs["vectors"], inputs["pooled"])
    if config.sample.guidance != 1:
      other = condition(inputs["negative"], inputs["negative_pooled"])
      said = jax.tree.map(lambda *x: np.concatenate(x), said, other)
    builder = RowBuilder(config, ByteTokenizer())
    noise = jnp.asarray(inputs["noise"])
    generator = DrawingGenerator(config, params, builder, len(noise))
    generator.path.begin = lambda caches, keys: (noise, 0 * noise)
    found = generator.latents(said, [0] * len(noise))
    return {"latents": found, "pixels": from_noise.shown(config, found)}
  model = make_text_to_image(config, 0)

  @jax.jit
  def run(params, x, t, told):
    return model.apply({"params": params}, x, t, told, method=model.predict)

  time = jnp.asarray(TIMES)
  return {
    name: run(
      params,
      inputs["noise"],
      time,
      condition(inputs["vectors"][:, :n], inputs["pooled"]),
    )
    for name, n in zip(("long", "short"), LENGTHS, strict=True)
  }


# -- the cases -----------------------------------------------------------------------------


def inputs(what: str):
  def make():
    longest = max(LENGTHS)
    return {
      what: np.ones(1), "noise": numbers.normal("noise", 2, SIDE**2, 4 * CHANNELS),
      "vectors": numbers.normal("vectors", 2, longest, WIDTH),
      "pooled": numbers.normal("pooled", 2, POOLED),
      "negative": numbers.normal("negative", 2, longest, WIDTH),
      "negative_pooled": numbers.normal("negative pooled", 2, POOLED),
    }  # fmt: skip

  return make


VAE = {
  "_class_name": "AutoencoderKL", "block_out_channels": [16, 32],
  "latent_channels": CHANNELS, "layers_per_block": 1, "norm_num_groups": 8,
  "act_fn": "silu", "scaling_factor": 1.5305, "shift_factor": 0.0609,
  "sample_size": 16, "in_channels": 3, "out_channels": 3, "use_quant_conv": False,
  "use_post_quant_conv": False, "down_block_types": ["DownEncoderBlock2D"] * 2,
  "up_block_types": ["UpDecoderBlock2D"] * 2,
}  # fmt: skip
TOLD_IN = {"joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED}
TRANSFORMER = {
  "_class_name": "SD3Transformer2DModel", "sample_size": 2 * SIDE, "patch_size": 2,
  "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": 2,
  "attention_head_dim": 8, "num_attention_heads": 3, "caption_projection_dim": 24,
  "pos_embed_max_size": 9, "dual_attention_layers": [], "qk_norm": None, **TOLD_IN,
}  # fmt: skip
NORMED = {
  **TRANSFORMER,
  "num_layers": 4,
  "dual_attention_layers": [0],
  "qk_norm": "rms_norm",
}
AXES = [4, 8, 4]
FLUX = {
  "_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 4 * CHANNELS,
  "out_channels": None, "num_layers": 2, "num_single_layers": 2,
  "attention_head_dim": 16, "num_attention_heads": 2, "guidance_embeds": True,
  "axes_dims_rope": AXES, **TOLD_IN,
}  # fmt: skip
SCHEDULER = {
  "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
  "shift": 3.0,
}  # fmt: skip
DYNAMIC = {
  **SCHEDULER, "use_dynamic_shifting": True, "base_image_seq_len": 4,
  "max_image_seq_len": 64, "base_shift": 0.5, "max_shift": 1.15,
}  # fmt: skip


def pipeline(transformer, scheduler=SCHEDULER):
  return {"transformer": transformer, "vae": VAE, "scheduler": scheduler}


SD3, SD35 = pipeline(TRANSFORMER), pipeline(NORMED)
DEV = pipeline(FLUX, DYNAMIC)
SCHNELL = pipeline({**FLUX, "guidance_embeds": False}, {**SCHEDULER, "shift": 1.0})


def dit(**knobs):
  return Wrong(patch={"tests.interop.family_dits.DIT": knobs})


def sampled(**knobs):
  return Wrong(patch={"tests.interop.family_dits.SAMPLE": knobs})


def swapped():
  from unijax.interop.ops import COPY, LINEAR

  return Wrong(patch={"configs.released._dit.SWAPPED": (LINEAR, COPY)})


def left_out(op: str):
  """Does nothing in the place of an operation of the table of keys."""
  return Wrong(patch={f"unijax.interop.ops.{op}": lambda _, op=None: _op(op)})


def _op(op):
  from unijax.interop.ops import COPY

  return op or COPY


def moved():
  """The table of places begins one place later."""
  from unijax.interop.ops import Ones

  class Moved(Ones):
    def into(self, theirs):
      return np.roll(super().into(theirs), 1, axis=0)

  return Wrong(patch={"unijax.interop.ops.Ones": Moved})


OTHER_AXES = pipeline({**FLUX, "axes_dims_rope": [4, 4, 8]}, DYNAMIC)
CASES = (
  Case("sd3-dit-loud", "sd3", SD3, "loud", inputs("rows"),
       {"time": dit(time_scale=999.0), "order": swapped(), "places": moved()}),
  Case("sd3-dit-quiet", "sd3", SD3, "quiet", inputs("rows"),
       {"epsilon": dit(norm_eps=1e-5)}, slow=True),
  Case("sd35-dit-loud", "sd3", SD35, "loud", inputs("rows"), slow=True),
  Case("sd35-dit-quiet", "sd3", SD35, "quiet", inputs("rows"),
       {"epsilon": dit(norm_eps=1e-5)}, slow=True),
  Case("sd35-dit-draw", "sd3", SD35, "loud", inputs("drawn"),
       {"times": sampled(schedule_last=0.0)}, slow=True),
  Case("flux-dit-loud", "flux", DEV, "loud", inputs("rows"),
       {"axes": Wrong(published=OTHER_AXES), "patches": left_out("Shuffled"),
        "pairs": left_out("RopePairs"), "order": swapped()}),
  Case("flux-dit-quiet", "flux", DEV, "quiet", inputs("rows"),
       {"epsilon": dit(norm_eps=1e-5)}, slow=True),
  Case("schnell-dit-loud", "flux", SCHNELL, "loud", inputs("rows"), slow=True),
  Case("schnell-dit-quiet", "flux", SCHNELL, "quiet", inputs("rows"), slow=True),
  Case("flux-dit-draw", "flux", DEV, "loud", inputs("drawn"),
       {"told": sampled(guidance_told=3.0), "shift": sampled(schedule_patches=())},
       slow=True),
)  # fmt: skip
