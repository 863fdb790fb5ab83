"""Laws of rows: what a document looks like to the model, and what of it is trained.

Documents are written as lines of tokens. `p` is a patch, capitals are special tokens,
small letters are text; a star behind a token says that it is trained: as the target of
the position before it, or, for a patch, by denoising.
"""

import dataclasses

import numpy as np
import pytest

from tests import small
from unijax.config import SourceConfig
from unijax.data import rows
from unijax.data.document import DataError, Document, Image, Text, Turn
from unijax.data.sources import make_source
from unijax.types import Batch

USER, ASSISTANT = Turn("user"), Turn("assistant")
NAMES = {i: name.upper() for i, name in small.VOCABULARY.names.items()}


def given(words: str) -> Text:
  return Text(words, loss=False)


def read() -> Image:
  return small.image(9, context=True)


DRAW = (USER, given("hi"), ASSISTANT, small.image(1))
DESCRIBE = (USER, read(), ASSISTANT, Text("ok"))
ASK = (USER, read(), given("q"), ASSISTANT, Text("a"), USER, given("r"), ASSISTANT,
       Text("b"))  # fmt: skip
EDIT = (USER, read(), given("e"), ASSISTANT, small.image(1))
PLAIN = (Text("x"), small.image(1), Text("y"), small.image(2), Text("z"))
IMAGE_FIRST = (small.image(1), Text("x"))
UNTRAINED = (given("a"), Text("b"))


def written(layout) -> str:
  """The line of a layout."""
  line = []
  for i, token in enumerate(layout.tokens):
    if layout.patch[i] >= 0:
      line.append("p" + "*" * int(layout.image_weight[i]))
    else:
      name = NAMES.get(token) or chr(token)
      line.append(name + "*" * int(layout.text_weight[i]))
  return " ".join(line)


def lay_out(parts, key=0, open_end=False, without_text=None, **knobs):
  builder = small.builder(small.config(**knobs))
  document = Document(tuple(parts), id=0)
  return builder.layout(document, key, open_end=open_end, without_text=without_text)


P = "p* p* p* p*"
AUDIT = {
  "draw": (DRAW, f"BOS USER h i ASSISTANT BOI* {P} EOI EOS*"),
  "describe": (DESCRIBE, f"BOS USER BOI {P} EOI ASSISTANT o* k* EOS*"),
  "ask": (ASK, f"BOS USER BOI {P} EOI q ASSISTANT a* EOS* USER r ASSISTANT b* EOS*"),
  "edit": (EDIT, f"BOS USER BOI {P} EOI e ASSISTANT BOI* {P} EOI EOS*"),
  "plain": (PLAIN, f"BOS x* BOI* {P} EOI y* BOI* {P} EOI z* EOS*"),
  # What begins a document is no answer to anything: its BOI is not predicted.
  "image first": (IMAGE_FIRST, f"BOS BOI {P} EOI x* EOS*"),
  "untrained text": (UNTRAINED, "BOS a b* EOS*"),
}


@pytest.mark.parametrize("name", AUDIT)
def test_what_is_trained(name):
  parts, line = AUDIT[name]
  assert written(lay_out(parts)) == line
  # An open end is a prompt: the same without the last token, which the model writes.
  assert written(lay_out(parts, open_end=True)) == line.removesuffix(" EOS*")


@pytest.mark.parametrize("name", AUDIT)
def test_a_time_token_stands_before_every_image_and_is_never_trained(name):
  parts, line = AUDIT[name]
  layout = lay_out(parts, model__time_injection="token")
  assert written(layout) == line.replace(P, f"TIME {P}")
  for offset, _ in layout.images:  # it belongs to the image's span, but is no patch
    assert layout.span[offset - 1] == layout.span[offset]
    assert layout.patch[offset - 1] == -1
    assert layout.noise_limit[offset - 1] == layout.noise_limit[offset]
    assert layout.span[offset - 2] == -1 and layout.span[offset + 4] == -1


