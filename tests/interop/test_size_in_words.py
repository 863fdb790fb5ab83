"""A system whose pictures begin with their size and have ends of lines: Emu3."""

import json

import numpy as np
import pytest
import tokenizers
from PIL import Image as Picture

from tests.interop import cases, family_emu3, run
from tests.interop.asked import ASKED, QUIET, WORDS, official, pixels, result
from tests.interop.written import same_weights
from tests.tokenizers import tokenizer_json
from unijax import cli
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.data.document import DataError, Document, Text
from unijax.infer import prompts, tracks
from unijax.infer.generate import Prompt
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system

EMU3 = cases.everything()["emu3-loud"][1]
SIDE = 2 * family_emu3.SIDE  # pixels
CODES = tuple(f"<|visual token {i:06d}|>" for i in range(family_emu3.CODES))
NAMES = (
  "<|endoftext|>", "<|extra_200|>", "<|extra_201|>", "<|extra_203|>", "<|extra_204|>",
  "<|image token|>", "<|image start|>", "<|image end|>", "<image>",
)  # fmt: skip
PAD, EOL, EOF, BOS, EOS, IMG, BOI, EOI, PLACE = range(len(NAMES))


def write_tokenizer(folder):
  """One of bytes and pairs that has all special tokens; returns its ids by name."""
  vocab = EMU3.published["text_config"]["vocab_size"]
  tokenizer_json(folder / "tokenizer.json", WORDS, vocab, marks=(*NAMES, *CODES))
  return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()


def ids() -> dict:
  return {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}


@pytest.fixture(scope="module")
def emu3(tmp_path_factory):
  """(release, run) of a small one."""
  folder = tmp_path_factory.mktemp("emu3")
  release = run.write_release(EMU3, folder / "release")
  text = {**EMU3.published["text_config"], **ids()}
  named = write_tokenizer(release)
  content = {**EMU3.published, "text_config": text, "vocabulary_map": named}
  (release / "config.json").write_text(json.dumps(content))
  importing.import_run("emu3", release, folder / "run", say=QUIET)
  return release, folder / "run"


def test_a_question_has_the_ids_of_the_official_row(emu3):
  release, out = emu3
  b = load_run(out).builder
  picture = prompts.picture(pixels(0, SIDE))
  parts = tuple(prompts.user([picture, Text(ASKED)], chat=True))
  laid = b.layout(Document(parts, id=0), open_end=True)
  side, codes = family_emu3.SIDE, b.codec.codes(pixels(0, SIDE))
  lines = "".join("".join(CODES[c] for c in line) + "<|extra_200|>" for line in codes)
  told = (
    f"<|extra_203|>You are a helpful assistant. USER: <|image start|>{side}*{side}"
    f"<|image token|>{lines}<|extra_201|><|image end|>{ASKED}. ASSISTANT:"
  )
  wanted = official(release, told)
  assert len(np.unique(codes)) > 4 and wanted.count(EOL) == side
  assert b.row([laid]).tokens_BT[: len(laid)].tolist() == wanted
  assert b.measure(Document(parts, id=0))[0] == len(wanted) + 1


def test_what_is_drawn_is_asked_for_as_the_official_script_does(emu3):
  release, out = emu3
  loaded = load_run(out)
  sample = loaded.config.sample
  assert (sample.guidance, sample.image_top_k) == (3.0, 2048)
  prompt = Prompt(prompts.user([Text("a dog.")], loaded.chat), "image")
  text, shadow = tracks.layouts(loaded.builder, prompt, sample, 2)
  begin = "<|extra_203|>"
  told = f"{begin}a dog. masterpiece, film grained, best quality."
  assert text.tokens == official(release, told)
  assert shadow.tokens == official(release, begin + sample.negative_prompt)
  assert "lowres, bad anatomy" in sample.negative_prompt
  row = loaded.config.data.image_tokens
  wanted = official(release, "5*5<|image token|>")
  assert row == (*(("open", x) for x in wanted), ("line", EOL), ("close", EOF))


def test_a_picture_of_another_size_is_refused_by_name(emu3):
  b = load_run(emu3[1]).builder
  picture = prompts.picture(pixels(0, SIDE + 2))
  with pytest.raises(DataError, match="12x12 px, but data.image_size is 10"):
    b.layout(Document((picture,), id=0), open_end=True)


