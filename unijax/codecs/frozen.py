"""A trained codec for others to use: pixels to latents or codes, and back."""

import contextlib
import functools
import math

import jax
import numpy as np

from unijax.codecs import artefact
from unijax.codecs.blocks import checked
from unijax.codecs.drawn import Drawn
from unijax.codecs.model import Convolutional
from unijax.config_parts import CodecConfig
from unijax.errors import ConfigError

Form = Convolutional | Drawn
READ = {"features": Drawn.read}  # by `bottleneck`; the others are autoencoders
MOST_CODES = 2**20  # a place whose codes make more combinations has no one code


def section(values: dict) -> CodecConfig:
  """Returns the section of a config from the plain values of codec.json."""
  return Convolutional.read(values).config


def form(values: dict) -> Form:
  """Returns what the plain values of codec.json describe.

  Raises:
    ConfigError: knobs of another version.
  """
  try:
    return READ.get(values["bottleneck"], Convolutional.read)(values)
  except (KeyError, TypeError) as error:
    raise ConfigError(
      f"data.codec: was written by another version ({error}): write it anew with "
      "`unijax eval --workdir=RUN`"
    ) from error


def codebook(config: CodecConfig) -> int:
  """Number of codes a place may have; 0 where latents are continuous only.

  Several codes of a place are one number, whose digits they are.
  """
  return _codes(Convolutional(config).books)


def _codes(books) -> int:
  codes = math.prod(books) if books else 0
  return codes if codes <= MOST_CODES else 0


class Weighted:
  """A codec with weights: functions from arrays to arrays, compiled.

  Pictures are encoded one by one, so that what a picture becomes does not depend on
  those beside it, and cached latents equal live ones bit for bit. All runs in float32
  on the CPU where there is one: loaders call it beside the accelerator's work.

  Args:
    form: its shape, and what it computes.
    params: its weights.
    shift, scale: of latents, each a number or one a channel.
  """

  def __init__(self, form: Form, params, shift=0.0, scale=1.0):
    self.form, self.shift, self.scale = form, shift, scale
    self._shift, self._scale = (np.asarray(x, np.float32) for x in (shift, scale))
    self.stride, self.channels, self._books = form.stride, form.channels, form.books
    self.codebook, self.draws = _codes(self._books), form.draws
    with _beside():
      self._params = jax.device_put(params)
    self._encode, self._decode, self._codes, self._entries = (
      _compiled(form, method) for method in ("encode", "decode", "codes", "entries")
    )

  def encode(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] -> float32 [..., h/stride, w/stride, channels]."""
    latents = self._each(self._encode, self._scaled(pixels))
    return (latents - self._shift) * self._scale

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """float [..., h, w, channels] -> uint8 [..., h*stride, w*stride, 3].

    Raises:
      ConfigError: a codec without a decoder.
    """
    self._check_draws()
    latents = np.asarray(latents, np.float32) / self._scale
    return _to_bytes(self._each(self._decode, latents + self._shift))

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
      ConfigError: a codec without a decoder.
      ValueError: a code outside of the codebook.
    """
    self._check_draws()
    codes = checked(codes, self.codebook)
    digits = np.stack(np.unravel_index(codes, self._books), -1).astype(np.int32)
    latents = self._each(self._entries, digits)
    return _to_bytes(self._each(self._decode, latents))

  def _check_draws(self) -> None:
    if not self.draws:
      raise ConfigError(
        "data.codec: this codec has an encoder and no decoder (codec.draws=False), so "
        "no picture can be made of what is drawn: name a run whose codec has one"
      )

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
    super().__init__(form(about.codec), weights, about.shift, about.scale)
    self.identity = about.identity()


def _to_bytes(pixels) -> np.ndarray:
  return np.clip(np.rint((pixels + 1.0) * 127.5), 0, 255).astype(np.uint8)


@functools.cache
def _compiled(form: Form, method: str):
  """A method of a codec, compiled once for its form: (params, x) -> array."""
  return jax.jit(functools.partial(form.run, method))


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
