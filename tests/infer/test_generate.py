"""Laws of a batch of prompts: rows do not know each other, and nothing compiles twice."""

import copy
import dataclasses
import functools

import numpy as np
import pytest

from tests import small
from tests.infer.reference import BOI, EOS
from unijax.data.document import DataError, Text, Turn
from unijax.infer import batch
from unijax.infer.generate import Generator, Prompt

PROMPTS = (
  Prompt([Text("ab")], seed=1),
  Prompt([Turn("user"), small.image(1, True), Text("a?"), Turn("assistant")], seed=2),
  Prompt([small.image(4), Text("draw")], "image", seed=3),
  Prompt([Text("x")], "image", seed=4, stop_after_image=True),
)


@functools.cache
def generator() -> Generator:
  """Stochastic in text and images, guided: everything random is on."""
  c = small.config(
    model__time_injection="token", data__images_per_row=8, sample__max_images=2,
    sample__sampler="ddpm", sample__guidance=2.0, sample__temperature=0.7,
    sample__top_p=0.95, sample__max_text_tokens=20,
  )  # fmt: skip
  return Generator(c, small.lively(small.params(c, 0)), small.builder(c), rows=4)


@functools.cache
def answers():
  return generator().generate(PROMPTS)


def same(one, other) -> bool:
  if (one.tokens, one.finished) != (other.tokens, other.finished):
    return False
  if len(one.parts) != len(other.parts):
    return False
  pairs = zip(one.parts, other.parts, strict=True)
  return all(
    type(a) is type(b) and (a == b if isinstance(a, str) else (a == b).all())
    for a, b in pairs
  )


def test_the_prompts_lead_to_all_phases():
  tokens = [a.tokens for a in answers()]
  assert any(BOI in t for t in tokens) and any(t and t[-1] == EOS for t in tokens)
  assert any(len(a.images) > 1 for a in answers())
  assert any(a.text for a in answers()) and not answers()[3].text


@pytest.mark.parametrize("i", range(len(PROMPTS)))
def test_a_row_alone_is_the_row_in_a_batch(i):
  assert same(generator().generate([PROMPTS[i]])[0], answers()[i])


def test_layers_apart_say_the_same():
  c, params = generator().config, generator().params
  c = dataclasses.replace(c, sample=dataclasses.replace(c.sample, layers_apart=True))
  made = Generator(c, params, generator().builder, rows=4)
  assert "block_1" in made.params["transformer"]
  assert "blocks" not in made.params["transformer"]
  again = Generator(c, made.params, generator().builder, rows=4)  # as it is
  for one, other in zip(again.generate(PROMPTS), answers(), strict=True):
    assert one.tokens == other.tokens and len(one.images) == len(other.images)
    for a, b in zip(one.images, other.images, strict=True):
      assert abs(a.astype(int) - b).max() <= 1


def test_order_and_number_of_prompts_do_not_matter():
  five = [PROMPTS[i] for i in (2, 0, 3, 1, 0)]  # two groups of at most four
  made = generator().generate(five)
  for got, i in zip(made, (2, 0, 3, 1, 0), strict=True):
    assert same(got, answers()[i])


def test_streaming_changes_nothing_and_shows_everything():
  texts, shares = {}, {}

  def on_text(i, text):
    texts.setdefault(i, []).append(text)

  def on_image(i, share, pixels):
    assert pixels.dtype == np.uint8 and pixels.shape == (small.IMAGE, small.IMAGE, 3)
    shares.setdefault(i, []).append(share)

  streamed = generator().generate(PROMPTS, on_text, on_image)
  for one, other in zip(streamed, answers(), strict=True):
    assert same(one, other)
  for i, answer in enumerate(answers()):
    assert shares.get(i, []) == [0.5, 1.0] * len(answer.images)  # 4 steps by 2
    written = [p for p in answer.parts if isinstance(p, str)]
    assert not written or texts[i][-1] == written[-1]


def test_nothing_compiles_for_another_length_phase_or_knob():
  made = generator()
  made.generate(PROMPTS)
  c, sample = made.config, made.config.sample
  try:
    for n in (1, 5, 13, 29):
      parts = [Text("y" * n), *([small.image(n)] if n < 20 else [])]
      made.generate([Prompt(parts, "image", seed=n)] * (n % 3 + 1))
    knobs = dict(temperature=0.0, top_k=3, min_p=0.1, guidance=5.0)
    knobs |= dict(guidance_low=0.3, schedule_shift=3.0)
    made.config = dataclasses.replace(c, sample=dataclasses.replace(sample, **knobs))
    made.generate(PROMPTS, lambda *_: None, lambda *_: None)
  finally:
    made.config = c
  f = made.functions
  sizes = {
    name: getattr(f, name)._cache_size()
    for name in ("prefill", "decode_text", "draw_image")
  }
  assert sizes == dict.fromkeys(sizes, 1)


