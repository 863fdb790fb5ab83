"""Laws of scene scores: the ends of the scale, each tag, and intervals."""

import dataclasses

import numpy as np
import pytest

from unijax.data.document import DataError
from unijax.data.scenes import Scene, SceneOptions, Thing, examples, parse, read_scene
from unijax.data.scenes.baselines import BASELINES, baseline
from unijax.data.scenes.edits import EditTask
from unijax.data.scenes.items import ITEM_TASKS
from unijax.data.scenes.options import SPLITS
from unijax.data.scenes.render import render
from unijax.data.scenes.spec import Item
from unijax.evals import scene_scores as scores

SMALL = SceneOptions(image_size=32, grid=2, max_objects=2, split="iid")
CROWDED = SceneOptions(image_size=64, max_objects=3, sizes=True, split="iid")


def score(task, items, outputs, options):
  if task == "draw":
    return scores.drawings([i.spec for i in items], outputs, grid=options.grid)
  if task == "describe":
    return scores.captions(outputs, [i.scene for i in items])
  if task == "ask":
    return scores.answers(outputs, [i.answer for i in items], [i.tag for i in items])
  return scores.edits([i.task for i in items], outputs)


def means(task, name, options, n):
  items = examples(options, task, n)
  assert len(items) == n
  outputs = baseline(name, items, options)
  table = scores.table(score(task, items, outputs, options), n=20)
  return {name: value[0] for name, value in table.items()}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", ITEM_TASKS)
def test_truth_scores_one_everywhere(task, split):
  for options in (SMALL, CROWDED):
    found = means(task, "oracle", dataclasses.replace(options, split=split), 60)
    assert set(found.values()) == {1.0}, found


# Measured on 200 items (600 questions): see the bounds' margins in the comments.
@pytest.mark.parametrize(
  ("task", "name", "low", "high"),
  (
    ("draw", "prior", 0.0, 0.05),  # .005
    ("draw", "colour_blind", 0.02, 0.15),  # .075, one in eight for one thing
    ("describe", "prior", 0.0, 0.06),  # .02
    ("describe", "colour_blind", 0.02, 0.15),  # .065
    ("ask", "prior", 0.28, 0.42),  # .34
    ("ask", "colour_blind", 0.5, 0.68),  # .58
    ("edit", "prior", 0.0, 0.0),  # an unchanged picture is never right
    ("edit", "colour_blind", 0.0, 0.15),  # .07
  ),
)
def test_stand_ins_score_what_they_see(task, name, low, high):
  found = means(task, name, SMALL, 400 if task == "ask" else 200)
  assert low <= found["exact"] <= high
  if name == "colour_blind" and task == "draw":
    assert found["exact/single_object"] == found["exact/two_object"] == 1.0
    assert found["exact/color_attr"] < 0.1 and found["exact/colors"] < 0.3
  if name == "colour_blind" and task == "ask":
    assert found["exact/more"] == 1.0 and found["exact/colour"] < 0.25


def test_items_carry_their_truth():
  for options in (SMALL, CROWDED):
    for item in examples(options, "draw", 20):
      assert parse(item.text) == item.spec
    for task in ("describe", "ask"):
      for item in examples(options, task, 20):
        found = read_scene(item.pixels, grid=options.grid)
        assert scores.scenes_agree(found, item.scene)
    for item in examples(options, "edit", 20):
      assert item.text == item.task.text
      np.testing.assert_array_equal(
        item.pixels, render(item.task.before, options.image_size)
      )
  with pytest.raises(DataError, match="no items for task 'multi'"):
    examples(SMALL, "multi", 1)
  with pytest.raises(DataError, match="baseline must be one of"):
    baseline("best", examples(SMALL, "draw", 1), SMALL)
  assert [baseline(name, [], SMALL) for name in BASELINES] == [[], [], []]


RED = Thing("circle", "red", "small", 0.25, 0.25)
BLUE = Thing("square", "blue", "large", 0.75, 0.75)
GREEN = Thing("cross", "green", "small", 0.25, 0.75)


