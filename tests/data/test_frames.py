"""What frames an image, and what stands around it by what a document is for."""

import jax
import numpy as np
import pytest

from tests.laws import variants
from tests.small import builder
from unijax.config import ConfigError
from unijax.data.document import Document, Image, Text, Turn, leading
from unijax.nn import masks

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
