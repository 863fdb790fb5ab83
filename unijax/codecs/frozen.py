"""A trained codec for others to use: pixels to latents or codes, and back."""

import contextlib
import functools
import math

import jax
import numpy as np

from unijax.codecs import artefact, model
from unijax.codecs.blocks import checked
from unijax.codecs.bottlenecks import BOTTLENECKS
from unijax.config_sections import CodecConfig

MOST_CODES = 2**20  # a place whose codes make more combinations has no one code


def section(values: dict) -> CodecConfig:
  """Returns the section of a config from the plain values of codec.json."""
  lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
  return CodecConfig(**{**values, **lists})


def codebook(config: CodecConfig) -> int:
  """Number of codes a place may have; 0 where latents are continuous only.

  Several codes of a place are one number, whose digits they are.
  """
  books = BOTTLENECKS[config.bottleneck].codebooks(config)
  codes = math.prod(books) if books else 0
  return codes if codes <= MOST_CODES else 0


class Weighted:
  """An autoencoder with weights: functions from arrays to arrays, compiled.

  Pictures are encoded one by one, so that what a picture becomes does not depend on
  those beside it, and cached latents equal live ones bit for bit. All runs in float32
  on the CPU where there is one: loaders call it beside the accelerator's work.

  Args:
    config: section `codec`.
    params: weights of `model.Autoencoder`.
    shift, scale: of latents.
  """

  def __init__(self, config: CodecConfig, params, shift: float = 0.0, scale=1.0):
    self.config, self.shift, self.scale = config, shift, scale
    self.stride, self.channels = model.stride(config), config.channels
    self.codebook = codebook(config)
    self._books = BOTTLENECKS[config.bottleneck].codebooks(config)
    with _beside():
      self._params = jax.device_put(params)
    self._encode, self._decode, self._codes, self._entries = (
      _compiled(config, method) for method in ("encode", "decode", "codes", "entries")
    )

  def encode(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] -> float32 [..., h/stride, w/stride, channels]."""
    latents = self._each(self._encode, self._scaled(pixels))
    return (latents - np.float32(self.shift)) * np.float32(self.scale)

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """float [..., h, w, channels] -> uint8 [..., h*stride, w*stride, 3]."""
    latents = np.asarray(latents, np.float32) / np.float32(self.scale)
    return _to_bytes(self._each(self._decode, latents + np.float32(self.shift)))

  def codes(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] -> int32 [..., h/stride, w/stride]."""
    digits = self._each(self._codes, self._scaled(pixels))
    return np.ravel_multi_index(np.moveaxis(digits, -1, 0), self._books).astype(
      np.int32
    )

  def digits(self, pixels: np.ndarray):
    """Yields (codes of the book, int [..., h/stride, w/stride]) of each codebook."""
    if self._books:
      found = self._each(self._codes, self._scaled(pixels))
      yield from zip(self._books, np.moveaxis(found, -1, 0), strict=True)

  def from_codes(self, codes: np.ndarray) -> np.ndarray:
    """int32 [..., h, w] -> uint8 [..., h*stride, w*stride, 3].

    Raises:
      ValueError: a code outside of the codebook.
    """
    codes = checked(codes, self.codebook)
    digits = np.stack(np.unravel_index(codes, self._books), -1).astype(np.int32)
    latents = self._each(self._entries, digits)
    return _to_bytes(self._each(self._decode, latents))

  def _scaled(self, pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)

  def _each(self, function, x: np.ndarray) -> np.ndarray:
    """Applies a compiled function to [..., h, w, c], one picture at a time."""
    flat = x.reshape(-1, 1, *x.shape[-3:])
    with _beside():
      out = [np.asarray(function(self._params, one)) for one in flat]
    return np.concatenate(out).reshape(*x.shape[:-3], *out[0].shape[1:])


class FrozenCodec(Weighted):
  """The codec of an artefact.

  Args:
    name: path of the run that trained it.

  Attributes:
    identity: see `artefact.About.identity`.

  Raises:
    ConfigError: there is no artefact, or it is damaged.
  """

  def __init__(self, name: str):
    about = artefact.read(name)
    weights = artefact.read_weights(name, about)
    super().__init__(section(about.codec), weights, about.shift, about.scale)
    self.identity = about.identity()


def _to_bytes(pixels) -> np.ndarray:
  return np.clip(np.rint((pixels + 1.0) * 127.5), 0, 255).astype(np.uint8)


@functools.cache
def _compiled(config: CodecConfig, method: str):
  """A method of the autoencoder of a config, compiled once: (params, x) -> array."""
  net = model.Autoencoder(config)
  return jax.jit(lambda params, x: net.apply({"params": params}, x, method=method))


@functools.cache
def _cpu():
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError:  # JAX was told to see accelerators only
    return jax.local_devices()[0]


@contextlib.contextmanager
def _beside():
  """Runs on the CPU, free to move arrays, whatever the caller's context."""
  with jax.default_device(_cpu()), jax.transfer_guard("allow"):
    yield
