"""What is prefilled together: parts of a row, long ones where only text is written."""

import numpy as np
import pytest

from tests import small
from unijax.data.document import Text
from unijax.data.layout import Layout
from unijax.infer import functions
from unijax.infer.generate import Generator, Prompt
from unijax.infer.row import chunks, padded

SIZES = (8, 32)


@pytest.mark.parametrize(
  ("length", "parts"),
  [(5, [5]), (16, [8, 8]), (17, [17]), (32, [32]), (40, [32, 8]), (60, [32, 28])],
)
def test_what_is_left_takes_the_size_it_fills(length, parts):
  layout = Layout(key=0)
  layout.add_tokens(list(range(length)), 0.0)
  made = list(chunks(layout, SIZES))
  assert [len(x) for x in made] == parts
  assert sum((x.tokens for x in made), []) == list(range(length))
  sizes = [8 if n <= 8 else 32 for n in parts]
  assert [padded([x, None], SIZES) for x in made] == sizes


def test_an_image_is_whole_in_its_part():
  c = small.config()
  parts = "a" * 28, 1, "x" * 20  # which the 32nd position is of
  layout = small.builder(c).layout(small.plain(*parts))
  made = list(chunks(layout, SIZES))
  assert len(made) > 1
  for part in made:
    assert (np.array(part.span) >= 0).sum() in (0, c.image_positions)


def test_an_image_takes_the_least_size_that_holds_it():
  c = small.config()
  assert c.image_positions > 2
  layout = small.builder(c).layout(small.plain("a" * 3, 1, "x" * 2))
  made = list(chunks(layout, (2, c.image_positions + 4, 99)))
  held = [(np.array(part.span) >= 0).sum() for part in made]
  assert sorted(held)[-1] == c.image_positions and sum(held) == c.image_positions
  assert sum(map(len, made)) == len(layout) and all(map(len, made))


def test_words_of_a_drawing_model_take_a_short_chunk():
  c = small.config(data__image_size=64, data__patch_size=4, data__seq_len=320)
  assert c.image_positions > 255
  assert functions.chunk_lengths(c)[0] == functions.TEXT_CHUNK
  assert functions.chunk_lengths(small.config()) == (
    functions.chunk_length(small.config()),
  )


def test_long_chunks_say_what_short_ones_say(monkeypatch):
  c = small.config(
    model__write="none", model__read="features", vision__patch_size=2,
    data__seq_len=640, sample__max_text_tokens=6, sample__temperature=0.0,
  )  # fmt: skip
  assert functions.chunk_lengths(c) == (32, 512)
  params, said = small.lively(small.params(c, 0)), {}
  prompts = [Prompt([Text("ab" * n)]) for n in (10, 140, 300)]
  for long in (512, 32):
    monkeypatch.setattr(functions, "LONG_CHUNK", long)
    made = Generator(c, params, small.builder(c), rows=3)
    said[long] = [a.tokens for a in made.generate(prompts)]
    assert made.functions.prefill._cache_size() == (2 if long > 32 else 1)
  assert said[512] == said[32] and all(said[32])
