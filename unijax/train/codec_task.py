"""Training a codec: error of the pictures, the bottleneck's losses, and an adversary.

One optimizer trains both sides. The autoencoder's loss sees the discriminator's weights
as constants, and the discriminator's loss sees the pictures as constants, so the
gradient of their sum is each side's own gradient; no sign is turned and nothing has to
be alternated, and averages, guards, meshes and checkpoints hold both like any other
parameters.
"""

import functools

import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics

from unijax.codecs import perceptual
from unijax.codecs.bottlenecks import BOTTLENECKS, over_picture
from unijax.codecs.discriminator import Discriminator, hinge
from unijax.codecs.model import Autoencoder, stride
from unijax.config import Config, ConfigError
from unijax.data.picture_loader import PictureLoader
from unijax.train.tasks import Task
from unijax.types import Pictures, Sum

STATISTICS = "statistics/"  # metrics that `update` reads
MOST_BALANCE = 1e4


class CodecTask(Task):
  """An autoencoder on pictures.

  Parameters: `codec`; where there is an adversary also `adversary` (the discriminator)
  and `balance`, which no gradient moves: `steps` done, and `weight`, by which the
  adversary's gradient is as large as that of the error at the last convolution
  (Esser et al. 2021, arXiv 2012.09841, eq. 7), measured in the step before.
  """

  shown = (("loss", "loss"), ("PSNR", "psnr"))
  loader = staticmethod(PictureLoader)

  def __init__(self, config: Config, vocab: int):
    super().__init__(config, vocab)
    dtype = jnp.dtype(config.model.dtype)
    self.model = Autoencoder(config.codec, dtype)
    self.discriminator = Discriminator(config.codec, dtype)

  def init_params(self, key):
    """See `Task`."""
    size, c = self.config.data.image_size, self.config.codec
    pixels = jnp.zeros((1, size, size, 3))
    own, other = jax.random.split(key)
    params = {"codec": self.model.init(own, pixels, jax.random.split(key, 1))["params"]}
    if c.adversary_weight:
      params["adversary"] = self.discriminator.init(other, pixels)["params"]
      params["balance"] = {"steps": jnp.zeros(()), "weight": jnp.zeros(())}
    return params

  def total_weights(self, batch: Pictures):
    """Number of pictures."""
    return jnp.float32(batch.pixels_BHWC.shape[0])

  def loss(self, params, batch: Pictures, key, weights=None):
    """See `Task`. Every loss is a mean over a picture, then over pictures."""
    if not self.config.codec.draws:
      raise ConfigError(
        "codec.draws: False has no decoder, and so no picture whose error is trained"
      )
    weights = self.total_weights(batch) if weights is None else weights
    x = batch.pixels_BHWC.astype(jnp.float32) / 127.5 - 1.0
    keys_B = jax.vmap(functools.partial(jax.random.fold_in, key))(batch.key_B)
    out = self.model.apply({"params": params["codec"]}, x, keys_B)
    terms = {"error": self._error(out.pixels_BHWC, x), **out.bottled.losses}
    total = sum(Sum(term.sum(), weights).mean() for term in terms.values())
    clipped = jnp.clip(out.pixels_BHWC, -1.0, 1.0)
    terms["psnr"] = -10.0 * jnp.log10(over_picture((clipped - x) ** 2) / 4.0 + 1e-10)
    size = jnp.float32(len(x))
    metrics = {name: _average(term.sum(), size) for name, term in terms.items()}
    for name, (sums, counts) in out.bottled.statistics.items():
      metrics[STATISTICS + name] = _average(sums, counts)
    if self.config.codec.adversary_weight:
      more, measured = self._adversary(params, x, out, weights)
      total, metrics = total + more, {**metrics, **measured}
    places = len(x) * (x.shape[1] // stride(self.config.codec)) ** 2
    one = jnp.ones(())
    metrics["loss"] = _average(total, one)
    metrics["tokens"] = _average(jnp.float32(places), one)
    return total, metrics

  def update(self, params, metrics, key):
    """Codebooks that are averages, dead codes, and the adversary's balance."""
    found = {n: metrics[n] for n in metrics if n.startswith(STATISTICS)}
    metrics = {n: m for n, m in metrics.items() if n not in found}
    found = {n.removeprefix(STATISTICS): (m.total, m.count) for n, m in found.items()}
    if "assigned" in found:
      c, codec = self.config.codec, params["codec"]
      key = jax.random.fold_in(jax.random.fold_in(key, 0), 1)  # no picture's key
      bottleneck = BOTTLENECKS[c.bottleneck].update(c, codec["bottleneck"], found, key)
      params = {**params, "codec": {**codec, "bottleneck": bottleneck}}
      metrics["perplexity"] = _average(perplexity(found["spread"][1]), jnp.ones(()))
    if "error_gradient" in found:
      error, other = (
        jnp.linalg.norm(found[f"{n}_gradient"][0]) for n in ("error", "adversary")
      )
      weight = jnp.clip(error / (other + 1e-4), 0.0, MOST_BALANCE)
      steps = params["balance"]["steps"] + 1.0
      params = {**params, "balance": {"steps": steps, "weight": weight}}
      metrics["adversary_balance"] = _average(weight, jnp.ones(()))
    return params, metrics

  def batch_axes(self):
    """See `Task`."""
    return Pictures(("batch", None, None, None), ("batch",))

  def describe(self) -> str:
    """See `Task`."""
    return f"pictures of {self.config.data.image_size} pixels"

  def _error(self, pixels_BHWC, x_BHWC):
    """Weighted distances of each picture: [B]."""
    c, total = self.config.codec, 0.0
    if c.l1_weight:
      total += c.l1_weight * over_picture(jnp.abs(pixels_BHWC - x_BHWC))
    if c.l2_weight:
      total += c.l2_weight * over_picture((pixels_BHWC - x_BHWC) ** 2)
    if c.perceptual_weight:
      total += c.perceptual_weight * perceptual.distance(pixels_BHWC, x_BHWC)
    return total

  def _adversary(self, params, x_BHWC, out, weights):
    """Both sides' losses once they count, and the gradients that balance them."""
    c, stop = self.config.codec, jax.lax.stop_gradient
    balance, fixed = stop(params["balance"]), stop(params["adversary"])
    pixels = stop(out.pixels_BHWC)

    def judge(weights_of_it, pixels):
      return self.discriminator.apply({"params": weights_of_it}, pixels)

    def fool(pixels):
      return -judge(fixed, pixels).mean((1, 2)).sum() / weights

    own = params["adversary"]
    told = hinge(judge(own, x_BHWC), judge(own, pixels))
    counts = balance["steps"] >= c.adversary_start
    total = c.adversary_weight * balance["weight"] * fool(out.pixels_BHWC)
    total = jnp.where(counts, total + told.sum() / weights, 0.0)
    _, pull = jax.vjp(self._last(params, out), self._kernel(params))
    metrics = {"discriminator": _average(told.sum(), jnp.float32(len(x_BHWC)))}
    error = jax.grad(lambda y: self._error(y, x_BHWC).sum() / weights)(pixels)
    for name, by_pixels in (("error", error), ("adversary", jax.grad(fool)(pixels))):
      gradient = stop(pull(by_pixels)[0])
      metrics[f"{STATISTICS}{name}_gradient"] = _average(gradient, jnp.ones(()))
    return total, metrics

  def _kernel(self, params):
    last = params["codec"]["decoder"]["last"]["conv"]["kernel"]
    return jax.lax.stop_gradient(last)

  def _last(self, params, out):
    """The last convolution as a function of its kernel alone."""
    codec = jax.lax.stop_gradient(params["codec"])
    hidden = jax.lax.stop_gradient(out.hidden_BHWC)

    def leave(kernel):
      conv = {**codec["decoder"]["last"]["conv"], "kernel": kernel}
      decoder = {**codec["decoder"], "last": {"conv": conv}}
      weights = {"params": {**codec, "decoder": decoder}}
      return self.model.apply(weights, hidden, method="leave")

    return leave


def perplexity(counts_QK) -> jax.Array:
  """exp of the entropy of the codes' shares, a mean over codebooks."""
  share = counts_QK / counts_QK.sum(axis=-1, keepdims=True)
  return jnp.exp(-(share * jnp.log(share + 1e-12)).sum(axis=-1)).mean()


def _average(total, count) -> clu_metrics.Average:
  return clu_metrics.Average(total=total, count=count)
