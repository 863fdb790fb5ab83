"""Systems of several parts as runs: what a person asks is what the release would see."""

import json

import numpy as np
import pytest
import tokenizers
from PIL import Image as Picture

from tests.interop import cases, family_decoders, keys, numbers, run
from tests.tokenizers import llama_json
from unijax import cli
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.data.document import Document, Image, Text, Turn
from unijax.data.layout import Layout
from unijax.infer import prompts
from unijax.infer.generate import Prompt
from unijax.infer.load import load_run
from unijax.interop import exporting, files, importing, system

QUIET = lambda text: None
LLAVA, JANUS = (cases.everything()[f"{x}-loud"][1] for x in ("llava", "janus"))
WORDS = "USER: ASSISTANT: What is red? A circle, it is."
ASKED = "What is red?"


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


def official(release, text: str) -> list[int]:
  """Ids of a prompt in which `<image>` stands for a picture."""
  inner = tokenizers.Tokenizer.from_file(str(release / "tokenizer.json"))
  return inner.encode(text).ids


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


def pixels(seed: int, side: int = 14) -> np.ndarray:
  x = numbers.picture(f"cat {seed}", side, side, 3)
  return (127.5 + 127.5 * x).astype(np.uint8)


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
  Picture.fromarray(pixels(0)).save(tmp_path / "cat.png")
  code = cli.main(
    ["sample", f"--workdir={out}", f"--image={tmp_path}/cat.png", f"--prompt={ASKED}"]
  )
  result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
  assert not code and result["images"] == []
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
  assert len(text) > 8 and result["texts"][0].startswith(text)


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


# -- a run that keeps a part of its own ----------------------------------------------------

MARKED = (
  "<pad>", "<s>", "</s>", "<begin_of_image>", "<end_of_image>", "<|User|>",
  "<|Assistant|>",
)  # fmt: skip
SEEN = "<|User|>: <image>\nWhat is red?\n\n<|Assistant|>:"


@pytest.fixture(scope="module")
def janus(tmp_path_factory):
  """(release, run) of a small Janus whose processor has a system text."""
  folder = tmp_path_factory.mktemp("janus")
  release = run.write_release(JANUS, folder / "release")
  text = {**JANUS.published["text_config"], "max_position_embeddings": 512}
  content = {**JANUS.published, "text_config": text}
  (release / "config.json").write_text(json.dumps(content))
  llama_json(release / "tokenizer.json", WORDS, names=MARKED)
  settings = {"eos_token": "</s>", "chat_template": "{{ x }}<|User|>: <|Assistant|>:"}
  (release / "tokenizer_config.json").write_text(json.dumps(settings))
  (release / "processor_config.json").write_text(
    json.dumps({"use_default_system_prompt": True})
  )
  importing.import_run("janus", release, folder / "first", say=QUIET)
  (folder / "first").rename(folder / "run")
  return release, folder / "run"


def test_a_run_with_a_codec_of_its_own_may_be_moved(janus):
  release, out = janus
  config = rundir.read_config(out)
  assert config.data.codec == str(out / "codec") and config.codebook == 48
  told = json.loads((out / "config.json").read_text())
  assert told["config"]["data"]["codec"] == "RUN/codec"
  names = files.open_weights(release)
  assert told["imported"]["dropped"] == []
  codec = {n for n in names if n.startswith("model.vqmodel.")}
  assert told["imported"]["tensors"] == len(names) - len(codec) and codec
  special = dict(config.data.special)
  assert [special[n] for n in ("bos", "eos", "boi", "eoi")] == [1, 2, 3, 4]


def test_prompts_are_those_of_the_processor(janus):
  from configs.released.janus import SYSTEM

  release, out = janus
  b = load_run(out).builder
  parts = prompts.user([prompts.picture(pixels(0, 16)), Text(ASKED)], chat=True)
  layout = b.layout(Document(tuple(parts), id=0), open_end=True)
  framed = SEEN.replace("<image>", "<begin_of_image><end_of_image>")
  wanted = official(release, SYSTEM + framed)
  assert [t for t, n in zip(layout.tokens, layout.span, strict=True) if n < 0] == wanted
  parts = prompts.user([Text("a dog")], chat=True)
  text, shadow = (
    b.layout(Document(tuple(parts), id=0), open_end=True, without_text=x, draws=True)
    for x in (False, True)
  )
  assert text.tokens == official(release, "<|User|>: a dog\n\n<|Assistant|>:")
  pad = b.vocabulary.special.pad
  assert shadow.tokens[1:] == [pad] * (len(text) - 1)


