"""Alignment: what encoders of pictures are trained for.

  softmax   a picture and its text find each other in the batch (two encoders)
  sigmoid   every pair of the batch is a yes or a no              (two encoders)
  queries   contrast, matching and writing, through learned queries
  distill   features of hidden patches, as a frozen teacher saw them
  none      pictures alone: an encoder that others read, and that is not trained here

Contrastive losses are over the whole batch on any mesh (`contrastive`).
"""

import dataclasses

import jax
import jax.numpy as jnp

from unijax.config import Config, ConfigError
from unijax.data.pair_loader import Captions
from unijax.nn import logical
from unijax.nn.dual_encoder import (
  DualEncoder,
  LoneEncoder,
  MaskedStudent,
  QueryEncoder,
  unit,
)
from unijax.train import contrastive
from unijax.train.encoders import FrozenEncoder, open_encoder
from unijax.types import Pairs, Sum

Sums = dict[str, Sum]


class Contrast:
  """Two encoders and one of the contrastive losses.

  Attributes:
    module: that is trained.
  """

  def __init__(self, config: Config, vocab: int):
    self.config = config
    self.module = DualEncoder(config, vocab)

  def arguments(self, batch: Pairs) -> tuple:
    """What the module is made with."""
    return (batch,)

  def sums(self, params, batch: Pairs, key) -> Sums:
    """Returns the losses as sums over the batch; `loss` is what is trained."""
    del key
    images, texts, scale, bias = self.module.apply({"params": params}, batch)
    given = (images, texts, batch.caption_B)
    chunks = self.config.train.loss_chunks
    if self.config.align.objective == "sigmoid":
      loss = contrastive.sigmoid_loss(*given, scale, bias, chunks)
      return {"loss": loss, "scale": _scalar(scale), "bias": _scalar(bias)}
    out = contrastive.softmax_loss(*given, scale, chunks)
    return {"loss": out.nll, "accuracy": out.accuracy, "scale": _scalar(scale)}

  def images(self, params, pixels_BHWC):
    """uint8 pixels -> unit vectors [B, Q, E]."""
    method = self.module.images
    return self.module.apply({"params": params}, pixels_BHWC, method=method)

  def texts(self, params, tokens_BT, end_B):
    """Captions -> unit vectors [B, E]."""
    method = self.module.texts
    return self.module.apply({"params": params}, tokens_BT, end_B, method=method)


class Queries(Contrast):
  """Queries between a picture and a text: three losses of equal weight, or two.

  Li et al. 2023, section 3.1. Without `align.frozen` the encoder of pictures is trained
  with the queries.
  """

  def __init__(self, config: Config, vocab: int):
    self.config = config
    self.frozen = open_frozen(config)
    if self.frozen and config.align.class_seen:
      self.frozen = dataclasses.replace(self.frozen, whole=True)
    given = self.frozen.config.width if self.frozen else 0
    self.module = QueryEncoder(config, vocab, given)
    # Begins what is written from a picture, as BOS begins what is read.
    writes = config.align.writes
    self.first = Captions(config).special.assistant if writes else None

  def arguments(self, batch):
    return self._pictures(batch.pixels_BHWC), batch.tokens_BT, batch.end_B

  def images(self, params, pixels_BHWC):
    return super().images(params, self._pictures(pixels_BHWC))

  def sums(self, params, batch, key):
    chunks = self.config.train.loss_chunks
    pictures = self._pictures(batch.pixels_BHWC)

    def three(m: QueryEncoder):
      features = m.features(pictures)
      images, texts = m.both(features, batch.tokens_BT, batch.end_B)
      given = (images, texts, batch.caption_B, m.scale())
      contrast = contrastive.softmax_loss(*given, chunks)
      drawn = jax.lax.stop_gradient(given)
      drawn = contrastive.hard_negatives(*drawn, key, batch.key_B)
      match = self._match(m, features, batch, *drawn)
      writes = self.config.align.writes
      words = self._write(m, features, batch) if writes else None
      return contrast, match, words, m.scale()

    out = self.module.apply({"params": params}, method=three)
    contrast, (match, right), words, scale = out
    losses = {"contrast": contrast.nll, "match": match}
    losses |= {} if words is None else {"text_nll": words}
    total = sum(x.mean() for x in losses.values())
    return {
      "loss": _scalar(total), **losses, "accuracy": contrast.accuracy,
      "match_accuracy": right, "scale": _scalar(scale),
    }  # fmt: skip

  def _pictures(self, pixels):
    return self.frozen(pixels) if self.frozen else pixels

  def _match(self, m: QueryEncoder, features, batch, text_B, image_B, exists_B):
    """Right pairs, pictures with a wrong text, texts with a wrong picture."""

    def three(right, text, image):  # side by side, so that rows stay on their device
      x = jnp.stack([right, text, image], axis=1)
      return x.reshape(-1, *x.shape[2:])

    images = three(features, features, features[image_B])
    tokens, end = batch.tokens_BT, batch.end_B
    tokens, end = three(tokens, tokens[text_B], tokens), three(end, end[text_B], end)
    images = logical.constrain(images, "batch", None, "act_embed")
    logits = m.matching(images, tokens, end)
    label = jnp.tile(jnp.asarray([1, 0, 0]), len(exists_B))
    real = exists_B.astype(jnp.float32)
    weight = three(jnp.ones_like(real), real, real)
    nll = _nll(logits, label)
    right = jnp.argmax(logits, axis=-1) == label
    return Sum((nll * weight).sum(), weight.sum()), Sum(
      (right * weight).sum(), weight.sum()
    )

  def _write(self, m: QueryEncoder, features, batch) -> Sum:
    """Every token from the picture and the tokens before it; EOS too."""
    tokens = batch.tokens_BT.at[:, 0].set(self.first)
    logits = m.writing(features, tokens, batch.end_B)[:, :-1]
    place = jnp.arange(1, tokens.shape[1])
    weight = (place <= batch.end_B[:, None]).astype(jnp.float32)
    return Sum((_nll(logits, batch.tokens_BT[:, 1:]) * weight).sum(), weight.sum())


