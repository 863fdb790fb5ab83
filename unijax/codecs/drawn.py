"""A codec whose latents are the features of a vision encoder and whose decoder draws.

  features = pool(encoder(pixels))           one vector a square of patches
  decode   = a diffusion transformer solves from noise to pixels, attending to them

Stage 1 of Emu2's visual decoder (Sun et al. 2024): the decoder is trained
apart from whatever will say features later. Where a feature stands is added to it, so
that attention knows it whatever the encoder put in. Drawing begins from one and the
same noise for every picture, so that decoding is a function of the features.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unijax.codecs import artefact
from unijax.codecs.pixels import patchify, unpatchify
from unijax.config_parts import DitConfig, VisionConfig
from unijax.config_sections import (
  DiffusionConfig,
  ModelConfig,
  SampleConfig,
)
from unijax.diffusion import guidance, process, samplers, schedules
from unijax.nn.dit import DiT, sincos
from unijax.nn.dit_blocks import Condition
from unijax.nn.vision import VisionTransformer

KIND = "features"
SECTIONS = {
  "vision": VisionConfig, "dit": DitConfig, "model": ModelConfig,
  "diffusion": DiffusionConfig, "sample": SampleConfig,
}  # fmt: skip
SEED = 0  # of the noise that drawing begins from


@dataclasses.dataclass(frozen=True)
class Drawn:
  """What such a codec computes; weights are `encoder` and `decoder`.

  Attributes:
    vision: shape of the encoder.
    dit: shape of the decoder.
    model: gives the decoder its dtype, remat, attention, norm_eps and rope_theta.
    diffusion: what the decoder predicts, and on which path.
    sample: how it is solved: sampler, steps, guidance, bound.
    only_size: pixels a side of pictures; the encoder has read no others.
    pooling: patches a side of the square whose mean is one feature.
    patch_size: pixels a side of the decoder's patches.
  """

  vision: VisionConfig
  dit: DitConfig
  model: ModelConfig
  diffusion: DiffusionConfig
  sample: SampleConfig
  only_size: int
  pooling: int
  patch_size: int
  draws = True

  @classmethod
  def read(cls, values: Mapping[str, Any]) -> "Drawn":
    """Builds it from the plain values of codec.json."""
    values = {k: v for k, v in values.items() if k != "bottleneck"}
    for name, section in SECTIONS.items():
      values[name] = artefact.section(section, values[name])
    return cls(**values)

  def plain(self) -> dict[str, Any]:
    """The inverse of `read`."""
    sections = {name: artefact.plain(getattr(self, name)) for name in SECTIONS}
    return {"bottleneck": KIND, **dataclasses.asdict(self), **sections}

  def beside(self) -> "Drawn":
    """The same in float32 with what runs on any device: as it is used by others."""
    exact = dict(dtype="float32", remat="none")
    return dataclasses.replace(
      self,
      vision=dataclasses.replace(self.vision, **exact),
      model=dataclasses.replace(self.model, attention="dense", **exact),
    )

  @property
  def stride(self) -> int:
    """Pixels a side of a feature."""
    return self.vision.patch_size * self.pooling

  @property
  def channels(self) -> int:
    """Numbers a feature."""
    return self.vision.width

  @property
  def books(self) -> tuple[int, ...]:
    """There are no codes."""
    return ()

  @property
  def grid(self) -> int:
    """Patches of the decoder along one side of a picture."""
    return self.only_size // self.patch_size

  @property
  def encoder(self) -> VisionTransformer:
    """The module that reads pictures."""
    return VisionTransformer(self.vision, self.only_size)

  @property
  def decoder(self) -> DiT:
    """The module that denoises them."""
    told = self.sample.guidance_told
    return DiT(self.dit, self.model, 3 * self.patch_size**2, self.grid, told)

  def run(self, method: str, params, x):
    """`encode` or `decode` with weights, for `frozen.Weighted`."""
    return {"encode": self.encode, "decode": self.decode}[method](params, x)

  def encode(self, params, pixels_BHWC) -> jax.Array:
    """float in [-1, 1] -> features, float32 [B, H/s, W/s, E].

    Raises:
      ValueError: pictures of another size.
    """
    B, height, width, _ = pixels_BHWC.shape
    if (height, width) != (self.only_size, self.only_size):
      raise ValueError(
        f"pictures of {height}x{width} px; this codec's encoder reads {self.only_size} "
        "px a side and nothing else"
      )
    _, x = self.encoder.apply({"params": params["encoder"]}, pixels_BHWC)
    k, n = self.pooling, self.only_size // self.stride
    x = x.astype(jnp.float32).reshape(B, n, k, n, k, self.channels)
    return x.mean(axis=(2, 4))

  def condition(self, features_BHWE, shown_B=True) -> Condition:
    """What the decoder attends to.

    Args:
      features_BHWE: square grids of features.
      shown_B: where false, nothing is told; for guidance.
    """
    B, n, _, E = features_BHWE.shape
    places = sincos(n, E)  # [n^2, E]
    shown_B = jnp.broadcast_to(shown_B, B)
    vectors = jnp.where(
      shown_B[:, None, None], features_BHWE.reshape(B, n * n, E) + places, 0.0
    )
    return Condition(vectors, jnp.full(B, n * n, jnp.int32))

  def decode(self, params, features_BHWE) -> jax.Array:
    """Features -> pixels, about in [-1, 1], by `sample.steps` of the solver."""
    s, d, B = self.sample, self.diffusion, features_BHWE.shape[0]
    both = s.guidance != 1.0
    told = self.condition(features_BHWE)
    if both:
      nothing = self.condition(features_BHWE, False)
      told = jax.tree.map(lambda *x: jnp.concatenate(x), told, nothing)

    def predict(x, t_B):
      x2, t2 = (jnp.concatenate([y] * (1 + both)) for y in (x, t_B))
      out = self.decoder.apply({"params": params["decoder"]}, x2, t2, told)
      x0 = process.from_kind(d.path, d.predict, out, x2, t2[:, None])[0]
      if both:
        x0 = guidance.guide(
          *jnp.split(x0, 2), t_B, scale=s.guidance, low=s.guidance_low,
          high=s.guidance_high, rescale=s.guidance_rescale,
        )  # fmt: skip
      return jnp.clip(x0, -s.clip_x0, s.clip_x0) if s.clip_x0 else x0

    key = jax.random.key(SEED)
    noise = jax.random.normal(key, (self.grid**2, 3 * self.patch_size**2))
    x = jnp.broadcast_to(noise, (B, *noise.shape))
    keys_B = jnp.broadcast_to(key, B)  # of the steps' noise, where a sampler adds some
    times = schedules.sampler_times(d, s, self.grid**2)
    state = (x, jnp.zeros_like(x))
    x, _ = samplers.solve(s.sampler, d.path, predict, state, times, keys_B, 0, s.steps)
    return unpatchify(x, self.patch_size, self.grid)

  def patches(self, pixels_BHWC) -> jax.Array:
    """float pixels -> what the decoder denoises: [B, P, C]."""
    return patchify(pixels_BHWC, self.patch_size)
