"""A BLIP-2 as a run: asked about a picture of a file, and written back."""

import dataclasses
import json

import numpy as np
import pytest

from tests.interop import cases, family_decoders, family_llava, run
from tests.interop.asked import ASKED, QUIET, WORDS, answered, official, pixels
from tests.interop.written import same_weights
from tests.tokenizers import tokenizer_json
from unijax.checkpoint import rundir
from unijax.config import ConfigError
from unijax.data.layout import Layout
from unijax.evals import alignment
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system

MARKS = ("<s>", "<pad>", "</s>", "<image>")  # ids 0, 1, 2, 3
PROMPT = f"Question: {ASKED} Answer:"


@pytest.fixture(scope="module")
def blip2(tmp_path_factory):
  """(release, run) of a small one with a tokenizer whose texts begin with </s>."""
  folder = tmp_path_factory.mktemp("blip2")
  case = cases.everything()["blip2-loud"][1]
  case = dataclasses.replace(case, published={**case.published, "image_token_index": 3})
  release = run.write_release(case, folder / "release")
  tokenizer_json(release / "tokenizer.json", WORDS, 263, ("</s>",), MARKS)
  settings = {"eos_token": "</s>", "bos_token": "</s>"}
  (release / "tokenizer_config.json").write_text(json.dumps(settings))
  ends = {"eos_token_id": 198}  # a line end
  (release / "generation_config.json").write_text(json.dumps(ends))
  prepared = {"size": {"height": 14, "width": 14}, "resample": 3}
  (release / "preprocessor_config.json").write_text(json.dumps(prepared))
  importing.import_run("blip2", release, folder / "run", say=QUIET)
  return release, folder / "run"


@pytest.mark.slow  # told by those of llava and qwen2_vl
def test_sampling_answers_about_a_picture_of_a_file(blip2, tmp_path, capsys):
  """`unijax sample` writes what sampling by ids writes after the processor's."""
  release, out = blip2
  said = answered(out, pixels(0), PROMPT, tmp_path, capsys)
  assert said["images"] == []
  loaded = load_run(out, only_sample=True)
  config, layout, ids = loaded.config, Layout(), official(release, PROMPT)
  assert ids[0] == 2 and config.sample.stops == (198,)
  shown = family_llava.layouts(loaded.builder, [(0,)], [pixels(0)])[0].images[0][1]
  layout.add_image(shown, 5, 3, "sequential", 0.0, 0.0, False, True)
  layout.add_tokens(ids, 0.0)
  written = family_decoders.written_after(
    config, loaded.params, [layout], loaded.builder
  )
  kept = [int(i) for i in np.asarray(written)[0] if i >= 0]
  text = loaded.builder.tokenizer.decode(kept)
  assert len(kept) > 1 and said["texts"][0].startswith(text.rstrip("\n"))


def test_it_goes_back_as_it_came(blip2, tmp_path):
  release, out = blip2
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  same_weights(release, tmp_path / "out")
  again, mine = (
    importing.look("blip2", tmp_path / "out").config,
    rundir.read_config(out),
  )
  for part in ("model", "vision", "text", "align", "sample"):
    assert getattr(again, part) == getattr(mine, part), part


@pytest.mark.slow
def test_stage_one_is_scored(tmp_path):
  """With a larger table of words and of places than the small release has."""
  case = cases.everything()["blip2-itm-loud"][1]
  words = {**case.published["qformer_config"], "vocab_size": 300}
  eyes = {**case.published["vision_config"], "image_size": 32}
  fields = {**case.published, "qformer_config": words, "vision_config": eyes}
  case = dataclasses.replace(case, published=fields)
  expected = cases.read_expected(case.name)
  larger = {
    "embeddings.word_embeddings.weight": ("F32", (300, 20)),
    "vision_model.embeddings.position_embedding": ("F32", (1, 65, 24)),
  }
  expected = dataclasses.replace(expected, forms={**expected.forms, **larger})
  release = run.write_release(case, tmp_path / "release")
  run.write_weights(release / "model.safetensors", case, expected)
  names = ("[PAD]", "[CLS]", "[SEP]")
  tokenizer_json(release / "tokenizer.json", WORDS, 300, (), names)
  importing.import_run("blip2", release, tmp_path / "run", say=QUIET)
  marks = dict(rundir.read_config(tmp_path / "run").data.special)
  assert marks == {"pad": 0, "bos": 1, "eos": 2}
  figures = alignment.evaluate(str(tmp_path / "run"), None, None, {"items": 8})
  assert np.isfinite(figures["held_out"]["match"])
  assert "scenes/image_to_text@1" in figures["zero_shot"]


@pytest.mark.parametrize(
  ("name", "size", "field", "value"),
  [
    ("blip2", "opt-2.7B", "text_config.model_type", "t5"),
    ("blip2", "opt-2.7B", "vision_config.qkv_bias", False),
    ("opt", "125M", "do_layer_norm_before", False),
    ("opt", "125M", "word_embed_proj_dim", 512),
    ("opt", "125M", "enable_bias", False),
  ],
)
def test_what_cannot_be_done_is_refused_by_name(name, size, field, value):
  chosen = system.load(name)
  fields = chosen.fields(chosen.sizes()[size]).given(**{field: value})
  with pytest.raises(ConfigError, match=field):
    chosen.config(fields)
