"""Rows with context images that an encoder reads: what stands where."""

import numpy as np
import pytest

from tests import small
from tests.laws import variants
from tests.laws.variants import image
from unijax.config import READS
from unijax.config_sections import ModelConfig
from unijax.data.document import Document, Text, Turn
from unijax.infer.functions import chunk_length
from unijax.infer.row import chunks

ASK = (image(1, True), Text("a"), image(2), Text("b"), image(3, True))
WAYS = {c["model__read"]: name for name, c in variants.READ.items()}


def config(read: str, **knobs):
  return variants.config(WAYS[read], data__image_tokens=(), **knobs)


def names(c, layout) -> str:
  """BOI ( and EOI ); a patch is p, a feature f, both F, a time token t, text itself."""
  special, found = small.SPECIAL, ""
  other = {special.boi: "(", special.eoi: ")", special.bos: "<", special.eos: ">"}
  for token, patch, feature, span in zip(
    layout.tokens, layout.patch, layout.feature, layout.span, strict=True
  ):
    if patch >= 0:
      found += "F" if feature >= 0 else "p"
    elif span >= 0:
      found += "f" if feature >= 0 else "t"
    else:
      found += other.get(token) or chr(token)
  return found


def test_the_tables_have_the_same_names():
  assert set(READS) == set(ModelConfig.__annotations__["read"].__args__)
  read = {c.get("model__read", "patches") for c in variants.VARIANTS.values()}
  assert read == set(READS)


@pytest.mark.parametrize(
  ("read", "row"),
  [
    ("features", "<(fff)a(pppp)b(fff)>"),
    ("both", "<(tpppp)(ffff)a(tpppp)b(tpppp)(ffff)>"),
    ("fused", "<(FFFF)a(pppp)b(FFFF)>"),
  ],
)
def test_what_is_shown_is_read_so_and_what_is_drawn_as_it_is_written(read, row):
  c = config(read)
  b = small.builder(c)
  layout = b.layout(Document(ASK, 1))
  assert names(c, layout) == row
  assert b.measure(Document(ASK, 1)) == (len(layout), len(layout.images))
  # What is only read is no target.
  features = np.array(layout.feature) >= 0
  assert not np.array(layout.image_weight)[features].any()
  assert not np.array(layout.noise_limit)[features].any()


def test_features_may_stand_alone():
  c = config("features", data__image_frame="bare")
  b = small.builder(c)
  layout = b.layout(Document(ASK, 1))
  assert names(c, layout) == "<fffa(pppp)bfff>"
  assert b.measure(Document(ASK, 1)) == (len(layout), len(layout.images))


@pytest.mark.parametrize("read", WAYS)
def test_every_feature_is_that_of_its_own_picture(read):
  """Two documents in a row: their pictures in order, each with its own pixels."""
  c = config(read, data__images_per_row=8)
  b = small.builder(c)
  row = b.row([b.layout(Document(ASK, 1)), b.layout(Document((image(4, True),), 2))])
  F = c.features
  assert row.pixels_BIHWC.shape == (c.pictures, *[variants.SIZE] * 2, 3)
  for slot, seed in enumerate((1, 3, 4)):
    assert (row.pixels_BIHWC[slot] == image(seed).pixels()).all()
    at = np.flatnonzero((row.feature_BT >= 0) & (row.feature_BT // F == slot))
    assert (row.feature_BT[at] == slot * F + np.arange(F)).all()
    assert len(set(row.span_BT[at])) == len(set(row.segment_BT[at])) == 1
    assert (row.segment_BT[at] == 1 + (slot == 2)).all()
  assert not row.pixels_BIHWC[3:].any() and row.feature_BT.max() == 3 * F - 1


@pytest.mark.parametrize("read", WAYS)
def test_chunks_hold_whole_images_and_one_picture(read):
  c = config(read, data__images_per_row=10)
  b = small.builder(c)
  layout = b.layout(Document((*ASK, image(5, True), image(6, True)), 1))
  parts, length = list(chunks(layout, (chunk_length(c),))), chunk_length(c)
  assert sum(map(len, parts)) == len(layout)
  whole, shown = b.row([layout]), []
  for part in parts:
    row = b.chunk(part, length)
    seen = {n // c.features for n in row.feature_BT if n >= 0}
    assert seen <= {0} and row.pixels_BIHWC.shape[0] == 1
    assert (row.feature_BT >= 0).sum() in (0, c.features)
    shown += [row.pixels_BIHWC[0]] if seen else []
  assert len(shown) == 4
  for one, other in zip(shown, whole.pixels_BIHWC, strict=False):
    assert (one == other).all()


def test_nothing_changes_where_nothing_is_encoded():
  b = small.builder(variants.config("diffusion-shared"))
  row = b.row([b.layout(Document((Turn("user"), *ASK), 1))])
  assert row.pixels_BIHWC is None and row.feature_BT is None
