"""The task of decoding: a diffusion transformer draws pictures from their features.

Parameters are `codec/encoder` and `codec/decoder`, and the frozen artefact holds both.
Configs rest the encoder (`optim.freeze = ("codec/encoder/*",)`); without that it would
be trained along.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from jax.sharding import Mesh

from unijax.codecs.drawn import Drawn
from unijax.config import Config, ConfigError, VisionConfig
from unijax.data.picture_loader import PictureLoader
from unijax.diffusion import process, schedules
from unijax.nn.vision import normalised
from unijax.scale import layout
from unijax.train.drawing import denoising_error
from unijax.train.encoders import FrozenEncoder, open_encoder
from unijax.train.tasks import Task
from unijax.types import Pictures, Sum
from unijax.write import base, losses
from unijax.write.diffusion import picture_noise


def form(config: Config) -> Drawn:
  """Returns what a run trains: the shape of encoder and decoder.

  Raises:
    ConfigError: no encoder where `codec.encoder` says, or one of other pictures.
  """
  return Drawn(
    vision=_vision(config), dit=config.dit, model=config.model,
    diffusion=config.diffusion, sample=config.sample,
    only_size=config.data.image_size, pooling=config.codec.pooling,
    patch_size=config.data.patch_size,
  )  # fmt: skip


def _vision(config: Config) -> VisionConfig:
  name, size = config.codec.encoder, config.data.image_size
  if not name:
    return config.vision
  encoder = _opened(name)
  if encoder.image_size != size:
    raise ConfigError(
      f"data.image_size: {size}, but the encoder of codec.encoder={name!r} was trained "
      f"on {encoder.image_size} pixels: use that"
    )
  patches, width = size // encoder.config.patch_size, encoder.config.width
  if patches % config.codec.pooling:
    raise ConfigError(
      f"codec.pooling: {config.codec.pooling} must divide the {patches} patches along "
      f"a side of the encoder of codec.encoder={name!r}"
    )
  if width % 4:
    raise ConfigError(f"codec.encoder: its width {width} is not a multiple of 4")
  return encoder.config


@functools.lru_cache(2)  # every measurement of a run asks for its shape
def _opened(name: str) -> FrozenEncoder:
  return open_encoder(name, "codec.encoder")


class DecoderTask(Task):
  """A diffusion transformer on pictures, told their features."""

  shown = (("image", "image_mse"),)
  loader = staticmethod(PictureLoader)

  def __init__(self, config: Config, vocab: int):
    super().__init__(config, vocab)
    self.form = form(config)
    self.model = self.form.decoder

  def init_params(self, key):
    """See `Task`. The encoder's are those of `codec.encoder`, if there is one."""
    f, size = self.form, self.form.only_size
    one, other = jax.random.split(key)
    make = functools.partial(f.encoder.init, one, jnp.zeros((1, size, size, 3)))
    if self.config.codec.encoder:
      known = _opened(self.config.codec.encoder).params
      encoder = _filled(jax.eval_shape(make)["params"], known)
    else:
      encoder = make()["params"]
    n = size // f.stride
    told = f.condition(jnp.zeros((1, n, n, f.channels)))
    x = jnp.zeros((1, f.grid**2, 3 * f.patch_size**2))
    decoder = f.decoder.init(other, x, jnp.zeros(1), told)["params"]
    return {"codec": {"encoder": encoder, "decoder": decoder}}

  def total_weights(self, batch: Pictures):
    """Number of pictures."""
    return jnp.float32(batch.pixels_BHWC.shape[0])

  def loss(self, params, batch: Pictures, key, weights=None):
    """The denoising loss: a mean over a picture's numbers, then over pictures.

    A share `data.caption_dropout` of the pictures is drawn without features.
    """
    weights = self.total_weights(batch) if weights is None else weights
    d, f, params = self.config.diffusion, self.form, params["codec"]
    pixels = normalised(batch.pixels_BHWC)
    patches = f.patches(pixels)
    uniform_B, epsilon = picture_noise(key, batch.key_B, patches.shape[1:])
    time_B = schedules.sample_time(d, uniform_B)
    time_BP = jnp.broadcast_to(time_B[:, None], patches.shape[:2])
    noised = process.corrupt(d.path, patches, epsilon, time_BP)
    shown_B = self._uniform(key, batch.key_B) >= self.config.data.caption_dropout
    told = f.condition(f.encode(params, pixels), shown_B)
    out = f.decoder.apply({"params": params["decoder"]}, noised, time_B, told)
    error_BP = denoising_error(self.config, out, noised, patches, epsilon, time_BP)
    error_B, one_B = error_BP.mean(axis=1), jnp.ones_like(time_B)
    levels = losses.by_noise(error_B[:, None], time_B[:, None], one_B[:, None])
    loss = Sum(error_B.sum(), weights).mean()
    one = jnp.ones(())
    positions = jnp.float32(noised.shape[0] * noised.shape[1])
    sums = {
      "loss": Sum(loss, one), "image_mse": Sum(error_B.sum(), one_B.sum()),
      "image_mse_by_noise": levels, "tokens": Sum(positions, one),
    }  # fmt: skip
    return loss, {n: clu_metrics.Average(s.value, s.weight) for n, s in sums.items()}

  def _uniform(self, key, key_B):
    """In (0, 1), one a picture; `picture_noise` uses no number 0 of a picture."""

    def one(picture):
      return base.uniform(jax.random.fold_in(jax.random.fold_in(key, picture), 0))

    return jax.vmap(one)(key_B)

  def batch_axes(self) -> Pictures:
    """See `Task`."""
    return Pictures(("batch", None, None, None), ("batch",))

  def check(self, mesh: Mesh) -> None:
    """See `Task`."""
    super().check(mesh)
    layout.check_heads(mesh, "dit", heads=self.config.dit.heads)
    layout.check_heads(mesh, "vision", heads=self.form.vision.heads)

  def describe(self) -> str:
    """See `Task`."""
    return f"pictures of {self.config.data.image_size} pixels with their features"


def _filled(boxes, known):
  """Puts known weights into boxes of shapes; what else is known is left out.

  Raises:
    ConfigError: one is missing, or has another shape.
  """
  leaves = jax.tree_util.tree_leaves_with_path(known)
  found = {jax.tree_util.keystr(path): x for path, x in leaves}

  def pick(path, shape):
    name = jax.tree_util.keystr(path)
    if name not in found or found[name].shape != shape.shape:
      raise ConfigError(f"codec.encoder: it has no weight {name} of {shape.shape}")
    return jnp.asarray(found[name])

  weights = jax.tree_util.tree_map_with_path(pick, nn.unbox(boxes))
  return nn.meta.replace_boxed(boxes, weights)
