"""The arrays that travel between data, model, training and sampling.

Shape letters, used as suffixes of array names everywhere:

  B rows            T positions (queries)   S key positions (cache slots)
  D model width     H heads                 G key/value heads   K head width
  F feed-forward    V vocabulary            C patch channels    N layers
  I images of a row P patches of an image   A position axes (time, height, width)

Time runs from t = 0 (clean) to t = 1 (noise).
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray

IMAGES_OF_A_DOCUMENT = 64  # image keys set aside for each document of the stream
FIRST_BLOCK = -2  # in `span_BT`: of the blocks of text that are written at once
FEATURE_BEGIN = -2  # in `feature_BT`: of the BOI before an encoder's features


class Sum(NamedTuple):
  """A weighted sum and the total weight; arrays of equal shape."""

  value: Array
  weight: Array

  def mean(self) -> jax.Array:
    """value / weight, and 0 where nothing was weighted."""
    return self.value / jnp.where(self.weight > 0, self.weight, 1.0)


@flax.struct.dataclass
class Batch:
  """B packed rows of T positions. What is trained is decided here, nowhere else.

  Positions of one document are contiguous, and so are those of one image. An
  image's span covers its patches and, where the model uses one, its time token; or it
  covers the features of an encoder, which have no patch index. With `model.image_mask`
  'framed' it covers what frames them, too, and BOI where that carries the timestep.
  """

  tokens_BT: Array  # int32: text id, special token or code; ignored at patches
  patches_BTC: Array  # float32: clean patch at image positions; C = 0 with codes
  # int32: number of the image in its row; -1 is plain text, and below it are numbers of
  # blocks of text (`data.text_blocks`)
  span_BT: Array
  patch_BT: Array  # int32: raster index of the patch in its image, -1 elsewhere
  segment_BT: Array  # int32: number of the document in its row from 1; 0 is padding
  position_BTA: Array  # int32 [B, T, 3]: rotary position on (time, height, width)
  text_weight_BT: Array  # float32: weight of predicting this token from before it
  image_weight_BT: Array  # float32: weight of the loss of this patch or code
  noise_limit_BT: Array  # float32 in [0, 1]: largest timestep of this image
  # uint32: identity of the image; keys its noise and timestep. In blocks of text it is
  # that of the first image of the document.
  image_key_BT: Array
  # bool: in a copy that only its own image sees; None: the config makes no such copies
  hidden_BT: Array | None = None
  # Both None where `model.read` needs no encoder:
  pixels_BIHWC: Array | None = None  # uint8: pictures to encode, in the row's order
  # int32: place in [I * features]; FEATURE_BEGIN at the BOI before some; -1 elsewhere
  feature_BT: Array | None = None
  # int32 [B, I, 2]: rows and columns of patches, with data.fit "native", where pictures
  # are patches [B, I, P, pixels of one, 3] (`nn.places`); None: squares of one size
  grid_BI2: Array | None = None


@flax.struct.dataclass
class Pictures:
  """B pictures, for the training of a codec."""

  pixels_BHWC: Array  # uint8 [B, H, W, 3]
  key_B: Array  # uint32: identity of the picture; keys what is drawn for it


@flax.struct.dataclass
class Inputs:
  """What the model reads: a stretch of each row, patches already noised."""

  tokens_BT: Array
  patches_BTC: Array | None  # None: this call holds text only; C = 0 with codes
  time_BT: Array | None  # float32: timestep at positions of images
  span_BT: Array
  patch_BT: Array
  position_BTA: Array
  index_BT: Array  # int32: place in the row, the coordinate of start and end
  start_BT: Array  # int32: first index this query sees
  end_BT: Array  # int32: last index this query sees
  # int32, whole rows only: number of a hidden image, which it alone sees; -1 elsewhere
  hidden_BT: Array | None = None
  pixels_BIHWC: Array | None = None  # as in Batch; None: this call encodes nothing
  feature_BT: Array | None = None
  grid_BI2: Array | None = None


@flax.struct.dataclass
class Cache:
  """Keys and values of everything a row has committed so far.

  Slot s of row b holds row index s while s < length_B[b]; other slots are free.
  Slots of a head lie one behind the other, as attention reads them.
  """

  keys: Array | tuple[Array, ...]  # [N, B, G, S, K], or with `layers_apart` N of them
  values: Array | tuple[Array, ...]
  length_B: Array  # int32
  # (keys, values) of the blocks of a denoiser, which have sizes of their own; or None
  denoiser: tuple[Array, Array] | None = None

  @property
  def slots(self) -> int:
    """Positions that each row has room for."""
    return jax.tree.leaves(self.keys)[0].shape[-2]

  @property
  def kv(self) -> tuple:
    """All keys and values, in the order in which a call gives its own: (keys, values),
    and behind them those of the denoiser, if any."""
    more = () if self.denoiser is None else (self.denoiser,)
    return (self.keys, self.values, *more)

  def with_kv(self, kv: tuple, length_B: Array) -> "Cache":
    """The same with other keys and values, in the order of `kv`, and other lengths."""
    return Cache(*kv[:2], length_B, *kv[2:])


@flax.struct.dataclass
class TrainState:
  """Everything that a resumed run needs besides the config."""

  step: Array  # int32 []: updates done; also the position in the data
  params: Any
  ema_params: Any  # exponential moving average, used for sampling and scores
  opt_state: Any
  key_data: Array  # uint32 [2]: base of all training randomness
  guard: Any = None  # train.guards.GuardState; None where nothing trains


@flax.struct.dataclass
class Pairs:
  """B pictures, each with a text: what encoders are aligned on."""

  pixels_BHWC: Array  # uint8
  tokens_BT: Array  # int32: BOS, text, EOS, padding
  end_B: Array  # int32: position of EOS
  caption_B: Array  # uint32: identity of the text; equal texts, equal numbers
  key_B: Array  # uint32: identity of the pair; keys all that is random about it


@flax.struct.dataclass
class Drawings:
  """B captioned pictures, one a row: what a model that only draws is trained on."""

  tokens_BS: Array  # int32: BOS, the caption, padding; BOS alone where it is dropped
  length_B: Array  # int32: tokens before the padding
  patches_BPC: Array  # float32: the picture's clean patches, in raster order
  key_B: Array  # uint32: identity of the picture; keys its noise and timestep
