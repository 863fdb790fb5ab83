"""Rows for guidance in which padding stands for text: every place stays what it is."""

import numpy as np
import pytest

from tests import small
from tests.laws.variants import CODES, IN_ORDER, SIZE
from unijax.data.document import Document, Text, Turn

S = small.SPECIAL
PARTS = (Turn("user"), Text("a dog", False), Turn("assistant"))


def builder(**knobs):
  knobs = {"data__without_text": "padded", "data__image_size": SIZE, **knobs}
  return small.builder(small.config(model__write="codes", **CODES, **IN_ORDER, **knobs))


def picture(seed=1, context=False):
  return small.image(seed, context, SIZE)


def test_a_prompt_keeps_bos_boi_and_its_places_alone():
  b = builder()
  shown = Document((picture(2, True), *PARTS), id=1)
  text, shadow = (
    b.layout(shown, open_end=True, without_text=x, draws=True) for x in (False, True)
  )
  assert shadow.position == text.position and shadow.patch == text.patch
  assert shadow.images == text.images
  count = len(text)
  kept = [i for i in range(count) if text.tokens[i] in (S.bos, S.boi, S.eoi)]
  for i in range(count):
    inside = text.span[i] >= 0
    want = text.tokens[i] if inside or i in kept else S.pad
    assert shadow.tokens[i] == want
  assert shadow.tokens[-1] == S.pad and text.tokens[-1] == S.assistant


def test_hidden_text_leaves_its_places_empty():
  padded, b = builder(), builder(data__without_text="hidden")
  shown = Document((picture(2, True), *PARTS, picture(3), *PARTS), id=1)
  begun = dict(open_end=True, without_text=True, draws=True)
  want, got = (x.layout(shown, **begun) for x in (padded, b))
  stay = [
    i for i, token in enumerate(want.tokens) if token != S.pad or want.span[i] >= 0
  ]
  for name in ("tokens", "position", "span", "patch", "noise_limit"):
    assert getattr(got, name) == [getattr(want, name)[i] for i in stay], name
  assert got.next_position == want.next_position
  assert [got.patch[at] for at, _ in got.images] == [0, 0]
  training = b.layout(Document((*PARTS, picture(3)), id=1), key=3, without_text=True)
  assert [t for t in training.tokens if t in (S.bos, S.user, S.assistant)] == [S.bos]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_dropped_captions_keep_their_places_and_teach_nothing(share):
  b = builder(data__caption_dropout=share)
  document = Document((Text("x"), picture(1), *PARTS, picture(2), Text("end")), id=1)
  x, whole = b.layout(document, key=3), builder(data__caption_dropout=0.0)
  y = whole.layout(document, key=3)
  assert b.measure(document, 3) == (len(x), 2) == whole.measure(document, 3)
  assert (x.position, x.span, x.image_weight) == (y.position, y.span, y.image_weight)
  blank = np.array(x.tokens) != np.array(y.tokens)
  last = x.images[-1][0]
  outside = [i for i in range(last) if y.span[i] == -1]
  text = [i for i in outside if y.tokens[i] not in (S.bos, S.boi, S.eoi)]
  assert blank[text].all() if share else not blank.any()
  assert not blank[last:].any()
  weight = np.array(x.text_weight)
  if share:
    assert not weight[text].any()
    np.testing.assert_array_equal(
      np.delete(weight, text), np.delete(np.array(y.text_weight), text)
    )


def test_a_system_text_stands_before_what_is_only_read():
  chat = (("begin", "("), ("system", "You see."), ("user", "U:"), ("assistant", "A:"))
  b = builder(data__chat=chat)
  decode = lambda parts, **how: b.tokenizer.decode(
    b.layout(Document(parts, id=1), **how).tokens
  )
  assert decode(PARTS, open_end=True) == "(You see.U:a dogA:"
  assert decode(PARTS, open_end=True, draws=True) == "(U:a dogA:"
  assert decode((*PARTS, picture())).startswith("(U:a dogA:")
  assert decode((picture(2, True), *PARTS)).startswith("(You see.")
