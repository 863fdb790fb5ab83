"""Layers with one copy of their weights for text and one for images.

The copy is chosen by position. Each device sorts the positions it holds, text first
(`sort`), and a linear map is then one product a copy over a run of them
(`grouped.product`): every position costs what it costs with one copy. Arrays in that
order are called sorted here; they lie on the mesh as those in the row's order do.
"""

from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from unijax import low_rank
from unijax.nn import grouped, logical
from unijax.nn.layers import affine, kernel_init, normalized, param

MODALITIES = ("text", "image")  # and the names of the copies
POSITIONS = ("batch", "sequence")


@flax.struct.dataclass
class Groups:
  """Which copy each position goes through, and the order that sorts them.

  Orders number the B * T positions that one device holds, row by row.
  """

  image_BT: jax.Array  # bool, in the row's order
  sorted_image_BT: jax.Array  # bool, sorted
  order_BT: jax.Array  # int32: the position that comes at this place of the sorted
  place_BT: jax.Array  # int32: the place of this position among the sorted

  def pick(self, text: jax.Array, image: jax.Array, axes: int) -> jax.Array:
    """Picks by sorted position, for arrays [B, T, ..] of so many axes."""
    is_image = self.sorted_image_BT
    is_image = is_image.reshape(*is_image.shape, *[1] * (axes - 2))
    return jnp.where(is_image, image, text)

  def enter(self, x: jax.Array, *names: str | None) -> jax.Array:
    """Sorts [B, T, ...], whose last axes have these names."""
    return _move(x, self.order_BT, self.place_BT, names)

  def leave(self, x: jax.Array, *names: str | None) -> jax.Array:
    """Undoes `enter`."""
    return _move(x, self.place_BT, self.order_BT, names)


def written(x, image_mask: str = "bidirectional") -> jax.Array:
  """Positions of images that go through the copies for images: bool [B, T].

  Those are the ones that are written, or read as written: patches, codes, time tokens.
  Features of an encoder, BOI and EOI are read with the text's weights (Deng et al.
  2025, section 2).

  Args:
    x: a Batch or Inputs.
    image_mask: as model.image_mask; 'framed' has BOI and EOI in spans, and no time
      tokens.
  """
  if image_mask == "framed":
    return x.patch_BT >= 0
  image = x.span_BT >= 0
  return (
    image if x.feature_BT is None else image & ((x.patch_BT >= 0) | (x.feature_BT < 0))
  )


def sort(image_BT) -> Groups:
  """Finds the order of the positions; image_BT is True at those of images."""

  def local(image_BT):
    image = image_BT.reshape(-1)
    order = jnp.argsort(image, stable=True).astype(jnp.int32)
    found = image[order], order, grouped.inverse(order)
    return tuple(x.reshape(image_BT.shape) for x in found)

  found = over_positions(image_BT.shape, local, (POSITIONS,), POSITIONS)(image_BT)
  return Groups(image_BT, *found)


def _divide(shape) -> bool:
  return all(n % logical.ways(a) == 0 for n, a in zip(shape, POSITIONS, strict=False))


def mesh_axes(shape, name: str) -> tuple[str, ...]:
  """Mesh axes that `over_positions` divides an axis of this name over."""
  return logical.mesh_axes(name) if _divide(shape) else ()


def over_positions(shape, function: Callable, inputs: tuple, output: tuple) -> Callable:
  """`logical.per_device`, where the positions [B, T] divide over the mesh.

  Where they do not (one row for initialisation), all are taken as one device's.
  """
  return logical.per_device(function, inputs, output) if _divide(shape) else function


def _move(x, order_BT, place_BT, names):
  def local(x, order_BT, place_BT):
    flat = x.reshape(order_BT.size, -1)
    flat = grouped.permute(flat, order_BT.reshape(-1), place_BT.reshape(-1))
    return flat.reshape(x.shape)

  layout = (*POSITIONS, *names)
  moved = over_positions(x.shape, local, (layout, POSITIONS, POSITIONS), layout)
  return moved(x, order_BT, place_BT)


class Weights(nn.Module):
  """The kernel of one `Linear`, or of several, stacked in front; and its bias."""

  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  scale: float
  bias: bool = False

  @nn.compact
  def __call__(self):
    """(kernel [.., in, out], bias [.., out] or None)."""
    init = kernel_init(self.scale, stacked=len(self.shape) - 2)
    kernel = param(self, "kernel", init, self.shape, self.axes)
    if (pair := low_rank.beside(self)) is not None:
      kernel = low_rank.added(kernel, *pair)  # of one layer, inside the scan
    if not self.bias:
      return kernel, None
    shape, axes = ((*x[:-2], x[-1]) for x in (self.shape, self.axes))
    return kernel, param(self, "bias", nn.initializers.zeros_init(), shape, axes)


class GroupedLinear(nn.Module):
  """`Linear` over sorted positions, with a kernel and a bias for each modality."""

  features: int
  axes: tuple[str, str]
  dtype: jnp.dtype
  bias: bool = False
  scale: float = 1.0

  @nn.compact
  def __call__(self, x_BTD, groups: Groups):
    shape, axes = (x_BTD.shape[-1], self.features), self.axes
    copies = [
      Weights(shape, axes, self.scale, self.bias, name=name)() for name in MODALITIES
    ]
    kernels = tuple(kernel.astype(self.dtype) for kernel, _ in copies)
    give, take = (f"act_{axis}" for axis in axes)
    layout = POSITIONS, (*POSITIONS, give), (give, take)
    divided = mesh_axes(x_BTD.shape, give)

    def local(image_BT, x_BTD, kernels):
      images = image_BT.sum(dtype=jnp.int32)
      sizes = jnp.stack([image_BT.size - images, images])
      x_MD = x_BTD.reshape(-1, x_BTD.shape[-1])
      y_MF = grouped.product(x_MD, kernels, sizes)
      if divided:  # each device has summed over its part of the input's width
        y_MF = jax.lax.psum(y_MF, divided)
      return y_MF.reshape(*x_BTD.shape[:2], -1)

    apply = over_positions(x_BTD.shape, local, layout, (*POSITIONS, take))
    y_BTF = apply(groups.image_BT, x_BTD.astype(self.dtype), kernels)
    if not self.bias:
      return y_BTF
    return y_BTF + groups.pick(*[b for _, b in copies], 3).astype(self.dtype)


class Affine(nn.Module):
  """The scale and the bias of one copy of a `Norm` over arrays of a shape."""

  kind: str
  shape: tuple[int, ...]
  axis: str

  @nn.compact
  def __call__(self):
    return affine(self, self.kind, self.shape, self.axis)


class GroupedNorm(nn.Module):
  """`Norm` over sorted positions [B, T, ..., D], with its own for each modality."""

  eps: float
  axis: str = "norm"
  kind: str = "rms"

  @nn.compact
  def __call__(self, x, groups: Groups):
    copies = [Affine(self.kind, x.shape, self.axis, name=name)() for name in MODALITIES]
    scales, biases = zip(*copies, strict=True)
    y = normalized(x, self.kind, self.eps) * groups.pick(*scales, x.ndim)
    if biases[0] is not None:
      y = y + groups.pick(*biases, x.ndim)
    return y.astype(x.dtype)
