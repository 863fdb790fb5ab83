"""Runs whose pictures keep their shape: what a person asks is what the release sees."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image as Picture

from tests.interop import cases, family_decoders, keys, run
from tests.interop.asked import ASKED, QUIET, WORDS, official, result
from tests.interop.family_qwen_vl import PREPARED, pictures
from tests.tokenizers import tokenizer_json
from unijax import cli
from unijax.checkpoint import rundir
from unijax.config import ConfigError
from unijax.data import images
from unijax.data.document import Document, Text
from unijax.data.layout import Layout
from unijax.infer import prompts
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system

MARKS = (
  "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
  "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
PAD = MARKS.index("<|image_pad|>")
IDS = {
  "vision_start_token_id": 3, "vision_end_token_id": 4, "image_token_id": PAD,
  "video_token_id": 6,
}  # fmt: skip
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ONE = "<|vision_start|><|image_pad|><|vision_end|>"
TEMPLATE = "{% if x %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
GENERATION = {
  "do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.001,
  "eos_token_id": [2, 0], "repetition_penalty": 1.0,
}  # fmt: skip
SHAPES = ((24, 40), (60, 47))  # 3 x 5 and 4 x 3 positions
CASE = cases.everything()["qwen2-vl-loud"][1]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
  """(release, run) of a small Qwen2-VL with a tokenizer of bytes."""
  folder = tmp_path_factory.mktemp("qwen")
  words = {**CASE.published["text_config"], "max_position_embeddings": 384}
  published = {**CASE.published, **IDS, "text_config": words}
  case = dataclasses.replace(CASE, published=published)
  release = run.write_release(case, folder / "release")
  tokenizer_json(release / "tokenizer.json", WORDS, 263, marks=MARKS)
  settings = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}
  for name, content in (
    ("tokenizer_config", settings), ("preprocessor_config", PREPARED),
    ("generation_config", GENERATION),
  ):  # fmt: skip
    (release / f"{name}.json").write_text(json.dumps(content))
  importing.import_run("qwen2_vl", release, folder / "run", say=QUIET)
  return release, folder / "run"


def told(count: int) -> str:
  """The processor's prompt, with one mark for each picture."""
  asked = f"<|im_start|>user\n{ONE * count}{ASKED}<|im_end|>\n<|im_start|>assistant\n"
  return SYSTEM + asked


def shown(config):
  prepare = images.prepare_of(config)
  ready = [images.square(Picture.fromarray(x), 0, prepare) for x in pictures(SHAPES)]
  return [prompts.picture(x) for x in ready]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_prompt_has_the_ids_that_the_processor_makes(qwen, count):
  release, out = qwen
  loaded = load_run(out)
  b, seen = loaded.builder, shown(loaded.config)[:count]
  document = Document(tuple(prompts.user([*seen, Text(ASKED)], chat=True)), id=0)
  layout = b.layout(document, open_end=True)
  wanted = official(release, told(count))
  for size in (15, 12)[:count]:  # each mark as many times as there are positions
    at = wanted.index(PAD)
    wanted[at : at + 1] = [-1] * size
  found = [
    -1 if f >= 0 else t for t, f in zip(layout.tokens, layout.feature, strict=True)
  ]
  assert found == wanted and layout.feature.count(0) == count
  assert b.measure(document) == (len(layout) + 1, count)
  words = len(layout) - (0, 15, 27)[count]
  assert layout.next_position == words + (0, 5, 9)[count]  # their longer sides


def test_sampling_answers_about_a_picture_of_a_file(qwen, tmp_path, capsys):
  """`unijax sample` writes what sampling by ids writes after the processor's."""
  release, out = qwen
  asked = [f"--workdir={out}", f"--prompt={ASKED}"]
  for i, pixels in enumerate(pictures(SHAPES)):
    Picture.fromarray(pixels).save(tmp_path / f"{i}.png")
    asked.append(f"--image={tmp_path}/{i}.png")
  assert not cli.main(["sample", *asked])
  done = result(capsys)
  loaded = load_run(out, only_sample=True)
  layout, grids, seen = Layout(), [(3, 5), (4, 3)], shown(loaded.config)
  for token in official(release, told(2)):
    if token == PAD:
      image, grid = seen.pop(0), grids.pop(0)
      about = grid[0] * grid[1], PAD, "grid", 0.0, 0.0
      layout.add_image(image, *about, patches=False, features=True, grid=grid)
    else:
      layout.add_tokens([token], 0.0)
  ids = family_decoders.written_after(
    loaded.config, loaded.params, [layout], loaded.builder
  )
  text = loaded.builder.tokenizer.decode([i for i in np.asarray(ids)[0] if i >= 0])
  assert len(text) > 8 and done["texts"][0].startswith(text)


def test_what_came_along_is_used_and_goes_back(qwen, tmp_path):
  release, out = qwen
  config = rundir.read_config(out)
  assert (config.sample.temperature, config.sample.top_k) == (0.01, 1)
  assert config.sample.stops == (0,) and dict(config.data.special)["eos"] == 2
  assert config.data.native_pixels == (256, 1024)
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  for name in ("tokenizer.json", "preprocessor_config.json", "generation_config.json"):
    assert (tmp_path / "out" / name).read_bytes() == (release / name).read_bytes()
  again = importing.look("qwen2_vl", tmp_path / "out").config
  assert (again.model, again.vision, again.sample) == (
    config.model, config.vision, config.sample,
  )  # fmt: skip
  assert again.data.native_pixels == config.data.native_pixels


HUB = {  # config.json of Qwen/Qwen2-VL-2B-Instruct but for what decides nothing
  "model_type": "qwen2_vl", "vision_start_token_id": 151652, "image_token_id": 151655,
  "vision_end_token_id": 151653, "video_token_id": 151656, "hidden_act": "silu",
  "bos_token_id": 151643, "eos_token_id": 151645, "hidden_size": 1536,
  "intermediate_size": 8960, "max_position_embeddings": 32768,
  "num_attention_heads": 12, "num_hidden_layers": 28, "num_key_value_heads": 2,
  "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True,
  "use_sliding_window": False, "sliding_window": 32768, "vocab_size": 151936,
  "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
  "vision_config": {
    "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
    "hidden_size": 1536, "patch_size": 14, "spatial_merge_size": 2,
    "spatial_patch_size": 14, "temporal_patch_size": 2,
  },
  "preprocessor": {
    "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2,
    "temporal_patch_size": 2, "image_processor_type": "Qwen2VLImageProcessor",
  },
}  # fmt: skip


def test_fields_of_the_decoder_may_stand_at_the_top():
  chosen = system.load("qwen2_vl")
  theirs, _ = keys.read("qwen2-vl-2b")
  found = chosen.config(chosen.fields(HUB, theirs))
  assert found == chosen.config(chosen.fields(chosen.sizes()["2B"]))
  assert found.model.rope_sections == (16, 24, 24) and found.features == 1280


REFUSED = {
  "vision_config.spatial_merge_size": 3, "vision_config.temporal_patch_size": 1,
  "text_config.use_sliding_window": True, "text_config.hidden_act": "gelu",
  "vision_config.hidden_act": "relu", "preprocessor.merge_size": 1,
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), REFUSED.items())
def test_what_cannot_be_done_is_refused_by_name(field, value):
  chosen = system.load("qwen2_vl")
  fields = chosen.fields(chosen.sizes()["2B"]).given(**{field: value})
  with pytest.raises(ConfigError, match=field):
    chosen.config(fields)
