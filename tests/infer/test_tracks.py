"""What the branches of guidance are told."""

import dataclasses

import pytest

from tests import small
from unijax.data.document import Text, Turn
from unijax.infer import tracks
from unijax.infer.generate import Prompt

SAMPLE = dataclasses.replace(
  small.config().sample, negative_prompt="ugly", prompt_suffix=", good"
)
USER, MODEL = Turn("user"), Turn("assistant")
SHOWN = small.image(1, True)
ROWS = {  # parts -> with the words behind, and those of the shadow
  "plain": ([Text("a")], [Text("a, good")], [Text("ugly")]),
  "turns": (
    [USER, SHOWN, Text("a"), MODEL], [USER, SHOWN, Text("a, good"), MODEL],
    [USER, SHOWN, Text("ugly"), MODEL],
  ),
  "several": (
    [Text("a"), SHOWN, Text("b")], [Text("a"), SHOWN, Text("b, good")],
    [SHOWN, Text("ugly")],
  ),
  "no text": ([USER, SHOWN, MODEL], [USER, SHOWN, MODEL],
              [USER, SHOWN, Text("ugly"), MODEL]),
  "nothing": ([], [], [Text("ugly")]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_both_branches_are_told_their_words(name):
  parts, told, against = ROWS[name]
  assert list(tracks.told(parts, SAMPLE, draws=True)) == told
  assert list(tracks.told(parts, SAMPLE, draws=False)) == parts
  assert list(tracks.against(parts, SAMPLE)) == against


@pytest.mark.parametrize("without_text", ["dropped", "padded"])
def test_the_shadow_of_nothing_is_without_text(without_text):
  builder = small.builder(small.config(data__without_text=without_text))
  prompt = Prompt([Text("abc")], "image")
  none = dataclasses.replace(SAMPLE, negative_prompt="", prompt_suffix="")
  text, shadow = tracks.layouts(builder, prompt, none, 2)
  padded = without_text == "padded"
  assert len(text) == 4 and len(shadow) == (4 if padded else 1)
  ours, other = tracks.layouts(builder, prompt, SAMPLE, 2)
  said = builder.tokenizer.encode
  assert ours.tokens[1:] == said("abc, good") and other.tokens[1:] == said("ugly")
  assert len(tracks.layouts(builder, prompt, SAMPLE, 1)) == 1


@pytest.mark.parametrize("turns", [False, True])
def test_what_is_said_before_all_stands_in_every_branch(turns):
  builder = small.builder(small.config())
  sample = dataclasses.replace(
    SAMPLE, negative_prompt="", think_draw="plan", think_answer="why"
  )
  parts = [USER, SHOWN, Text("a"), MODEL] if turns else [SHOWN, Text("a")]
  special, said = builder.vocabulary.special, builder.tokenizer.encode
  first = [special.bos, *[special.user] * turns]
  for begin, words, count in (("image", "plan", 3), ("text", "why", 1)):
    prompt = Prompt(parts, begin, think=True)
    rows = tracks.layouts(builder, prompt, sample, count)
    for row in rows:
      assert row.tokens[: len(first) + len(words)] == [*first, *said(words)]
    plain = tracks.layouts(builder, dataclasses.replace(prompt, think=False), sample, 1)
    assert rows[0].tokens[len(first) + len(words) :] == plain[0].tokens[1:]
    if count > 1:
      assert not set(said("a")) & set(rows[1].tokens[len(first) + len(words) :])
