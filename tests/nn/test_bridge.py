"""The bridge: where slots stand, what they are trained by, what connectors may mix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import dits, small
from tests.laws import variants
from unijax.nn.bridge import CONNECTORS
from unijax.write.bridge import gather, places

NAME = "bridge-shared"


def test_slots_stand_before_their_image_and_patches_are_its_own():
  c = variants.config(NAME)
  vocabulary = small.builder(c).vocabulary
  batch = variants.in_rows(c, [0, 1], [4, 3])
  where = places(small.inputs(c, batch), c.data.images_per_row, c.slots, c.patches)
  N, P = c.slots, c.patches
  slots = np.asarray(gather(batch.tokens_BT[..., None], where.slot_BIN))[..., 0]
  patches = np.asarray(gather(batch.patches_BTC, where.patch_BIP))
  shape = (-1, c.data.images_per_row)
  slots, patches = (
    slots.reshape(*shape, N),
    patches.reshape(*shape, P, c.patch_channels),
  )
  own = vocabulary.first_slot + np.arange(N)
  for row, count in enumerate((2, 4)):
    assert (slots[row, :count] == own).all()
    assert batch.span_BT[row].max() == count - 1
    for image in range(count):
      here = batch.span_BT[row] == image
      np.testing.assert_array_equal(patches[row, image], batch.patches_BTC[row][here])
  assert (batch.span_BT[batch.tokens_BT >= vocabulary.first_slot] == -1).all()


def test_signals_are_trained_as_text_where_they_are_the_models_own():
  batch = variants.in_rows(variants.config(NAME), [0], [1])  # drawn; shown by the user
  first = small.builder(variants.config(NAME)).vocabulary.first_slot
  weight = [batch.text_weight_BT[r][batch.tokens_BT[r] >= first] for r in (0, 1)]
  assert (weight[0] == 0.5).all() and (weight[1] == 0).all()
  queries = variants.in_rows(variants.config(NAME, bridge__signal_weight=0.0), [0])
  assert queries.text_weight_BT[queries.tokens_BT >= first].sum() == 0


def test_the_loss_of_images_trains_the_queries_the_connector_and_the_decoder():
  c = variants.config(NAME, bridge__signal_weight=0.0, train__text_loss_weight=0.0)
  model, task = small.functions(c).model, small.functions(c).task
  batch, params = variants.in_rows(c, [0], [2]), small.params(c, 0)
  run = jax.jit(jax.grad(task.loss, has_aux=True), compiler_options=small.QUICK)
  gradients = run(params, batch, jax.random.key(0))[0]
  table = np.abs(gradients["embedding"]["table"]).max(axis=-1)
  first = small.builder(c).vocabulary.first_slot
  assert (table[first:] == 0).all() and table[:first].any()  # slots have their own
  assert (np.abs(gradients["bridge"]["queries"]).max(axis=-1) > 0).all()
  assert model.bridge is not None
  for part in ("connector", "decoder"):
    norms = [np.abs(x).max() for x in jax.tree.leaves(gradients["bridge"][part])]
    assert np.mean(np.asarray(norms) > 0) > 0.9
  assert np.abs(gradients["text_head"]["kernel"]).max() == 0


@pytest.mark.parametrize("name", CONNECTORS)
def test_connectors_mix_slots_of_one_picture_at_most(name):
  c = variants.config(NAME, bridge__connector=name)
  module = CONNECTORS[name](c.bridge, c.model)
  h = jax.random.normal(jax.random.key(0), (2, c.slots, c.model.width))
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), h)["params"])
  unbox = functools.partial(jax.tree.map, lambda x: x.value)
  boxed = lambda x: hasattr(x, "names")
  params = dits.random_like(unbox(shapes, is_leaf=boxed))
  apply = jax.jit(lambda h: module.apply({"params": params}, h))
  change = np.abs(apply(h.at[0, 1].add(1.0)) - apply(h)).max(axis=-1)
  assert change[1].max() == 0 and change[0, 1] > 1e-3
  assert (change[0, [0, 2]].max() > 0) == (name == "encoder")
  assert apply(jnp.zeros_like(h)).shape == h.shape