class Alone:
  """An encoder of pictures by itself; it is scored by its neighbours, not trained.

  Raises:
    ConfigError: when it is asked for a loss.
  """

  def __init__(self, config: Config, vocab: int):
    del vocab
    self.module = LoneEncoder(config)

  def arguments(self, batch):
    return (batch.pixels_BHWC,)

  def images(self, params, pixels_BHWC):
    """uint8 pixels -> unit vectors [B, 1, E]."""
    return self.module.apply({"params": params}, pixels_BHWC)

  def sums(self, params, batch, key):
    raise ConfigError(
      "align.objective: 'none' has no loss to train on: use 'distill' with a teacher, "
      "or 'softmax' or 'sigmoid' with texts, and begin from this run with --init-from"
    )


class Distill:
  """Cosines with a teacher's features at hidden patches (Fang et al. 2023, eq. 1)."""

  def __init__(self, config: Config, vocab: int):
    del vocab
    self.config = config
    self.frozen = open_frozen(config)
    self.module = MaskedStudent(config, self.frozen.config.width)
    side = config.data.image_size // config.vision.patch_size
    self.patches = side**2
    theirs = self.frozen.image_size // self.frozen.config.patch_size
    if theirs != side:
      raise ConfigError(
        f"align.frozen: the teacher has {theirs} patches a side and the student "
        f"{side}: set vision.patch_size={config.data.image_size // theirs}"
      )

  def arguments(self, batch):
    return batch.pixels_BHWC, self.hidden(jax.random.key(0), batch.key_B)

  def hidden(self, key, key_B):
    """Which patches are hidden: bool [B, P], the same number in every picture."""
    count = round(self.config.align.mask_share * self.patches)

    def one(k):
      order = jax.random.uniform(jax.random.fold_in(key, k), (self.patches,))
      return jnp.argsort(jnp.argsort(order)) < count

    return jax.vmap(one)(key_B)

  def sums(self, params, batch, key):
    hidden_BP = self.hidden(key, batch.key_B)
    predicted = self.module.apply({"params": params}, batch.pixels_BHWC, hidden_BP)
    wanted = self.frozen(batch.pixels_BHWC)
    cosine = (unit(predicted) * unit(wanted)).sum(axis=-1)
    weight = hidden_BP.astype(jnp.float32)
    cosine = (cosine * weight).sum(axis=1) / weight.sum(axis=1)  # of each picture
    count = jnp.asarray(float(len(cosine)))
    return {
      "loss": Sum((1.0 - cosine).sum(), count),
      "cosine": Sum(cosine.sum(), count),
    }


def open_frozen(config: Config) -> FrozenEncoder | None:
  """Returns the encoder that `align.frozen` names, if it does.

  Raises:
    ConfigError: it reads pictures of another size than the run has.
  """
  if not config.align.frozen:
    return None
  frozen = open_encoder(config.align.frozen)
  if frozen.image_size != config.data.image_size:
    raise ConfigError(
      f"align.frozen: {config.align.frozen} reads pictures of {frozen.image_size} "
      f"pixels, and data.image_size is {config.data.image_size}"
    )
  return frozen


OBJECTIVES = {
  "softmax": Contrast,
  "sigmoid": Contrast,
  "queries": Queries,
  "distill": Distill,
  "none": Alone,
}


def _scalar(x) -> Sum:
  return Sum(jnp.asarray(x, jnp.float32), jnp.ones(()))


def _nll(logits, label):
  """Of each label, as a sum: what is summed over may be divided over devices."""
  here = jnp.arange(logits.shape[-1]) == label[..., None]
  return jax.nn.logsumexp(logits, axis=-1) - jnp.where(here, logits, 0.0).sum(axis=-1)