def test_pictures_are_drawn_and_read_by_a_moved_run(janus, tmp_path, capsys):
  _, out = janus
  code = cli.main(
    ["sample", f"--workdir={out}", "--begin=image", "--prompt=a dog", "--seed=3",
     f"--out={tmp_path}/dog.png"]
  )  # fmt: skip
  result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
  assert not code and len(result["images"]) >= 1
  assert np.asarray(Picture.open(result["images"][0])).shape == (16, 16, 3)


def test_what_is_written_after_a_text_is_guided_by_as_much_padding(janus):
  """An image that the model begins by itself has a shadow of the same places."""
  from unijax.infer.batch import RowBatch

  loaded = load_run(janus[1], only_sample=True)
  generator = loaded.generator(rows=1)
  batch = RowBatch(generator, [Prompt([Text("a red dog")], max_text_tokens=4)], 0)
  special = batch.special
  (row,) = batch.rows
  for branch in (0, 1):
    batch._commit(branch, [row.tracks[branch]])
  written = [*loaded.builder.tokenizer.encode("A"), special.boi]
  batch._take_tokens(row, written)
  batch._begin_images([True], branches=(1,))
  text, shadow = row.tracks
  assert shadow.tokens[-1] == special.boi and shadow.position == text.position
  assert int(batch.caches[1].length_B[0]) == len(text)


def test_a_whole_system_is_exported_with_its_part(janus, tmp_path):
  release, out = janus
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  there, here = (files.open_weights(x) for x in (release, tmp_path / "out"))
  assert there.keys() == here.keys()
  for name, entry in there.items():
    np.testing.assert_array_equal(here[name].read(), entry.read(), err_msg=name)
  content = json.loads((tmp_path / "out" / "config.json").read_text())
  for part in ("vision_config", "vq_config"):
    assert JANUS.published[part].items() <= content[part].items()
  again = importing.look("janus", tmp_path / "out").config
  mine = rundir.read_config(out)
  assert (again.model, again.vision, again.codec) == (
    mine.model,
    mine.vision,
    mine.codec,
  )
  assert again.data.special == mine.data.special and again.data.chat == mine.data.chat


def test_a_system_without_one_of_its_parts_is_refused(janus, tmp_path):
  expected = cases.read_expected(JANUS.name)
  folder = run.write_release(JANUS, tmp_path / "release")
  odd = lambda name, x: (name.replace("vqmodel.quant_conv", "vqmodel.odd"), x)
  run.write_weights(folder / "model.safetensors", JANUS, expected, odd)
  with pytest.raises(CheckpointError, match="(?s)not a whole janus_vq .*quant_conv"):
    importing.import_run("janus", folder, tmp_path / "run", say=QUIET)
  assert not (tmp_path / "run").exists()


TUNE = """
from unijax.checkpoint import rundir


def get_config():
  c = rundir.config_dict("{run}")
  options = dict(num_documents=32, max_objects=1, grid=2)
  c.data.sources.scenes = dict(kind="scenes", weight=1.0, options=options)
  return c
"""


@pytest.mark.slow
def test_an_imported_system_is_tuned(tmp_path):
  """Images and text are trained, and what was trained is exported with the codec."""
  case, out = cases.everything()["janus-draw"][1], tmp_path / "run"
  release = run.write_release(case, tmp_path / "release")
  importing.import_run("janus", release, out, say=QUIET)
  workdir = tmp_path / "tuned"
  (tmp_path / "tune.py").write_text(TUNE.format(run=out))
  few = ["train.steps=2", "train.batch_size=1", "train.eval_every=100",
         "train.sample_every=100", "data.seq_len=512"]  # fmt: skip
  cli.main(["train", f"--config={tmp_path}/tune.py", f"--workdir={workdir}",
            f"--init-from={out}", *(f"--config.{x}" for x in few)])  # fmt: skip
  assert rundir.read_config(workdir).data.codec == str(out / "codec")
  exporting.export_run(str(workdir), tmp_path / "out", "janus", say=QUIET)
  found = importing.look("janus", tmp_path / "out")
  assert found.match.report.fits and found.parts["codec"].match.report.fits
