"""What frames an image, and what stands around it by what a document is for."""

import jax
import numpy as np
import pytest

from tests.laws import variants
from tests.small import builder
from unijax.config import ConfigError
from unijax.data.document import Document, Image, Text, Turn, leading
from unijax.nn import masks, modality

CONFIG = variants.config("masked-framed")
MARK = 263  # of "#"


def layout(*parts, **how):
  return builder(CONFIG).layout(Document(parts, id=1), **how)


def shown(x) -> str:
  """A layout as a word: text, [ and ] for BOI and EOI, c for codes, # for the mark."""
  special = builder(CONFIG).vocabulary.special
  names = {special.boi: "[", special.eoi: "]", special.eos: "$", MARK: "#"}
  code = lambda t, p: "c" if p >= 0 else names.get(t) or chr(t)
  return "".join(map(code, x.tokens, x.patch))


ASK = (Turn("user"), variants.image(1, True), Text("hi"), Turn("assistant"))
DRAW = (Turn("user"), Text("hi"), Turn("assistant"))


@pytest.mark.parametrize(
  ("parts", "how", "wanted"),
  [
    (ASK, {"open_end": True}, "#m[cccc].UhiA"),
    (ASK[1:3], {}, "#m[cccc].hi$"),
    (DRAW, {"open_end": True, "draws": True}, "#hiA!"),
    (DRAW, {"open_end": True, "draws": True, "without_text": True}, "#A!"),
    (DRAW, {"open_end": True}, ".UhiA"),
    ((*DRAW, variants.image(2)), {}, "#hiA![cccc]$"),
    ((Text("hi"), variants.image(2)), {}, "#hi![cccc]$"),
    ((*ASK, variants.image(2)), {}, "#m[cccc]#hiA![cccc]$"),
    ((Text("a"), variants.image(1, True), Text("b")), {}, ".a#m[cccc]b$"),
  ],
)  # fmt: skip
def test_words_around_images_are_those_of_what_is_asked(parts, how, wanted):
  x = layout(*parts, **how)
  assert shown(x) == wanted
  if not how:
    images = sum(isinstance(p, Image) for p in parts)
    assert builder(CONFIG).measure(Document(parts, id=1)) == (len(x), images)


def test_a_frame_sees_its_image_and_the_image_its_frame():
  """Of `.a#m[cccc]b$`: from # to ] each sees all of these, and none sees b."""
  b = builder(CONFIG)
  x = layout(Text("a"), variants.image(1, True), Text("b"))
  row = b.row([x])
  start, end = masks.intervals(row.span_BT[None], row.segment_BT[None], "framed")
  assert start[0, :12].tolist() == [0] * 12
  assert end[0, :12].tolist() == [0, 1, *[9] * 8, 10, 11]
  assert CONFIG.frame == 5  # two bytes, a space that may be, BOI and EOI
  plain = builder(variants.config("masked-shared")).layout(
    Document((Text("a"), variants.image(1, True)), id=1)
  )
  assert plain.span == [-1, -1, -1, 0, 0, 0, 0, -1, -1]


def test_no_position_of_a_frame_is_hidden():
  c, batch = CONFIG, variants.in_rows(CONFIG, [0, 1], [3, 4])
  corrupt = jax.jit(variants.path(c).corrupt)
  counts = []
  for seed in range(40):
    hidden = np.asarray(corrupt(jax.random.key(seed), batch)[1])
    assert not hidden[batch.patch_BT < 0].any()
    counts += [hidden[b, t : t + 4].sum() for b, t in np.argwhere(
      (batch.patch_BT == 0) & (batch.noise_limit_BT == 1)
    )]  # fmt: skip
  share = np.mean(counts) / 4
  t = np.random.default_rng(0).uniform(size=100_000)
  wanted = np.maximum(np.round(4 * np.sin(np.pi / 2 * t)), 1).mean() / 4
  assert abs(share - wanted) < 0.06, (share, wanted)