@pytest.mark.slow
def test_sampling_reads_and_draws(emu3, tmp_path, capsys):
  _, out = emu3
  Picture.fromarray(pixels(0, 16)).save(tmp_path / "cat.png")
  told = [f"--workdir={out}", f"--out={tmp_path}/dog.png"]
  asked = [f"--image={tmp_path}/cat.png", f"--prompt={ASKED}"]
  drawn = ["--begin=image", "--prompt=a dog", "--negative-prompt=blurry"]

  def sampled(more):
    assert not cli.main(["sample", *told, *more])
    return result(capsys)

  assert sampled(asked)["images"] == []
  (file, *_) = sampled(drawn)["images"]
  assert np.asarray(Picture.open(file)).shape == (SIDE, SIDE, 3)


def test_what_is_exported_is_what_was_imported(emu3, tmp_path):
  release, out = emu3
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  there, here = same_weights(release, tmp_path / "out")
  for name, entry in here.items():
    assert entry.dtype == there[name].dtype
  again = importing.look("emu3", tmp_path / "out").config
  mine = rundir.read_config(out)
  assert again.data.image_tokens == mine.data.image_tokens
  assert (again.data.special, again.sample) == (mine.data.special, mine.sample)


@pytest.fixture(scope="module")
def original(emu3, tmp_path_factory):
  """(the decoder alone, its names and fields at the top; run of the tokenizer)."""
  folder = tmp_path_factory.mktemp("original")
  importing.import_run("emu3_vq", emu3[0], folder / "vq", say=QUIET)
  release, expected = folder / "release", cases.read_expected(EMU3.name)
  alone = {n: x for n, x in expected.forms.items() if n.startswith("text_model.")}
  release.mkdir()
  rename = lambda n, x: (n.replace("text_model.", ""), x)  # noqa: E731
  kept = cases.Expected(alone, {}, {}, {})
  run.write_weights(release / "model.safetensors", EMU3, kept, rename)
  named = write_tokenizer(release)
  content = {
    **EMU3.published["text_config"], **ids(), "model_type": "Emu3",
    "image_area": SIDE**2, "boi_token_id": BOI, "eoi_token_id": EOI,
    "eol_token_id": EOL, "eof_token_id": EOF, "img_token_id": IMG,
    "vq_config": EMU3.published["vq_config"],
    "vocabulary_map": {name: named[name] for name in CODES},
  }  # fmt: skip
  (release / "config.json").write_text(json.dumps(content))
  return release, folder / "vq"


def test_the_original_layout_takes_the_tokenizer_of_another_run(
  emu3, original, tmp_path
):
  release, codec = original
  importing.import_run("emu3", release, tmp_path / "run", say=QUIET, codec=str(codec))
  mine, other = (rundir.read_config(x) for x in (tmp_path / "run", emu3[1]))
  assert mine.model == other.model and mine.sample == other.sample
  assert mine.data.image_tokens == other.data.image_tokens
  assert mine.data.code_ids == other.data.code_ids and mine.draws
  given = lambda x: dict(x.data.special) | {"time": 0, "user": 0, "assistant": 0}
  assert given(mine) == given(other)


def test_without_a_tokenizer_of_pictures_it_is_refused(original, tmp_path):
  with pytest.raises(CheckpointError, match="no tokenizer of pictures.*--codec"):
    importing.import_run("emu3", original[0], tmp_path / "run", say=QUIET)
  assert not (tmp_path / "run").exists()


REFUSED = {
  "vq_config.double_latent": True, "vq_config.hidden_size": 512,
  "vq_config.latent_channels": 8, "vq_config.num_attention_heads": 2,
  "text_config.hidden_act": "gelu", "text_config.mlp_bias": True,
  "preprocessor.spatial_factor": 16, "preprocessor.image_mean": [0.0, 0.0, 0.0],
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_what_cannot_be_done_is_refused_by_name(field):
  chosen = system.load("emu3")
  fields = chosen.fields({**chosen.fields(chosen.sizes()["8B"]), field: REFUSED[field]})
  with pytest.raises(ConfigError, match=field):
    chosen.config(fields)
