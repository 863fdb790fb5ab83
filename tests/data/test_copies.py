"""What a training row holds twice, where the copies stand, and how they are counted."""

import itertools

import numpy as np
import pytest

from tests import small
from unijax.data import copies
from unijax.data.document import Document, Image, Text, Turn

USER, MODEL = Turn("user"), Turn("assistant")
ASKED, SAID = Text("q", False), Text("a")


def of(*parts, **knobs):
  """(builder, layout) of a document, with copies."""
  knobs = dict(data__clean_copy=True, data__seq_len=96, data__noise_limit=0.5) | knobs
  b = small.builder(small.config(**knobs))
  return b, b.layout(Document(parts, 1), key=5)


def target(seed=1):
  return small.image(seed)


def context(seed=1):
  return small.image(seed, True)


@pytest.mark.parametrize(
  ("parts", "twice"),
  [
    ([Text("x"), target()], set()),  # EOI and EOS alone
    ([target(), SAID], {0}),
    ([target(), Text("")], set()),
    ([target(), target(2), target(3)], {0, 1}),
    ([USER, ASKED, MODEL, target()], set()),
    ([USER, ASKED, MODEL, target(), USER, ASKED], set()),  # nothing there is trained
    ([USER, ASKED, MODEL, target(), USER, SAID], set()),  # nor this: a user's
    ([USER, ASKED, MODEL, target(), USER, ASKED, MODEL, SAID], {3}),
    ([USER, context(), MODEL, SAID], set()),
    ([USER, context(), ASKED, MODEL, target()], set()),
    ([MODEL, target(), USER, context(), ASKED], {1}),
  ],
)
def test_what_is_there_twice(parts, twice):
  assert copies.twice(parts) == twice


@pytest.mark.parametrize(
  ("positions", "time"),
  [(p, t) for p in ("sequential", "shared", "grid") for t in ("add", "token")],
)
def test_a_copy_stands_behind_the_noised_image_at_its_positions(positions, time):
  knobs = dict(model__positions=positions, model__time_injection=time)
  b, x = of(Text("x"), target(), SAID, **knobs)
  _, once = of(Text("x"), target(), SAID, data__clean_copy=False, **knobs)
  n = b.grid**2 + (time == "token")
  noised, clean = slice(3, 3 + n), slice(3 + n, 3 + 2 * n)  # BOS x BOI ..
  assert x.hidden == [False] * 3 + [True] * n + [False] * (len(x) - 3 - n)
  for name in ("tokens", "patch", "position"):
    values = getattr(x, name)
    assert values[noised] == values[clean]
    assert values[:3] + values[clean] + values[3 + 2 * n :] == getattr(once, name)
  assert x.span[noised] == [0] * n and x.span[clean] == [1] * n
  assert set(x.noise_limit[noised]) == {1.0} and not any(x.noise_limit[clean])
  patches = [w for w, p in zip(x.image_weight, x.patch, strict=True) if p >= 0]
  assert patches == [1.0] * b.grid**2 + [0.0] * b.grid**2
  assert x.text_weight[:3] + x.text_weight[3 + 2 * n :] == (
    once.text_weight[:3] + once.text_weight[3 + n :]
  )
  assert x.next_position == once.next_position


def test_rows_of_copies():
  """Both copies have one identity, that of the image in a row without copies."""
  reads = itertools.count()
  pixels = np.zeros((4, 4, 3), np.uint8)
  counted = Image(lambda: next(reads) is None or pixels, 4, 4)
  parts = [Text("x"), counted, SAID, target(2), target(3)]
  b, x = of(*parts, data__images_per_row=5)
  before = b.layout(Document((Text("z"),), 2))
  row = b.row([before, x])
  assert next(reads) == 1  # a picture is loaded once for both copies
  assert row.span_BT.max() == 4 and row.hidden_BT.sum() == 2 * b.grid**2
  other, single = of(*parts, data__clean_copy=False)
  first = lambda r: r.image_key_BT[r.patch_BT == 0].tolist()
  keys = first(other.row([single]))
  assert first(row) == [keys[0], keys[0], keys[1], keys[1], keys[2]]
  assert (row.patches_BTC[row.hidden_BT] == row.patches_BTC[
    np.roll(row.hidden_BT, b.grid**2)]).all()  # fmt: skip
  assert b.chunk(before, 8).hidden_BT is None and other.row([single]).hidden_BT is None
  with pytest.raises(ValueError, match="5 images, more than data.images_per_row=4"):
    small.builder(small.config(data__clean_copy=True)).row([before, x])


def test_measure_counts_copies():
  c = small.config(data__clean_copy=True, model__time_injection="token",
                   data__caption_dropout=0.5)  # fmt: skip
  b, more = small.builder(c), 0
  parts = [USER, ASKED, MODEL, target(), SAID, context(), target(2), Text("", True)]
  for count, key in itertools.product(range(1, len(parts) + 1), range(4)):
    document = Document(tuple(parts[:count]), 1)
    x = b.layout(document, key=key)
    assert b.measure(document, key=key) == (len(x), len(x.images))
    more += any(x.hidden)
  assert more > 4


def test_prompts_hold_images_once():
  b, x = of(target(), SAID, target(2), SAID)
  prompt = b.layout(Document((target(), SAID), 1), open_end=True)
  assert any(x.hidden) and not any(prompt.hidden) and len(prompt.images) == 1
