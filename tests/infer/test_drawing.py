"""A run that only draws: from its first step to pictures, scores and errors."""

import dataclasses
import functools

import numpy as np
import pytest

from tests import small
from tests.train.test_drawing import config
from unijax.data.document import DataError, Text, Turn
from unijax.evals import during, suite
from unijax.infer import prompts
from unijax.infer.generate import Prompt
from unijax.infer.load import load_run
from unijax.train import loop

WORDS = ("a red circle", "a blue square", "")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of two steps, read from its directory."""
  c = config(
    train__steps=2, train__batch_size=2, sample__guidance=2.0, sample__sampler="ddpm",
    train__sample_every=2, eval__prompts=2, eval__batch_size=2, eval__loss_batches=1,
  )  # fmt: skip
  workdir = tmp_path_factory.mktemp("drawing") / "run"
  _, finished = loop.train(c, workdir, during.hooks(c))
  assert (workdir / "samples" / "0000002.png").exists()
  loaded = load_run(workdir)
  assert loaded.step == 2
  return loaded


@functools.cache
def asked():
  return [prompts.draw(words, True, seed) for seed, words in enumerate(WORDS)]


def test_rows_do_not_meet_and_streaming_changes_nothing(run):
  generator = run.generator(rows=2)
  made = [x.images[0] for x in generator.generate(asked())]
  shares = []
  watch = lambda i, share, pixels: shares.append((i, share, pixels.shape))
  streamed = generator.generate(asked()[1:2], on_image=watch)[0].images[0]
  np.testing.assert_array_equal(streamed, made[1])
  assert shares[-1] == (0, 1.0, (32, 32, 3)) and len(shares) == 2
  assert made[0].dtype == np.uint8 and (made[0] != made[1]).any()
  turned = generator.generate([Prompt([Text(WORDS[0])], seed=0)])[0]
  np.testing.assert_array_equal(turned.images[0], made[0])  # turns say nothing


def test_guidance_of_one_is_the_condition_alone(run):
  """Two branches whose weights are (1, 0) draw what one branch draws."""
  alone = run.generator(rows=1, guidance=1.0)
  both = run.generator(rows=1, guidance=2.0)
  sample = dataclasses.replace(both.config.sample, guidance=1.0)
  both.config = dataclasses.replace(both.config, sample=sample)
  assert (alone.branches, both.branches) == (1, 2)
  a, b = (g.generate(asked()[:1])[0].images[0].astype(int) for g in (alone, both))
  assert abs(a - b).max() <= 1
  # Without a caption there is nothing to be guided to, however strongly.
  strong, none = (g.generate(asked()[2:])[0].images[0] for g in (both, alone))
  assert abs(strong.astype(int) - none).max() <= 1
  # Nor where the contrast is with the caption itself.
  knobs = {"guidance": 3.0, "negative_prompt": WORDS[0]}
  sample = dataclasses.replace(both.config.sample, **knobs)
  both.config = dataclasses.replace(both.config, sample=sample)
  same = both.generate(asked()[:1])[0].images[0]
  assert abs(same.astype(int) - a).max() <= 1


def test_what_it_cannot_do_is_refused(run):
  generator = run.generator(rows=1)
  picture = prompts.picture(small.image(1, size=32).pixels())
  for parts, begin in (([picture, Text("?")], "auto"), ([Text("a")], "text")):
    with pytest.raises(DataError, match="this run only draws"):
      generator.generate([Prompt([Turn("user"), *parts], begin)])
  with pytest.raises(DataError, match="data.caption_length=64"):
    generator.generate([Prompt([Text("x" * 80)])])


def test_scores_are_those_of_drawing(run):
  result = suite.evaluate(run, splits=["iid"], items=2, say=lambda line: None)
  assert set(result.outcomes) == {("iid", "draw")} and not result.cycles
  assert set(result.baselines) == {"draw"}
  assert result.losses["image_mse"] > 0 and result.bits_per_byte is None