def test_clean_context_images_are_not_trained():
  clean = {"data__noise_limit": 0.0}
  line = AUDIT["edit"][1].replace("p*", "p", 4)
  assert written(lay_out(EDIT, **clean)) == line
  assert written(lay_out(DRAW, **clean)) == AUDIT["draw"][1]
  limits = lay_out(EDIT, data__noise_limit=0.3).noise_limit
  assert sorted(set(limits)) == [0.0, 0.3, 1.0]


def test_caption_dropout_drops_the_text_before_the_last_target():
  always = {"data__caption_dropout": 1.0}
  line = {name: written(lay_out(parts, **always)) for name, (parts, _) in AUDIT.items()}
  assert line["draw"] == f"BOS USER ASSISTANT BOI* {P} EOI EOS*"
  assert line["edit"] == f"BOS USER BOI {P} EOI ASSISTANT BOI* {P} EOI EOS*"
  assert line["plain"] == f"BOS BOI* {P} EOI BOI* {P} EOI z* EOS*".replace(
    "BOS BOI*", "BOS BOI"
  )
  for name in ("describe", "ask", "untrained text"):  # nothing is drawn
    assert line[name] == AUDIT[name][1]


def test_caption_dropout_is_a_share_decided_by_the_key():
  def dropped(p):
    return [len(lay_out(DRAW, key, data__caption_dropout=p)) < 12 for key in range(300)]

  some = dropped(0.3)
  assert not any(dropped(0.0)) and some == dropped(0.3)
  assert 0.2 < np.mean(some) < 0.4


def test_without_text_drops_all_of_it_or_none():
  assert (
    written(lay_out(PLAIN, without_text=True)) == f"BOS BOI {P} EOI BOI* {P} EOI EOS*"
  )
  kept = lay_out(PLAIN, without_text=False, data__caption_dropout=1.0)
  assert written(kept) == AUDIT["plain"][1]


@pytest.mark.parametrize(
  ("scheme", "first", "patches", "after"),
  [
    ("sequential", 3, [(3, 3, 3), (4, 4, 4), (5, 5, 5), (6, 6, 6)], 7),
    ("shared", 3, [(3, 3, 3)] * 4, 4),
    ("grid", 3, [(3, 3, 3), (3, 3, 4), (3, 4, 3), (3, 4, 4)], 5),
  ],
)
def test_positions(scheme, first, patches, after):
  layout = lay_out(PLAIN, model__positions=scheme)  # BOS x BOI p p p p EOI y BOI ..
  assert layout.position[:3] == [(i, i, i) for i in range(first)]
  assert layout.position[3:7] == patches
  assert layout.position[7:10] == [(i, i, i) for i in range(after, after + 3)]
  second = np.array(layout.position[10:14]) - (after + 3)
  assert (second == np.array(patches) - first).all()
  assert layout.next_position == layout.position[-1][0] + 1


def fields(row: Batch, start: int, stop: int) -> dict:
  values = {f.name: getattr(row, f.name) for f in dataclasses.fields(Batch)}
  return {name: x[start:stop] for name, x in values.items() if x is not None}


def test_packing_places_each_document_as_if_alone():
  c = small.config(model__time_injection="token", model__positions="grid")
  builder = small.builder(c)
  documents = [EDIT, DESCRIBE, PLAIN]
  layouts = [
    builder.layout(Document(parts, id=0), key=10 + i)
    for i, parts in enumerate(documents)
  ]
  packed = builder.row(layouts[:2])
  start = spans = 0
  for number, layout in enumerate(layouts[:2], start=1):
    stop = start + len(layout)
    got, alone = (
      fields(packed, start, stop),
      fields(builder.row([layout]), 0, len(layout)),
    )
    assert (got.pop("segment_BT") == number).all() and (
      alone.pop("segment_BT") == 1
    ).all()
    got_span, span = got.pop("span_BT"), alone.pop("span_BT")
    assert (got_span == np.where(span >= 0, span + spans, -1)).all()
    for name, values in alone.items():
      np.testing.assert_array_equal(got[name], values, err_msg=name)
    start, spans = stop, spans + len(layout.images)
  padding = fields(packed, start, c.data.seq_len)
  assert (padding.pop("tokens_BT") == small.SPECIAL.pad).all()
  for name in ("span_BT", "patch_BT"):
    assert (padding.pop(name) == -1).all()
  assert all((values == 0).all() for values in padding.values())


