"""A system whose codes are among its words, and whose files cannot draw: Chameleon."""

import json

import numpy as np
import pytest

from tests.interop import cases, family_chameleon, family_decoders, numbers, run
from tests.interop.asked import ASKED, QUIET, WORDS, answered, official, pixels
from tests.interop.written import same_weights
from tests.tokenizers import llama_json
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.data import picture
from unijax.data.document import DataError, Document, Text
from unijax.data.layout import Layout
from unijax.infer import prompts
from unijax.infer.generate import Prompt
from unijax.infer.load import load_run
from unijax.interop import exporting, files, importing, system

CHAMELEON = cases.everything()["chameleon-swin-loud"][1]
TOKENIZER = cases.everything()["chameleon-vq-loud"][1]
SIDE = 2 * family_chameleon.SIDE  # pixels
NAMES = (
  "<s>",
  "<pad>",
  "</s>",
  "<racm3:break>",
  "<eoss>",
  "<reserved08706>",
  "<image>",
)
IDS = {name: i for i, name in enumerate(NAMES)}


def write_release(folder):
  """A small one with a tokenizer of pieces, which has codes in an order of its own."""
  release = run.write_release(CHAMELEON, folder)
  order = [10 + (7 * i + 3) % 48 for i in range(48)]
  named = {**family_chameleon.vocabulary(order), **IDS}
  codes = sorted((x, name) for name, x in named.items() if name.startswith("IMGIMG"))
  rest = (f"<reserved{i}>" for i in range(10 - len(NAMES)))
  llama_json(
    release / "tokenizer.json", WORDS, 260, (*NAMES, *rest, *(n for _, n in codes))
  )
  content = {
    **CHAMELEON.published, "vocabulary_map": named, "bos_token_id": 0,
    "eos_token_id": 2, "pad_token_id": 1,
  }  # fmt: skip
  (release / "config.json").write_text(json.dumps(content))
  settings = {"eos_token": "</s>", "sep_token": "<reserved08706>"}
  (release / "tokenizer_config.json").write_text(json.dumps(settings))
  return release


def write_whole(folder, prefix: str):
  """Its tokenizer with a decoder, as a run; `prefix` decides the numbers."""
  release = run.write_release(TOKENIZER, folder / "release")

  def same(name, x):
    return name, numbers.weight(f"{prefix}{name}", x.shape, "loud")

  expected = cases.read_expected(TOKENIZER.name)
  run.write_weights(release / "model.safetensors", TOKENIZER, expected, same)
  importing.import_run("chameleon_vq", release, folder / "run", say=QUIET)
  return folder / "run"


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
  """(release, run) of what reads pictures alone."""
  folder = tmp_path_factory.mktemp("chameleon")
  release = write_release(folder / "release")
  importing.import_run("chameleon", release, folder / "run", say=QUIET)
  return release, folder / "run"


@pytest.fixture(scope="module")
def draws(reads, tmp_path_factory):
  """The run that also has a decoder."""
  folder = tmp_path_factory.mktemp("draws")
  whole = write_whole(folder, "model.vqmodel.")
  out = folder / "both"
  importing.import_run("chameleon", reads[0], out, say=QUIET, codec=str(whole))
  return out


def test_a_prompt_has_the_ids_that_the_processor_makes(reads):
  release, out = reads
  b = load_run(out).builder
  parts = prompts.user([prompts.picture(pixels(0, SIDE)), Text(ASKED)], chat=True)
  layout = b.layout(Document(tuple(parts), id=0), open_end=True)
  told = f"<racm3:break><eoss>{ASKED}<reserved08706>"
  wanted = official(release, told)
  assert wanted[0] == 0 and wanted[-1] == IDS["<reserved08706>"]
  assert [t for t, n in zip(layout.tokens, layout.span, strict=True) if n < 0] == wanted
  row = b.chunk(layout, 40)
  codes = b.codec.codes(pixels(0, SIDE)).reshape(-1)
  named = json.loads((release / "config.json").read_text())["vocabulary_map"]
  letters = str.maketrans("0123456789", "ABCDEFGHIJ")
  ids = [named[f"IMGIMG{str(c).translate(letters)}Z"] for c in codes]
  assert len(set(ids)) > 4 and row.tokens_BT[row.patch_BT >= 0].tolist() == ids