def drawn(*things, size=32):
  return render(Scene(things, 2), size)


@pytest.mark.parametrize(
  ("text", "things", "exact", "f1", "tags"),
  (
    ("a red circle", (RED,), True, 1.0, {"single_object": True, "colors": True}),
    (
      "a red circle",
      (RED._replace(colour="blue"),),
      False,
      0.0,
      {"single_object": True, "colors": False},
    ),
    (
      "a red circle",
      (RED, BLUE),
      False,
      2 / 3,
      {"single_object": False, "colors": True},
    ),
    (
      "a red circle at the bottom left",
      (RED,),
      False,
      1.0,
      {"single_object": True, "colors": True, "position": False},
    ),
    (
      "a red circle and a blue square",
      (RED._replace(colour="blue"), BLUE._replace(colour="red")),
      False,
      0.0,
      {"two_object": True, "color_attr": False},
    ),
    (
      "a red circle left of a blue square",
      (RED, BLUE),
      True,
      1.0,
      {"two_object": True, "color_attr": True, "position": True},
    ),
    (
      "a red circle right of a blue square",
      (RED, BLUE, GREEN),
      False,
      0.8,
      {"two_object": False, "color_attr": False, "position": False},
    ),
    (
      "two red circles",
      (RED, RED._replace(x=0.75)),
      True,
      1.0,
      {"counting": True},
    ),
    ("two red circles", (RED,), False, 2 / 3, {"counting": False}),
    ("two red circles", (), False, 0.0, {"counting": False}),
  ),
)
def test_drawings_get_each_tag_that_applies(text, things, exact, f1, tags):
  (found,) = scores.drawings([parse(text)], [drawn(*things)], grid=2)
  assert (found.exact, found.tags) == (exact, tags)
  assert found.f1 == pytest.approx(f1)
  assert bool(found.reason) != exact and len(found.found) == len(things)


def test_noise_scores_nothing():
  rng = np.random.default_rng(0)
  items = examples(SMALL, "draw", 30)
  noise = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in items]
  table = scores.table(scores.drawings([i.spec for i in items], noise, grid=2), n=10)
  assert all(mean == 0.0 for mean, _, _ in table.values())


def test_captions_must_parse_be_complete_and_true():
  texts = {
    "a red circle above a blue square": (True, 1.0),
    "a blue square and a red circle": (True, 1.0),
    "a red circle below a blue square": (False, 1.0),
    "a red circle": (False, 2 / 3),
    "a red circle, a blue square and a green cross": (False, 0.8),
    "a red circle circle": (False, 0.0),
  }
  found = scores.captions(list(texts), [Scene((RED, BLUE), 2)] * len(texts))
  assert [(s.exact, pytest.approx(s.f1)) for s in found] == list(texts.values())
  assert found[-1].parsed is None and "no" in found[-1].reason


@pytest.mark.parametrize(
  ("text", "truth", "right"),
  (
    ("Yes.", "yes", True),
    ("two", "2", True),
    ("a circle", "circle", True),
    ("at the top left", "top left", True),
    ("grey", "gray", True),
    ("no", "yes", False),
    ("yes no", "yes", False),
    ("12", "2", False),
    ("", "yes", False),
    ("top", "top left", False),
  ),
)
def test_answers_are_compared_after_normalising(text, truth, right):
  assert scores.answers([text], [truth], ["exist"])[0] == (right, "exist")


def outcome(task, *things, size=32):
  (found,) = scores.edits([task], [drawn(*things, size=size)])
  assert found.kind == task.kind and bool(found.reason) != found.exact
  return found.exact


def edit(kind, after, kept, goal=None, at=None):
  return EditTask(kind, "", Scene((RED, BLUE), 2), Scene(after, 2), kept, goal, at)


