"""Small configs, documents and models that the tests of the core share."""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from unijax.config import Config, from_config_dict, to_dict
from unijax.data import rows
from unijax.data.document import Document, Image, Text, Turn
from unijax.data.rows import RowBuilder
from unijax.data.tokenizer import ByteTokenizer, vocabulary
from unijax.nn import masks
from unijax.train import tasks
from unijax.train.functions import StepFunctions
from unijax.types import Batch, Inputs

IMAGE = 4  # pixels a side: 2 x 2 patches of 2 pixels
QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time
VOCABULARY = vocabulary(ByteTokenizer())
SPECIAL = VOCABULARY.special


def config(**knobs) -> Config:
  """The smallest config that has everything; `model__depth=1` sets model.depth."""
  c = base.get_config()
  c.model.update(
    depth=2, width=32, heads=2, kv_heads=1, head_dim=16, mlp_width=48, unet_width=8
  )
  c.data.update(image_size=IMAGE, patch_size=2, seq_len=64, images_per_row=4)
  c.data.update(caption_dropout=0.0, window=16, threads=1)
  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": {}}
  c.train.update(batch_size=2)
  c.sample.update(steps=4, max_text_tokens=12, clip_x0=0.0)
  c.seed = knobs.pop("seed", 0)
  for name, value in knobs.items():
    section, _, knob = name.partition("__")
    c[section][knob] = value
  return from_config_dict(c)


def scenes(**knobs) -> Config:
  """The same on real documents: scenes of 32 pixels, four patches an image."""
  c = dict(
    data__image_size=32, data__patch_size=16, data__seq_len=160, data__images_per_row=6,
    data__caption_dropout=0.1, optim__warmup_steps=2, optim__learning_rate=1e-2,
    diffusion__predict="x0", optim__schedule="constant",  # so that any train.steps is the same program
    train__steps=6, train__log_every=1,
  )  # fmt: skip
  options = {"num_documents": 64, "max_objects": 2, "grid": 2}
  source = {"kind": "scenes", "weight": 1.0, "options": options}
  return config(**{**c, "data__sources": {"scenes": source}, **knobs})


def codec(bottleneck: str, **knobs) -> Config:
  """A codec in training on scenes: two levels, four channels a code or latent."""
  c = dict(
    train__task="codec", codec__bottleneck=bottleneck, codec__width=8, codec__groups=4,
    codec__multipliers=(1, 2), codec__blocks=(1,), codec__attention=False,
    codec__channels=3, codec__levels=(5, 4, 3), codec__codebook=8,
    codec__perceptual_weight=0.0, train__batch_size=4, optim__b2=0.9,
  )  # fmt: skip
  return scenes(**{**c, **knobs})


def key(c: Config) -> str:
  """A hashable form of a config, for caches of compiled functions."""
  return repr(to_dict(c))


def builder(c: Config) -> RowBuilder:
  """Lays out documents of bytes."""
  return RowBuilder(c, ByteTokenizer())


def image(seed: int, context: bool = False, size: int = IMAGE) -> Image:
  """A picture of noise, always the same for a seed."""
  pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
  return Image(lambda: pixels, size, size, context, name=f"noise {seed}")


def draw(words: str, seed: int) -> Document:
  """A document of a conversation: words, then a picture."""
  user, model = (Turn("user"), Text(words, False)), (Turn("assistant"), image(seed))
  return Document((*user, *model), id=seed, kind="draw")


def describe(words: str, seed: int) -> Document:
  """A document of a conversation: a picture, then words."""
  user, model = (Turn("user"), image(seed, True)), (Turn("assistant"), Text(words))
  return Document((*user, *model), id=seed, kind="describe")


def plain(*parts, id: int = 0) -> Document:
  """A document without turns: strings are text, numbers are seeds of pictures."""
  made = [Text(p) if isinstance(p, str) else image(p) for p in parts]
  return Document(tuple(made), id=id)


def batch(c: Config, *packed: list[Document], first_key: int = 0) -> Batch:
  """Rows of documents; the documents are numbered in order, from `first_key`."""
  b, numbers = builder(c), itertools.count(first_key)
  return rows.stack([
    b.row([b.layout(d, key=next(numbers)) for d in documents]) for documents in packed
  ])  # fmt: skip


def inputs(c: Config, b: Batch, patches=None, time=None) -> Inputs:
  """What the model reads of a batch: clean, or with given patches and timesteps."""
  start, end = masks.intervals(b.span_BT, b.segment_BT, c.model.image_mask)
  index = np.arange(b.tokens_BT.shape[1], dtype=np.int32)
  patches = b.patches_BTC if patches is None else patches
  time = np.zeros(b.tokens_BT.shape) if time is None else time
  return Inputs(
    tokens_BT=b.tokens_BT,
    patches_BTC=np.asarray(patches, np.float32),
    time_BT=np.asarray(time, np.float32),
    span_BT=b.span_BT,
    patch_BT=b.patch_BT,
    position_BTA=b.position_BTA,
    index_BT=np.broadcast_to(index, b.tokens_BT.shape),
    start_BT=start,
    end_BT=end,
    hidden_BT=masks.hidden_spans(b.span_BT, b.hidden_BT),
    pixels_BIHWC=b.pixels_BIHWC,
    feature_BT=b.feature_BT,
    grid_BI2=b.grid_BI2,
  )


_FUNCTIONS: dict[str, StepFunctions] = {}


def functions(c: Config) -> StepFunctions:
  """The compiled training functions of a config, shared by all tests."""
  return _FUNCTIONS.setdefault(key(c), StepFunctions(c, builder(c).vocabulary.size))


_FORWARD: dict[str, Callable] = {}


def forward(c: Config) -> Callable:
  """Both heads over whole rows, compiled: (params, Inputs) -> (logits, prediction)."""
  if key(c) not in _FORWARD:
    model = functions(c).model
    apply = lambda params, inputs: model.apply({"params": params}, inputs)
    _FORWARD[key(c)] = jax.jit(apply, compiler_options=QUICK)
  return _FORWARD[key(c)]


@functools.cache
def _shapes(name: str):
  return jax.eval_shape(_FUNCTIONS[name].init).params


def params(c: Config, seed: int):
  """Random weights, none of which is zero or one.

  Fresh weights hide mistakes: zero kernels (of AdaLN) and biases erase whole paths.
  """
  functions(c)
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    name = getattr(path[-1], "key", str(path[-1]))
    fan_in = np.prod(leaf.shape[-2:-1] if leaf.ndim < 4 else leaf.shape[-4:-1])
    scale = {"kernel": fan_in**-0.5, "table": 1.0}.get(name, 0.3)
    center = 1.0 if name == "scale" else 0.0
    return jnp.asarray(center + scale * rng.standard_normal(leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(fill, _shapes(key(c)))


def lively(weights):
  """Weights with which greedy text begins images, and ends, now and then."""
  kernel = weights["text_head"]["kernel"]
  kernel = kernel.at[:, SPECIAL.boi].mul(4.0).at[:, SPECIAL.eos].mul(1.5)
  return {**weights, "text_head": {**weights["text_head"], "kernel": kernel}}


def traced(config):
  """Traces the start and a step of any task, which keeps the form of the state.

  Returns:
    (shapes of the state, shapes of the metrics).
  """
  loader = tasks.make_loader(config)
  functions = StepFunctions(config, loader.vocab)
  state = jax.eval_shape(functions.init)
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((config.train.batch_size, *x.shape[1:]), x.dtype),
    loader.batch(0, range(1)),
  )
  new, metrics = jax.eval_shape(functions.train, state, batch)
  form = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
  assert form(new) == form(state)
  return state, metrics