def test_pictures_that_come_first_are_those_before_any_word():
  one, two, drawn = variants.image(1, True), variants.image(2, True), variants.image(3)
  turn, text = Turn("user"), Text("x")
  assert leading((turn, one, two, text, one)) == ((one, two), (turn, text, one))
  assert leading((one, text)) == ((one,), (text,))
  assert leading((turn, text, one)) == ((), (turn, text, one))
  assert leading((turn, drawn)) == ((), (turn, drawn))
  assert leading((Turn("assistant"), one))[0] == () and leading(()) == ((), ())


@pytest.mark.parametrize(
  ("knobs", "said"),
  [
    (
      {**variants.WRITE["bridge"], "data__codec": "pixels"},
      "model.image_mask: 'framed' makes BOI a part of an image.* slots",
    ),
    ({"model__sharing": "experts"}, "model.sharing: 'experts' balances images and"),
    (
      {
        **variants.WRITE["diffusion"],
        "model__time_injection": "token",
        "data__codec": "pixels",
      },
      "model.time_injection: 'token' is a part of an image",
    ),
    ({"data__chat": (("draw_imago", ""),)}, "no part 'draw_imago'.*'draw_image'"),
  ],
)
def test_what_cannot_be_framed_is_refused(knobs, said):
  with pytest.raises(ConfigError, match=said):
    variants.config("masked-framed", **knobs)


NOISED = variants.config("diffusion-framed")


def test_each_copy_of_an_image_has_its_frame_and_both_have_one_place():
  """Of `U hi A [pppp][pppp] x $`: the first image sees itself, and is seen by no other."""
  b = builder(NOISED)
  parts = (Turn("user"), Text("hi"), Turn("assistant"), variants.image(2), Text("x"))
  x = b.layout(Document(parts, id=1), without_text=False)
  special = b.vocabulary.special
  bounds = [t for t, k in enumerate(x.tokens) if k in (special.boi, special.eoi)]
  assert bounds == [4, 9, 10, 15] and len(x) == 18
  assert x.hidden == [4 <= t <= 9 for t in range(18)]
  assert x.span[4:16] == [0] * 6 + [1] * 6
  assert [p[0] for p in x.position] == [0, 1, 2, 3, *[4] * 12, 5, 6]
  assert x.noise_limit[5:9] == [1.0] * 4 and not any(x.noise_limit[9:])
  assert b.measure(Document(parts, id=1)) == (18, 2)
  row = b.row([x])
  start, end = masks.intervals(row.span_BT[None], row.segment_BT[None], "framed")
  hidden = masks.hidden_spans(row.span_BT[None], row.hidden_BT[None])
  sees = masks.allowed(start, end, np.arange(row.span_BT.size)[None], hidden)[0]
  assert np.asarray(sees)[4:10, :18].sum(1).tolist() == [10] * 6
  assert np.asarray(sees)[10:16, :18].sum(1).tolist() == [4 + 6] * 6
  assert np.asarray(sees)[16, :18].sum() == 4 + 6 + 1


def test_pictures_are_read_as_patches_where_one_is_drawn():
  b = builder(NOISED)
  parts = (Turn("user"), variants.image(1, True), Text("hi"), Turn("assistant"))
  kinds = lambda x: [
    (p >= 0) - (f >= 0) for p, f in zip(x.patch, x.feature, strict=True)
  ]
  lay = lambda **how: b.layout(Document(parts, id=1), open_end=True, **how)
  asked, draws = kinds(lay()), kinds(lay(draws=True, without_text=False))
  assert asked == [0, 0, *[-1] * 4, 0, 0, 0, 0]
  assert draws == [0, 0, *[1] * 4, 0, 0, *[-1] * 4, 0, 0, 0, 0]
  bare = lay(draws=True, without_text=True)
  assert kinds(bare) == draws[1:-3] and bare.span[0] == 0
  blind = lay(draws=True, without_text=False, without_pictures=True)
  assert blind.tokens == [*b"UhiA"]


def test_boi_and_eoi_go_through_the_weights_of_text():
  batch = variants.in_rows(NOISED, [0, 1])
  image = np.asarray(modality.written(batch, "framed"))
  assert (image == (batch.patch_BT >= 0)).all() and image.any()