@pytest.mark.slow  # told by those of llava and qwen2_vl
def test_sampling_answers_about_a_picture_of_a_file(reads, tmp_path, capsys):
  """`unijax sample` writes what sampling by ids writes after the processor's."""
  release, out = reads
  done = answered(out, pixels(0, SIDE), ASKED, tmp_path, capsys)
  assert done["images"] == []
  loaded, layout = load_run(out, only_sample=True), Layout()
  b = loaded.builder
  first, _, *rest = official(release, f"<racm3:break>{ASKED}<reserved08706>")
  layout.add_tokens([first, IDS["<racm3:break>"]], 0.0)
  b.add_span(layout, prompts.picture(pixels(0, SIDE)), 0.0)
  layout.add_tokens(rest, 0.0)
  assert layout.tokens.count(IDS["<eoss>"]) == 1
  ids = np.asarray(
    family_decoders.written_after(loaded.config, loaded.params, [layout], b)
  )
  text = b.tokenizer.decode([i for i in ids[0] if i >= 0])
  assert len(text) > 8 and done["texts"][0].startswith(text)
  assert not set(ids[0].tolist()) & set(loaded.config.data.code_ids)


def test_what_has_no_decoder_draws_nothing_and_says_so(reads):
  loaded = load_run(reads[1], only_sample=True)
  assert not loaded.config.draws and loaded.builder.codec.codebook == 48
  generator = loaded.generator(max_text_tokens=2)
  assert "draw" not in generator.tasks
  with pytest.raises(DataError, match=r"codec' has no decoder to draw with"):
    generator.generate([Prompt([Text("a dog")], "image")])
  with pytest.raises(ConfigError, match="codec.draws=False"):
    loaded.builder.pixels(np.zeros(16, np.int32))
  layout = loaded.builder.layout(Document((prompts.picture(pixels(0, SIDE)),), id=0))
  row = loaded.builder.row([layout])
  batch = type(row)(**{n: x[None] for n, x in vars(row).items() if x is not None})
  b = loaded.builder
  assert picture.draw_rows(batch, b.vocabulary, b.tokenizer, 1, codec=b.codec).size


def test_a_decoder_that_is_given_draws_what_is_written(draws):
  loaded = load_run(draws, only_sample=True)
  generator = loaded.generator(image_temperature=0.0)
  (made,) = generator.generate(
    [Prompt(prompts.user([Text("a dog")], True), "image", stop_after_image=True)]
  )
  (drawn,) = made.images
  assert drawn.shape == (SIDE, SIDE, 3) and drawn.std() > 1
  assert made.tokens == []


def test_the_codec_of_others_is_refused(reads, tmp_path):
  other = write_whole(tmp_path, "")
  with pytest.raises(CheckpointError, match=r"encoder/down0_0/.*: other numbers"):
    importing.import_run("chameleon", reads[0], tmp_path / "x", say=QUIET,
                         codec=str(other))  # fmt: skip
  assert not (tmp_path / "x").exists()
  with pytest.raises(ConfigError, match="keeps no tokenizer of pictures apart"):
    importing.import_run("chameleon_vq", other.parent / "release", tmp_path / "x",
                         say=QUIET, codec=str(other))  # fmt: skip


def test_what_is_exported_is_what_was_imported(reads, draws, tmp_path):
  release, out = reads
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  wanted, _ = same_weights(release, tmp_path / "out")
  told, kept = (json.loads((x / "config.json").read_text()) for x in (
    tmp_path / "out", release))  # fmt: skip
  assert told["vocabulary_map"] == kept["vocabulary_map"]
  exporting.export_run(str(draws), tmp_path / "both", say=QUIET)
  more = set(files.open_weights(tmp_path / "both")) - set(wanted)
  assert more and all(n.startswith("model.vqmodel.decoder.") for n in more)


REFUSED = {
  "rms_norm_eps": 1e-6, "hidden_act": "gelu", "mlp_bias": True,
  "vocabulary_map.<racm3:break>": None, "vocabulary_map.IMGIMGHZ": None,
  "preprocessor.rescale_factor": 1 / 255,
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_what_cannot_be_done_is_refused_by_name(field):
  chosen = system.load("chameleon")
  fields = chosen.fields(chosen.sizes()["7B"])
  fields = {k: v for k, v in fields.items() if k != field}
  if REFUSED[field] is not None:
    fields[field] = REFUSED[field]
  with pytest.raises(ConfigError, match=field):
    chosen.config(chosen.fields(fields))
