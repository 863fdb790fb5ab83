"""Laws of the data verbs: they do what they say, and their RESULT is what happened."""

import argparse
import json

import pytest
from PIL import Image as Picture

from configs import base
from unijax.config import ConfigError, from_config_dict
from unijax.data import commands
from unijax.data.document import DataError
from unijax.data.emoji import EmojiOptions, EmojiSource
from unijax.data.loader import Loader
from unijax.data.plan_cache import PlanCache
from unijax.data.records import RecordsOptions, RecordsSource, read_info


def run(*words, config=None):
  parser = argparse.ArgumentParser()
  commands.add_arguments(parser)
  return commands.run(parser.parse_args([str(word) for word in words]), config)


def config(**data):
  c = base.get_config()
  c.data.sources.drawings = {"kind": "emoji", "weight": 1.0, "options": {"limit": 5}}
  c.data.update(data)
  return from_config_dict(c)


def test_prepare_writes_what_the_source_holds(tmp_path, capsys):
  out = tmp_path / "out"
  result = run(
    "prepare", "--out", out, "--kind", "emoji", "--image-size", 48,
    "--option", "limit=3", "--option", "caption_first=1.0", "--shard-documents", 2,
  )  # fmt: skip
  source = EmojiSource(EmojiOptions(image_size=48, limit=3, caption_first=1.0))
  read = RecordsSource(RecordsOptions(path=str(out), split="all", image_size=48))
  assert len(read) == len(source) == result["documents"] == result["images"] == 3
  for i in range(3):
    assert read[i].parts[1] == source[i].parts[1]
    assert (read[i].parts[3].pixels() == source[i].parts[3].pixels()).all()
  assert result["skipped"] == {} and result["content"] == read_info(str(out))["content"]
  assert json.loads(json.dumps(result)) == result
  captured = capsys.readouterr()
  assert "3 documents, 3 images, 2 files" in captured.out
  assert "prepared 3 of 3 documents" in captured.err


def test_prepare_keeps_options_and_credit(tmp_path):
  run("prepare", "--out", tmp_path / "o", "--kind", "emoji", "--option", "limit=2")
  info = read_info(str(tmp_path / "o"))
  assert info["source"]["kind"] == "emoji" and info["source"]["options"] == {"limit": 2}
  assert "CC BY-SA 4.0" in info["attribution"]


def test_prepare_text(tmp_path):
  result = run(
    "prepare",
    "--out",
    tmp_path / "o",
    "--kind",
    "corpus",
    "--option",
    "num_documents=9",
  )
  assert (result["documents"], result["images"]) == (9, 0)


def test_wrong_kinds_and_options_are_named(tmp_path):
  with pytest.raises(ConfigError, match="unknown 'emojis'.*emoji"):
    run("prepare", "--out", tmp_path / "o", "--kind", "emojis")
  with pytest.raises(ConfigError, match="limits: unknown.*limit"):
    run("prepare", "--out", tmp_path / "o", "--kind", "emoji", "--option", "limits=2")
  assert list(tmp_path.iterdir()) == []


def test_options_are_json_or_text():
  assert commands.parse_options(["a=3", "b=x=y", 'c={"draw": 1}', "d=null", "e="]) == {
    "a": 3, "b": "x=y", "c": {"draw": 1}, "d": None, "e": "",
  }  # fmt: skip
  for wrong in (["a"], ["=3"], ["a=1", "a=2"]):
    with pytest.raises(DataError, match="--option"):
      commands.parse_options(wrong)


def test_inspect_shows_the_batch_of_a_step(tmp_path, capsys):
  out = tmp_path / "deep" / "rows.png"
  result = run("inspect", "--rows", 2, "--out", out, config=config(caption_dropout=0.0))
  text = capsys.readouterr().out
  with Picture.open(out) as picture:
    assert picture.width > 1000
  assert result["rows"] == 2 and 0.5 < result["filled"] <= 1
  assert text.count("row ") == 2
  captions = [caption for _, caption in EmojiSource(EmojiOptions(limit=5)).glyphs]
  assert any(caption in text for caption in captions)
  assert result["documents"] == sum(
    line.startswith(tuple(f"  {i}: " for i in range(1, 99)))
    for line in text.splitlines()
  )
  for step, same in ((0, True), (9, False)):
    run(
      "inspect", "--rows", 2, "--step", step, "--out", out,
      config=config(caption_dropout=0.0),
    )  # fmt: skip
    assert (capsys.readouterr().out == text) == same


def test_inspect_can_take_another_source(tmp_path, capsys):
  result = run(
    "inspect", "--kind", "corpus", "--option", "max_bytes=60", "--rows", 1,
    "--out", tmp_path / "rows.png", config=config(),
  )  # fmt: skip
  assert result["trained_patches"] == 0 and result["trained_tokens"] > 100
  assert "0 images" in capsys.readouterr().out


def test_inspect_says_what_is_missing(tmp_path):
  with pytest.raises(DataError, match="--config"):
    run("inspect")
  with pytest.raises(DataError, match="--option needs --kind"):
    run("inspect", "--option", "a=1", config=config())
  with pytest.raises(DataError, match="--rows"):
    run("inspect", "--rows", 0, config=config())


def test_plan_prints_what_rows_hold(tmp_path, capsys):
  small = config(window=64, images_per_row=9)
  result = run("plan", "--steps", 2, "--folder", tmp_path / "plan", config=small)
  loader = Loader(small)
  rows = [loader.rows.plan.sizes(r) for r in range(32)]
  images = [sum(n for _, n in sizes) for sizes in rows]
  assert result["rows"] == 32 and result["plan_hash"] == loader.plan_hash
  assert result["documents"] == sum(map(len, rows)) > 64
  assert result["images_a_row"] == {"mean": sum(images) / 32, "most": max(images)}
  assert result["padding"] == round(loader.padding(1), 5)
  assert result["documents_by_source"] == result["positions_by_source"]
  assert result["documents_by_source"] == {"drawings": 1.0}
  assert json.loads(json.dumps(result)) == result
  text = capsys.readouterr().out
  assert loader.plan_hash in text and "drawings" in text
  assert ("more than 3%" in text) == (result["padding"] > 0.03)
  kept = PlanCache(tmp_path / "plan", loader.plan_hash).read()
  assert kept == loader.rows.plan.windows
  with pytest.raises(DataError, match="--steps must be at least 1"):
    run("plan", "--steps", 0, config=small)