def test_edits_are_exact_about_what_changes_and_what_stays():
  pink = RED._replace(colour="purple")
  task = edit("recolour", (pink, BLUE), (BLUE,), Item(*pink[:3]), (0.25, 0.25))
  assert outcome(task, pink, BLUE)
  assert outcome(task, pink._replace(x=0.28), BLUE._replace(y=0.72))
  assert not outcome(task, RED, BLUE)  # nothing done
  assert not outcome(task, pink)  # the other one lost
  assert not outcome(task, pink, BLUE._replace(size="small"))
  assert not outcome(task, pink, BLUE._replace(colour="purple"))
  assert not outcome(task, pink._replace(y=0.75), BLUE)  # moved as well
  assert not outcome(task, pink, BLUE, GREEN)

  moved = RED._replace(y=0.75)
  task = edit("move", (moved, BLUE), (BLUE,), Item(*RED[:3], "bottom left"))
  assert outcome(task, moved, BLUE) and outcome(task, moved._replace(x=0.3), BLUE)
  assert not outcome(task, RED, BLUE)
  assert not outcome(task, RED._replace(x=0.75), BLUE)

  task = edit("add", (RED, BLUE, GREEN), (RED, BLUE), Item("cross", "green"))
  assert outcome(task, RED, BLUE, GREEN)
  assert outcome(task, RED, BLUE, GREEN._replace(x=0.75, y=0.25, size="large"))
  assert not outcome(task, RED, BLUE, GREEN._replace(colour="red"))
  task = task._replace(goal=Item("cross", "green", "small", "bottom left"))
  assert outcome(task, RED, BLUE, GREEN)
  assert not outcome(task, RED, BLUE, GREEN._replace(x=0.75, y=0.25))
  assert not outcome(task, RED, BLUE, GREEN._replace(size="large"))

  task = edit("remove", (BLUE,), (BLUE,))
  assert outcome(task, BLUE)
  assert not outcome(task, RED, BLUE) and not outcome(task, RED)


@pytest.mark.parametrize(
  ("one", "two", "agree"),
  (
    ("a red circle above a blue square", "a blue square below a red circle", True),
    ("a red circle above a blue square", "a red circle and a blue square", True),
    ("a red circle above a blue square", "a red circle below a blue square", False),
    ("a red circle above a blue square", "a blue square above a red circle", False),
    ("a red circle above a blue square", "a red circle left of a blue square", True),
    ("a red circle", "a red square", False),
    ("a small red circle", "a large red circle", False),
    ("a small red circle", "a red circle at the top", True),
    ("a red circle at the top", "a red circle at the left", False),
    ("a red circle", "red", False),
  ),
)
def test_captions_of_one_picture_agree(one, two, agree):
  assert scores.specs_agree(parse(one), parse(two)) == agree
  assert scores.specs_agree(parse(two), parse(one)) == agree


def test_pictures_agree_wherever_things_stand():
  one = read_scene(drawn(RED, BLUE), grid=2)
  assert scores.scenes_agree(
    one, Scene((BLUE._replace(x=0.25), RED._replace(x=0.75)), 2)
  )
  assert not scores.scenes_agree(one, Scene((BLUE,), 2))
  noise = read_scene(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
  assert not scores.scenes_agree(noise, noise)


def test_bootstrap_interval_covers_and_shrinks():
  rng = np.random.default_rng(0)
  covered = 0
  for seed in range(60):
    values = rng.random(80) < 0.3
    mean, low, high = scores.bootstrap(values, n=300, seed=seed)
    assert low <= mean <= high and mean == values.mean()
    covered += low <= 0.3 <= high
  assert covered >= 50  # 57 expected
  wide, narrow = (
    np.subtract(*scores.bootstrap(np.arange(n) % 2, n=300)[:0:-1]) for n in (50, 800)
  )
  assert wide == pytest.approx(4 * narrow, rel=0.25)
  assert scores.bootstrap([1.0] * 5) == (1.0, 1.0, 1.0)
  assert scores.bootstrap([0.0, 1.0, 1.0], seed=3) == scores.bootstrap(
    [0.0, 1.0, 1.0], seed=3
  )
  with pytest.raises(ValueError, match="no values"):
    scores.bootstrap([])