def test_images_keep_their_key_pixels_and_raster_order():
  c = small.config()
  row = small.batch(c, [small.plain("a", 5, 6), small.plain(7)], first_key=3)
  row = small.batch(c, [small.plain("a", 5, 6), small.plain(7)], first_key=3)
  keys = row.image_key_BT[0][row.patch_BT[0] == 0].tolist()
  most = rows.IMAGES_OF_A_DOCUMENT
  assert keys == [3 * most, 3 * most + 1, 4 * most]
  for number, seed in enumerate((5, 6, 7)):
    here = row.span_BT[0] == number
    assert row.patch_BT[0][here].tolist() == [0, 1, 2, 3]
    pixels = small.image(seed).pixels().astype(np.float32) / 127.5 - 1
    for patch, values in enumerate(row.patches_BTC[0][here]):
      y, x = 2 * (patch // 2), 2 * (patch % 2)
      square = pixels[y : y + 2, x : x + 2].reshape(-1)
      np.testing.assert_allclose(values, square, atol=1e-6)
  assert (row.patches_BTC[0][row.patch_BT[0] < 0] == 0).all()


def test_what_does_not_fit_says_what_to_do():
  c = small.config(data__seq_len=16, data__images_per_row=1)
  builder = small.builder(c)
  long = builder.layout(Document((Text("x" * 15),), id=0))
  with pytest.raises(DataError, match=r"17 positions do not fit .*data.seq_len=16"):
    builder.row([long])
  image = builder.layout(Document((small.image(1),), id=0))
  assert len(image) == 8
  with pytest.raises(DataError, match=r"2 images, more than data.images_per_row=1"):
    builder.row([image, image])
  big = Document((small.image(1, size=8),), id=0)
  with pytest.raises(DataError, match=r"noise 1: 8x8 px, but data.image_size is 4"):
    builder.layout(big)


@pytest.mark.parametrize("token", ["add", "token"])
def test_measuring_is_the_size_of_the_layout(token):
  c = small.config(
    model__time_injection=token, data__caption_dropout=0.5, data__image_size=32,
    data__patch_size=8,
  )  # fmt: skip
  sources = {
    "scenes": {"tasks": dict.fromkeys(["draw", "describe", "ask", "edit", "multi"], 1)},
    "emoji": {},
    "corpus": {},
  }
  builder = small.builder(c)
  for kind, options in sources.items():
    for chat in (True, False) if kind != "corpus" else (True,):
      chosen = {**options, "chat": chat} if kind != "corpus" else options
      source = make_source(SourceConfig(kind, kind, 1.0, chosen), 32)
      for i in range(60):
        layout = builder.layout(source[i], key=i)
        assert builder.measure(source[i], key=i) == (len(layout), len(layout.images))
  wrong = Document((small.image(1, size=6),), id=0)
  with pytest.raises(DataError, match="6x6 px, but data.image_size is 32"):
    builder.measure(wrong)


def test_a_part_is_a_layout_of_its_own():
  layout = lay_out(PLAIN, model__time_injection="token")
  at = 9  # EOI y | BOI TIME p p p p EOI ..
  parts = [layout.part(0, at), layout.part(at, len(layout))]
  assert written(parts[0]) + " " + written(parts[1]) == written(layout)
  assert [len(p.images) for p in parts] == [1, 1]
  assert set(parts[1].span) == {-1, 0}  # images are numbered anew
  assert parts[1].images[0][0] == layout.images[1][0] - at
  assert parts[0].position + parts[1].position == layout.position


def test_stacking_keeps_every_field():
  c = small.config()
  batch = small.batch(c, [small.plain("a", 1)], [small.plain("b")])
  for name, value in vars(batch).items():
    assert value is None or value.shape[:2] == (2, c.data.seq_len), name
  assert batch.hidden_BT is None  # no config's rows hide anything unless it says so
  assert batch.pixels_BIHWC is None and batch.feature_BT is None  # nothing is encoded
  assert batch.tokens_BT.dtype == batch.span_BT.dtype == np.int32
  assert batch.image_key_BT.dtype == np.uint32
  assert batch.patches_BTC.dtype == batch.text_weight_BT.dtype == np.float32
