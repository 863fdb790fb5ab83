"""AutoencoderKL of diffusers against our autoencoder."""

from tests.interop import numbers
from tests.interop.cases import Case, Wrong, loaded


def build(published):
  from diffusers import AutoencoderKL

  return AutoencoderKL.from_config(published)


def load(folder):
  from diffusers import AutoencoderKL

  return loaded(AutoencoderKL, folder)


def other_names(published, forms):
  """Names of the original layout, by the library's converter, and older ones of it."""
  import torch
  from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

  names = list(original(published))
  marked = {n: torch.full((1, 1, 1, 1), i) for i, n in enumerate(names)}
  converted = convert_ldm_vae_checkpoint(marked, published)
  first = {n: names[int(x.flatten()[0])] for n, x in converted.items() if n in forms}
  assert first.keys() == forms.keys()
  shapes = {n: shape for n, (_, shape) in forms.items()}
  convs = {n: (*s, 1, 1) if len(s) == 2 else s for n, s in shapes.items()}
  old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
  before = {}
  for name in forms:
    for new, word in old.items():
      if f"attentions.0.{new}." in name:
        before[name] = name.replace(new, word), shapes[name]
  whole = {n: (f"first_stage_model.{o}", convs[n]) for n, o in first.items()}
  return {
    "original": {n: (o, convs[n]) for n, o in first.items()},
    "in a whole checkpoint": whole, "attention of before 0.19": before,
  }  # fmt: skip


def original(published):
  """All names that the original layout has for this shape."""
  levels, blocks = len(published["block_out_channels"]), published["layers_per_block"]
  parts = ("norm1", "conv1", "norm2", "conv2", "nin_shortcut")
  bare = ["quant_conv", "post_quant_conv"]
  for half in ("encoder", "decoder"):
    bare += [f"{half}.{x}" for x in ("conv_in", "norm_out", "conv_out")]
    bare += [f"{half}.mid.block_{i}.{x}" for i in (1, 2) for x in parts]
    bare += [f"{half}.mid.attn_1.{x}" for x in ("norm", "q", "k", "v", "proj_out")]
  for level in range(levels):
    bare += [
      f"encoder.down.{level}.block.{b}.{x}" for b in range(blocks) for x in parts
    ]
    bare += [
      f"decoder.up.{level}.block.{b}.{x}" for b in range(blocks + 1) for x in parts
    ]
    bare += [f"encoder.down.{level}.downsample.conv"] * (level < levels - 1)
    bare += [f"decoder.up.{level}.upsample.conv"] * (level > 0)
  return [f"{name}.{x}" for name in bare for x in ("weight", "bias")]


def peer(model, inputs):
  import torch

  pixels = torch.from_numpy(inputs["pixels"]).permute(0, 3, 1, 2)
  latents = torch.from_numpy(inputs["latents"]).permute(0, 3, 1, 2)
  drawn = model.encode(pixels).latent_dist
  scale, shift = model.config.scaling_factor, model.config.shift_factor or 0.0
  outputs = {
    "mean": drawn.mean,
    "log_variance": drawn.logvar,
    "scaled": (drawn.mean - shift) * scale,
    "pixels": model.decode(latents).sample,
  }
  return {name: x.permute(0, 2, 3, 1).numpy() for name, x in outputs.items()}


def ours(config, params, inputs):
  import jax
  import jax.numpy as jnp

  from unijax.codecs.model import Autoencoder

  model = Autoencoder(config.codec)

  @jax.jit
  def run(params, pixels, latents):
    def moments(m, x):
      return m.bottleneck.moments(m.encoder(x))

    weights = {"params": params["codec"]}
    mean, log_variance = model.apply(weights, pixels, method=moments)
    drawn = model.apply(weights, latents, method="decode")
    return mean, log_variance, drawn

  mean, log_variance, drawn = run(params, inputs["pixels"], inputs["latents"])
  codec = config.codec
  scaled = (mean - codec.shift) * jnp.float32(codec.scale)
  return {
    "mean": mean, "log_variance": log_variance, "scaled": scaled, "pixels": drawn,
  }  # fmt: skip


def small(widths, **fields):
  levels = len(widths)
  return {
    "_class_name": "AutoencoderKL", "block_out_channels": list(widths),
    "down_block_types": ["DownEncoderBlock2D"] * levels,
    "up_block_types": ["UpDecoderBlock2D"] * levels, "in_channels": 3,
    "out_channels": 3, "act_fn": "silu", "sample_size": 32, "norm_num_groups": 4,
    **fields,
  }  # fmt: skip


def inputs(height, width, channels, levels):
  """Two pictures that are no squares, and latents of another shape."""
  stride = 2 ** (levels - 1)

  def make():
    return {
      "pixels": numbers.picture("pixels", 2, height, width, 3),
      "latents": numbers.normal(
        "latents", 1, width // stride, height // stride, channels
      ),
    }

  return make


CONVS = small((8, 16, 16), layers_per_block=2, latent_channels=4)
NO_CONVS = {
  **small((16, 32), layers_per_block=1, latent_channels=16),
  "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
EPSILON = "unijax.codecs.layers.NORM_EPSILON"
SYSTEM = "autoencoder_kl"
CASES = (
  Case(
    "sd-loud", SYSTEM, {**CONVS, "scaling_factor": 0.18215}, "loud",
    inputs(29, 18, 4, 3), {"groups": Wrong(published={"norm_num_groups": 2})},
  ),
  Case(
    "sdxl-quiet", SYSTEM, {**CONVS, "scaling_factor": 0.13025}, "quiet",
    inputs(29, 18, 4, 3), {"epsilon": Wrong(patch={EPSILON: 1e-5})},
  ),
  Case(
    "sd3-quiet", SYSTEM,
    {**NO_CONVS, "scaling_factor": 1.5305, "shift_factor": 0.0609}, "quiet",
    inputs(14, 23, 16, 2), {"shift": Wrong(published={"shift_factor": 0.0})},
  ),
  Case(
    "flux-loud", SYSTEM,
    {**NO_CONVS, "scaling_factor": 0.3611, "shift_factor": 0.1159}, "loud",
    inputs(14, 23, 16, 2), {"scale": Wrong(published={"scaling_factor": 0.3613})},
  ),
)  # fmt: skip