def test_seeds_decide():
  again = generator().generate([dataclasses.replace(PROMPTS[2], seed=33)])[0]
  assert (again.images[0] != answers()[2].images[0]).any()


def test_allowances_are_kept():
  made = generator()
  for max_images in (0, 1):
    limited = [dataclasses.replace(p, max_images=max_images) for p in PROMPTS[:2]]
    for answer in made.generate(limited):
      assert len(answer.images) <= max_images
      assert answer.tokens.count(BOI) <= max_images
  answer = made.generate([dataclasses.replace(PROMPTS[0], begin="text", seed=5)])[0]
  assert not answer.images and BOI not in answer.tokens
  for n in (0, 1, 7):
    for answer in made.generate(
      [dataclasses.replace(p, max_text_tokens=n) for p in PROMPTS]
    ):
      assert len(answer.tokens) <= n


def test_a_row_fills_its_cache_and_no_more():
  """However little room is left, what is written fits, with its images."""
  made = generator()
  slots = made.slots
  for room in range(1, 20):
    prompt = Prompt([Text("z" * (slots - 1 - room))], seed=room)  # and BOS
    answer = made.generate([prompt])[0]
    used = len(answer.tokens) + len(answer.images) * (made.config.image_positions + 1)
    assert used <= room
    if not answer.finished and len(answer.tokens) < made.config.sample.max_text_tokens:
      assert used == room, f"{used} of {room} positions used"
  with pytest.raises(DataError, match=r"leaves 0 where 1 are needed: shorten it"):
    made.generate([Prompt([Text("z" * (slots - 1))])])
  with pytest.raises(DataError, match=r"prompt 1 .* leaves 6 where 7 are needed"):
    made.generate([PROMPTS[0], Prompt([Text("z" * (slots - 7))], "image")])


def test_begin_is_checked():
  with pytest.raises(DataError, match="'auto', 'image' or 'text'|auto, image or text"):
    Prompt([Text("a")], begin="picture")


def changed(**sample) -> Generator:
  """The same compiled functions, asked in another way."""
  other = copy.copy(generator())
  section = dataclasses.replace(other.config.sample, **sample)
  other.config = dataclasses.replace(other.config, sample=section)
  return other


def _given(layouts, until, *args):
  """`layouts`, but for the first branch."""
  first = copy.deepcopy(until)
  first.next_position = len(first)
  return [first, *layouts(*args)[1:]]


def test_an_image_behind_a_thought_is_the_one_behind_that_text(monkeypatch):
  """Each way a thought ends: by itself, or because it may not be longer."""
  made, before = generator(), batch.layouts
  ends = set()
  for seed in range(6):
    asked = Prompt([Text("xy")], "image", seed=seed, stop_after_image=True)
    think = dataclasses.replace(asked, think=True, max_text_tokens=6)
    row = batch.RowBatch(made, [think], 0)
    row.run()
    thought, *rest = row.rows
    assert not rest and 0 < len(thought.tokens) <= 6
    ends.add(thought.tokens[-1] == EOS)
    track = thought.tracks[0]
    first = len(track) - made.config.image_positions - 2  # BOI, the image, EOI
    assert track.tokens[first - 1] == EOS and track.tokens[first] == BOI

    given = functools.partial(_given, before, track.part(0, first))
    monkeypatch.setattr(batch, "layouts", given)
    image = made.generate([asked])[0].images[0].astype(int)
    monkeypatch.setattr(batch, "layouts", before)
    assert abs(image - thought.parts[-1]).max() <= 1
    plain = made.generate([asked])[0].images[0].astype(int)
    assert abs(image - plain).max() > 1
  assert ends == {True, False}


def test_a_thought_leaves_room_for_its_image():
  made, text = generator(), {}
  for left in (8, 9, 15):
    parts = [Text("z" * (made.slots - 1 - left))]
    think = Prompt(parts, "image", stop_after_image=True, think=True)
    if left < 9:  # a word, an end, BOI and the image
      with pytest.raises(DataError, match="leaves 8 where 9 are needed"):
        made.generate([think])
      continue
    answer = made.generate([think])[0]
    text[left] = len(answer.tokens)
    assert len(answer.images) == 1 and 0 < text[left] <= left - 8
  assert max(text.values()) > 1


def test_guidance_against_what_was_asked_changes_nothing():
  def drawn(text, **sample):
    prompt = Prompt([Text(text)], "image", seed=4, stop_after_image=True)
    return changed(**sample).generate([prompt])[0].images[0].astype(int)

  same = [drawn("xy", negative_prompt="xy", guidance=s) for s in (2.0, 5.0)]
  assert abs(same[0] - same[1]).max() <= 1
  other = drawn("xy", negative_prompt="q", guidance=5.0)
  assert abs(other - same[0]).max() > 1
  assert abs(other - drawn("xy", guidance=5.0)).max() > 1
  behind = drawn("x", prompt_suffix="y", negative_prompt="q", guidance=5.0)
  assert (behind == other).all()
