"""Laws of the splits of scenes: what each shows and says, and what it never does."""

import re

import pytest

from tests.data.test_scenes import PLACEMENTS, make, scenes, texts
from unijax.data.scenes import language, world
from unijax.data.scenes.answers import parse_question, select
from unijax.data.scenes.options import SPLITS
from unijax.data.scenes.sample import lawful


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("split", SPLITS)
def test_all_pictures_obey_the_law_of_their_split(split, placement):
  source = make(split, 300, **placement)
  for i in range(300):
    for scene in scenes(source[i]):
      assert lawful(source.options, scene)
      for k, a in enumerate(scene.things):
        r = world.radius(a.size, scene.grid)
        assert r <= a.x <= 1 - r and r <= a.y <= 1 - r
        for b in scene.things[:k]:
          reach = r + world.radius(b.size, scene.grid)
          assert max(abs(a.x - b.x), abs(a.y - b.y)) > reach + 0.02


def mentions(text):
  """((colour, shape) pairs, (shape, word, shape) statements) that a text names."""
  nouns = {language.noun(s, n): s for s in world.SHAPES for n in (1, 2)}
  pattern = rf"\b({'|'.join(world.COLOURS)}) ({'|'.join(nouns)})\b"
  kinds = {(nouns[shape], colour) for colour, shape in re.findall(pattern, text)}
  spec = language.parse(text)
  said = [
    (spec.items[r.a].shape, r.word, spec.items[r.b].shape)
    for r in (spec.relations if spec else ())
  ]
  return kinds, said


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("split", ("train", "iid", "paraphrase"))
def test_training_laws_never_show_or_state_what_is_held_out(split, placement):
  source = make(split, 1500, **placement)
  stated, questions = 0, 0
  for i in range(1500):
    document = source[i]
    for scene in scenes(document):
      assert not world.HELD_OUT_KINDS & {t.kind for t in scene.things}
      for a in scene.things:
        for b in scene.things:
          for one, word, two in world.HELD_OUT_RELATIONS:
            if (a.shape, b.shape) == (one, two):
              assert not world.related(a, word, b, world.ACCEPT_MARGIN)
    for text in texts(document):
      kinds, said = mentions(text)
      assert not kinds & world.HELD_OUT_KINDS, text
      stated += len(said)
      assert not any(world.held_out_relation(*relation) for relation in said), text
      tag, holes = parse_question(text) or ("", ())
      if (
        tag == "relation"
      ):  # neither direction: the allowed one would give answers away
        (a,), (b,) = (select(holes[k], scenes(document)[0]) for k in (0, 2))
        sideways = "left" in holes[1] or "right" in holes[1]
        word = "left of" if sideways else "above"
        assert not world.held_out_axis(a.shape, word, b.shape), text
        questions += 1
  assert stated > 50 and questions > 10  # the laws above were not empty


def test_held_out_splits_show_and_state_what_training_never_does():
  for split, placement in zip(("combo", "relation"), PLACEMENTS[:2], strict=True):
    source = make(split, 300, **placement, tasks={"draw": 1.0})
    for i in range(300):
      text, spec, scene = source.caption(i)
      kinds, said = mentions(text)
      if split == "combo":
        named = {(item.shape, item.colour) for item in spec.items}
        assert named & world.HELD_OUT_KINDS and not said_held_out(said)
      else:
        assert said_held_out(said) and not kinds & world.HELD_OUT_KINDS


def said_held_out(said):
  return any(world.held_out_relation(*relation) for relation in said)


def test_held_out_values_are_all_seen_apart():
  assert len(world.HELD_OUT_KINDS) == 8 and len(world.TRAIN_KINDS) == 24
  assert {shape for shape, _ in world.TRAIN_KINDS} == set(world.SHAPES)
  assert {colour for _, colour in world.TRAIN_KINDS} == set(world.COLOURS)
  assert {colour for _, colour in world.HELD_OUT_KINDS} == set(world.COLOURS)
  # A quarter of the twelve (pair of shapes, axis), and each in one direction only.
  axes = {(frozenset((a, b)), word in ("above", "below")) for a, word, b in RELATIONS}
  assert len(axes) == 3 == len(RELATIONS)


RELATIONS = world.HELD_OUT_RELATIONS


def test_count_has_more_things_than_training():
  for placement in PLACEMENTS[:2]:
    most = placement["max_objects"]
    counts = {len(s.things) for d in make("count", 200, **placement) for s in scenes(d)}
    assert counts == {most + 1, most + 2}


def test_iid_repeats_no_scene_of_training_and_seeds_differ():
  train = {make(n=3000).scene(i) for i in range(3000)}
  assert len(train) == 3000
  for other in (make("iid", 3000), make(n=3000, seed=1)):
    assert not train & {other.scene(i) for i in range(3000)}


def test_paraphrases_share_no_sentence_with_training():
  answers = {"yes", "no", *"012345", *world.PLACES, *world.COLOURS, *world.SHAPES}
  for placement in PLACEMENTS:
    train = {t for d in make("train", 2000, **placement) for t in texts(d)}
    other = {t for d in make("paraphrase", 2000, **placement) for t in texts(d)}
    assert train & other <= answers | {"small", "large"}
