"""AutoencoderKLWan of diffusers, which takes clips in pieces, against our codec."""

from tests.interop import numbers
from tests.interop.cases import Case, Wrong, loaded


def build(published):
  from diffusers import AutoencoderKLWan

  return AutoencoderKLWan.from_config(published)


def load(folder):
  from diffusers import AutoencoderKLWan

  return loaded(AutoencoderKLWan, folder)


def other_names(published, forms):
  """Names of the original layout, by the library's converter, which knows one shape."""
  import torch
  from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

  if (len(published["dim_mult"]), published["num_res_blocks"]) != (4, 2):
    return {}
  names = list(original())
  marked = {n: torch.tensor(i) for i, n in enumerate(names)}
  converted = convert_wan_vae_to_diffusers(marked)
  first = {n: names[int(x)] for n, x in converted.items() if n in forms}
  assert first.keys() == forms.keys()
  shapes = {n: shape for n, (_, shape) in forms.items()}
  return {
    "original": {n: (o, shapes[n]) for n, o in first.items()},
    "in a whole model": {n: (f"vae.{n}", s) for n, s in shapes.items()},
  }


def original():
  """All names that the original layout may have."""
  block = ("residual.0", "residual.2", "residual.3", "residual.6", "shortcut")
  between = ("resample.1", "time_conv")
  bare = ["conv1", "conv2"]
  stacks = ("encoder", "downsamples", 11), ("decoder", "upsamples", 15)
  for half, stack, count in stacks:
    bare += [f"{half}.{x}" for x in ("conv1", "head.0", "head.2")]
    bare += [f"{half}.middle.{n}.{x}" for n in (0, 2) for x in block]
    bare += [f"{half}.middle.1.{x}" for x in ("norm", "to_qkv", "proj")]
    bare += [f"{half}.{stack}.{n}.{x}" for n in range(count) for x in block + between]
  return [f"{name}.{x}" for name in bare for x in ("weight", "bias", "gamma")]


def peer(model, inputs):
  import torch

  def clip(x):
    frames = torch.from_numpy(x if x.ndim == 5 else x[:, None])
    return frames.permute(0, 4, 1, 2, 3)

  def channels_last(x):
    frames = x.permute(0, 2, 3, 4, 1).numpy()
    return frames if inputs["pixels"].ndim == 5 else frames[:, 0]

  pieces = []  # decode() cuts at -1 and 1
  handle = model.decoder.register_forward_hook(lambda *x: pieces.append(x[2]))
  model.decode(clip(inputs["latents"]))
  handle.remove()
  drawn = model.encode(clip(inputs["pixels"])).latent_dist
  mean, std = (
    torch.tensor(x).reshape(1, -1, 1, 1, 1)
    for x in (model.config.latents_mean, model.config.latents_std)
  )
  outputs = {
    "mean": drawn.mean, "log_variance": drawn.logvar,
    "scaled": (drawn.mean - mean) / std, "pixels": torch.cat(pieces, 2),
  }  # fmt: skip
  return {name: channels_last(x) for name, x in outputs.items()}


def ours(config, params, inputs):
  import jax
  import jax.numpy as jnp

  from unijax.codecs.model import Autoencoder

  model, codec = Autoencoder(config.codec), config.codec

  @jax.jit
  def run(params, pixels, latents):
    weights = {"params": params["codec"]}
    moments = lambda m, x: m.bottleneck.moments(m.encoder(x))
    return (
      *model.apply(weights, pixels, method=moments),
      model.apply(weights, latents, method="decode"),
    )

  mean, log_variance, drawn = run(params, inputs["pixels"], inputs["latents"])
  shift, scale = jnp.float32(codec.shift), jnp.float32(codec.scale)
  return {
    "mean": mean, "log_variance": log_variance, "scaled": (mean - shift) * scale,
    "pixels": drawn,
  }  # fmt: skip


def small(multipliers, halves_time, **fields):
  levels, channels = len(multipliers), 6
  return {
    "_class_name": "AutoencoderKLWan", "base_dim": 4, "dim_mult": list(multipliers),
    "num_res_blocks": 1, "temperal_downsample": list(halves_time), "z_dim": channels,
    "latents_mean": [0.1 * i - 0.3 for i in range(channels)],
    "latents_std": [0.5 + 0.3 * i for i in range(channels)],
    "scale_factor_spatial": 2 ** (levels - 1), **fields,
  }  # fmt: skip


def inputs(height, width, stride, *frames):
  """Pictures that are no squares, or a clip, and latents of another shape."""
  clips = [(1, n) for n in frames] or [(2,), (1,)]

  def make():
    grid = width // stride, height // stride, 6
    return {
      "pixels": numbers.picture("pixels", *clips[0], height, width, 3),
      "latents": numbers.normal("latents", *clips[1], *grid),
    }

  return make


def first_of_kernel(x, kernel, strides, padding, **_):
  """What the other end of the kernels makes of a picture."""
  import jax

  numbers = ("NHWC", "HWIO", "NHWC")
  y = jax.lax.conv_general_dilated(
    x[:, 0], kernel[0], strides[1:], padding[1:], dimension_numbers=numbers
  )
  return y[:, None]


def half_by_half(x):
  """Two frames of each, of channels that take turns."""
  return x.reshape(x.shape[0], 2 * x.shape[1], *x.shape[2:4], -1)


PUBLISHED = small((1, 2, 4, 4), (False, True, True), num_res_blocks=2)
SYSTEM = "wan_vae"
CASES = (
  Case(
    "wan-vae-loud", SYSTEM, PUBLISHED, "loud", inputs(45, 26, 8),
    {"kernel": Wrong(patch={"unijax.codecs.frames._of_picture": first_of_kernel}),
     "deviation": Wrong(published={"latents_std": [1.0] * 6})},
  ),
  Case(
    "wan-vae-clip", SYSTEM, small((1, 2, 2), (True, True)), "loud",
    inputs(14, 11, 4, 9, 3),
    {"order": Wrong(patch={"unijax.codecs.frames.two_of_each": half_by_half})},
  ),
  Case(
    "wan-vae-quiet", SYSTEM, small((2, 3), (True,)), "quiet", inputs(11, 6, 2, 5, 3),
    {"norms": Wrong(patch={"unijax.codecs.layers.SHORTEST": 0.02})}, slow=True,
  ),
  Case(
    "wan-vae-mixed", SYSTEM, small((1, 2, 4), (False, True), num_res_blocks=2), "quiet",
    inputs(13, 10, 4, 13, 4), slow=True,
  ),
)  # fmt: skip
