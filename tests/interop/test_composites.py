"""Systems of several parts as runs: what a person asks is what the release would see."""

import json

import numpy as np
import pytest

from tests.interop import cases, family_decoders, keys, run
from tests.interop.asked import ASKED, QUIET, WORDS, answered, official, pixels
from tests.tokenizers import llama_json
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.data.document import Document, Image, Text, Turn
from unijax.data.layout import Layout
from unijax.infer import prompts
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system

LLAVA = cases.everything()["llava-loud"][1]


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
  """(release, run) of a small LLaVA with a tokenizer of pieces."""
  folder = tmp_path_factory.mktemp("llava")
  release = run.write_release(LLAVA, folder / "release")
  llama_json(release / "tokenizer.json", WORDS)
  settings = {"eos_token": "</s>", "chat_template": "{{ x }}USER: .. ASSISTANT:"}
  (release / "tokenizer_config.json").write_text(json.dumps(settings))
  prepared = {"size": {"shortest_edge": 14}, "crop_size": {"height": 14, "width": 14}}
  (release / "preprocessor_config.json").write_text(json.dumps(prepared))
  importing.import_run("llava", release, folder / "run", say=QUIET)
  return release, folder / "run"


def pictures(layout: Layout) -> list[int]:
  """The ids of a layout, each picture as the single token 3."""
  spans = list(zip(layout.span, [-1, *layout.span], strict=False))
  return [
    3 if span >= 0 else token
    for token, (span, before) in zip(layout.tokens, spans, strict=True)
    if span < 0 or span != before
  ]


def shown(seed: int) -> Image:
  return prompts.picture(pixels(seed))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_prompt_has_the_ids_that_the_processor_makes(llava, count):
  release, out = llava
  b = load_run(out).builder
  parts = prompts.user([*map(shown, range(count)), Text(ASKED)], chat=True)
  layout = b.layout(Document(tuple(parts), id=0), open_end=True)
  told = "USER: " + "<image>\n" * count + f"{ASKED} ASSISTANT:"
  assert pictures(layout) == official(release, told)
  assert layout.feature.count(0) == count and layout.span[-1] == -1
  assert b.measure(Document(tuple(parts), id=0)) == (len(layout) + 1, count)


def test_a_picture_is_not_framed_in_training_either(llava):
  b = load_run(llava[1]).builder
  parts = (Turn("user"), shown(0), Text("it?"), Turn("assistant"), Text("A circle."))
  layout = b.layout(Document(parts, id=0))
  inner = b.tokenizer
  written = [t for t, w in zip(layout.tokens, layout.text_weight, strict=True) if w]
  eos = b.vocabulary.special.eos
  assert written == [*inner.encode("A circle."), eos]
  assert (
    layout.tokens.count(eos) == 1 and len(layout) == b.measure(Document(parts, id=0))[0]
  )


def test_sampling_answers_about_a_picture_of_a_file(llava, tmp_path, capsys):
  """`unijax sample` writes what sampling by ids writes after the processor's."""
  release, out = llava
  said = answered(out, pixels(0), ASKED, tmp_path, capsys)
  assert said["images"] == []
  loaded = load_run(out, only_sample=True)
  config, layout = loaded.config, Layout()
  for token in official(release, f"USER: <image>\n{ASKED} ASSISTANT:"):
    if token == 3:
      layout.add_image(
        shown(0), config.features, 3, "sequential", 0.0, 0.0, False, True
      )
    else:
      layout.add_tokens([token], 0.0)
  ids = family_decoders.written_after(config, loaded.params, [layout], loaded.builder)
  text = loaded.builder.tokenizer.decode([i for i in np.asarray(ids)[0] if i >= 0])
  assert len(text) > 8 and said["texts"][0].startswith(text)


def test_what_came_along_goes_back(llava, tmp_path):
  release, out = llava
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
    assert (tmp_path / "out" / name).read_bytes() == (release / name).read_bytes()
  again = importing.look("llava", tmp_path / "out").config
  mine = rundir.read_config(out)
  assert again.data.chat == mine.data.chat and again.sample == mine.sample
  assert (again.model, again.vision) == (mine.model, mine.vision)


HUB = {  # config.json of llava-hf/llava-1.5-7b-hf but for what decides nothing
  "image_token_index": 32000, "model_type": "llava", "pad_token_id": 32001,
  "projector_hidden_act": "gelu", "tie_word_embeddings": False, "vocab_size": 32064,
  "text_config": {
    "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-5,
    "vocab_size": 32064,
  },
  "vision_config": {
    "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
    "model_type": "clip_vision_model", "num_attention_heads": 16,
    "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
    "vocab_size": 32000,
  },
  "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
}  # fmt: skip


def test_what_a_config_leaves_out_is_told_by_the_files_or_the_library():
  chosen = system.load("llava")
  theirs, _ = keys.read("llava-1.5-7b")
  found = chosen.config(chosen.fields(HUB, theirs))
  assert found == chosen.config(chosen.fields(chosen.sizes()["1.5-7B"]))
  assert found.features == 576 and found.vision.skip_blocks == 1
  with pytest.raises(CheckpointError, match="text_config.vocab_size: 32064 in config"):
    chosen.fields(HUB, {**theirs, "language_model.model.embed_tokens.weight": HALF})


HALF = keys.Form((16_032, 4096))
REFUSED = {
  "vision_feature_layer": [-2, -5], "vision_feature_select_strategy": "full",
  "projector_hidden_act": "relu", "text_config.model_type": "mistral",
  "text_config.hidden_act": "gelu", "vision_config.model_type": "siglip_vision_model",
}  # fmt: skip
REFUSED_JANUS = {
  "vision_config.depth": 3, "vision_config.use_qk_norm": True,
  "vq_config.projection_dim": 1024, "vq_config.double_latent": True,
}  # fmt: skip


@pytest.mark.parametrize(
  ("name", "size", "field", "value"),
  [("llava", "1.5-7B", *x) for x in REFUSED.items()]
  + [("janus", "Pro-1B", *x) for x in REFUSED_JANUS.items()],
)
def test_parts_that_cannot_be_done_are_refused_by_name(name, size, field, value):
  chosen = system.load(name)
  fields = chosen.fields(chosen.sizes()[size]).given(**{field: value})
  with pytest.raises(ConfigError, match=field):
    chosen.config(fields)
