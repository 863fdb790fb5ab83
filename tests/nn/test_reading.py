"""Pictures read through an encoder: connectors, fusion, where features go."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.conftest import ROOT
from tests.laws import variants
from tests.nn.test_vision import scrambled
from unijax import config_file
from unijax.checkpoint import integrity, start
from unijax.config_reads import LENGTHS
from unijax.config_sections import ModelConfig
from unijax.nn import modality, reading
from unijax.nn.connectors import CONNECTORS
from unijax.nn.vision import normalised
from unijax.train import freeze
from unijax.train.functions import StepFunctions


def test_connectors_make_as_many_positions_as_rows_keep_for_them():
  names = ModelConfig.__annotations__["connector"].__args__
  assert set(LENGTHS) == set(CONNECTORS) == set(names)
  for name in names:
    c = variants.config(
      "codes-features", model__connector=name, vision__patch_size=2,
      model__connector_queries=5,
    )  # fmt: skip
    _, connector = reading.make_reader(c)
    x = jnp.ones((2, 16, c.vision.width))
    shape = jax.eval_shape(
      lambda m=connector, x=x: m.init_with_output(jax.random.key(0), x)[0]
    )
    assert shape.shape == (2, c.features, c.model.width), name
  assert reading.make_reader(variants.config("diffusion-shared")) == (None, None)


def test_fusion_against_numpy():
  rng = np.random.default_rng(0)
  patch, feature = rng.standard_normal((2, 3, 8)), rng.standard_normal((2, 3, 6))
  module = reading.Fusion(8, jnp.float32)
  p = scrambled(module, patch, feature)
  got = module.apply({"params": p}, jnp.asarray(patch, jnp.float32), feature)
  x = np.concatenate([patch, feature], axis=-1)
  x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * p["norm"]["scale"]
  x = np.asarray(x @ p["in"]["kernel"] + p["in"]["bias"])
  x = np.asarray(jax.nn.gelu(x, approximate=False))
  np.testing.assert_allclose(
    got, x @ p["out"]["kernel"] + p["out"]["bias"], rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize("name", ["codes-features", "diffusion-fused"])
def test_each_position_gets_the_feature_of_its_own_place(name):
  """Two pictures in a row: the encoder is run on each alone."""
  c = variants.config(name)
  batch = variants.in_rows(c, [2, 1], [1, 1])
  params, model = small.params(c, 0), small.functions(c).model
  run = lambda m, x: reading.features(m.vision, m.connector, x)
  call = jax.jit(
    lambda x: model.apply({"params": params}, x, method=run),
    compiler_options=small.QUICK,
  )
  got = np.asarray(call(small.inputs(c, batch)))

  encoder, connector = reading.make_reader(c)

  @functools.partial(jax.jit, compiler_options=small.QUICK)
  def alone(pixels):
    x = encoder.apply({"params": params["vision"]}, normalised(pixels[None]))[1]
    return (
      x if connector is None else connector.apply({"params": params["connector"]}, x)
    )

  alone_RIP = np.stack([[alone(x)[0] for x in row[:2]] for row in batch.pixels_BIHWC])
  for row, t in np.argwhere(batch.feature_BT >= 0):
    slot, place = divmod(int(batch.feature_BT[row, t]), c.features)
    want = alone_RIP[row, slot, place]
    np.testing.assert_allclose(got[row, t], want, rtol=1e-4, atol=1e-4)
  assert not got[batch.feature_BT < 0].any()
  assert (batch.feature_BT[1] >= 0).sum() == 2 * c.features


def test_features_go_through_the_weights_of_text():
  """And an encoder that is not pooled has no parameters for it."""
  batch = variants.in_rows(variants.config("diffusion-both"), [1, 2])
  image = np.asarray(modality.written(batch))
  assert (image == (batch.span_BT >= 0) & (batch.feature_BT < 0)).all()
  assert image.any() and (batch.feature_BT >= 0).any()
  fused = variants.in_rows(variants.config("diffusion-fused"), [1, 2])
  assert (np.asarray(modality.written(fused)) == (fused.span_BT >= 0)).all()
  without = dataclasses.replace(batch, pixels_BIHWC=None, feature_BT=None)
  assert (np.asarray(modality.written(without)) == (batch.span_BT >= 0)).all()
  assert "pool" not in small.params(variants.config("diffusion-both"), 0)["vision"]


@pytest.mark.parametrize(
  ("system", "leaves_out"),
  [("clip", r"(?!vision\.).*"), ("siglip", r"(?!vision\.).*|vision\.pool\..*")],
)
def test_the_encoder_of_an_alignment_run_is_a_start(system, leaves_out):
  """By the renaming that configs/llava.py names; nothing else of the run is taken."""
  one = config_file.load([f"--config={ROOT}/configs/{system}.py:tiny"])
  two = config_file.load([f"--config={ROOT}/configs/llava.py:tiny-frozen"])
  two = dataclasses.replace(two, vision=one.vision)
  params = [jax.eval_shape(StepFunctions(c, 520).init).params for c in (one, two)]
  saved, wanted = map(integrity.named_leaves, params)
  taken = start.renamed(list(saved), start.parse_init(f"RUN:{leaves_out}=>")[1])
  assert all(new == old for new, old in taken.items())
  assert set(taken) == {name for name in wanted if name.startswith("vision.")}
  assert all(saved[name].shape == wanted[name].shape for name in taken)
  for stage in range(2):
    rests = freeze.mask(two.at(stage).optim.freeze, params[1])
    assert all(jax.tree.leaves(rests["vision"]))
    assert not any(jax.tree.leaves((rests["connector"], rests["transformer"])))


QUERIES = (  # as WORKSPACE.md has it
  r".*text_mlp.*=>,"
  r"qformer\.(query|embed_norm.*|feature_norm.*|groups.*|final_norm.*)"
  r"=>connector.queries.\1,vision\.(?!pool\.).*=>\g<0>,.*=>"
)


def test_the_queries_of_an_alignment_run_are_a_start():
  """All that reads pictures is taken, but for the map to the decoder's width."""
  assert f"RUN:{QUERIES}" in (ROOT / "WORKSPACE.md").read_text()
  one = config_file.load([f"--config={ROOT}/configs/qformer.py:tiny"])
  two = config_file.load([f"--config={ROOT}/configs/llava.py:tiny-frozen"])
  asked = {"connector": "qformer", "connector_queries": one.align.queries}
  two = dataclasses.replace(
    two, vision=one.vision, text=one.text, align=one.align,
    model=dataclasses.replace(two.model, **asked),
  )  # fmt: skip
  params = [jax.eval_shape(StepFunctions(c, 520).init).params for c in (one, two)]
  saved, wanted = map(integrity.named_leaves, params)
  taken = start.renamed(list(saved), start.parse_init(f"RUN:{QUERIES}")[1])
  reads = {n for n in wanted if n.startswith(("vision.", "connector.queries."))}
  assert set(taken) == reads and "connector.queries.query" in reads
  assert all(saved[old].shape == wanted[new].shape for new, old in taken.items())
