"""Decoders of text as runs: tokenizer, ends and chat format come along, and go back."""

import json

import numpy as np
import pytest

from tests.interop import cases, family_decoders, run
from tests.interop.asked import result
from tests.tokenizers import MARKS, tokenizer_json
from unijax import cli, config_file
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.data.document import Text, Turn
from unijax.infer.generate import Prompt
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system, texts

CASE = cases.everything()["llama-loud"][1]
WORDS = "What is red? A circle.\n"
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>"
QUIET = lambda text: None


def release(folder, chat: str, begin=()):
  run.write_release(CASE, folder)
  content = json.loads((folder / "config.json").read_text())
  (folder / "config.json").write_text(json.dumps({**content, "eos_token_id": 0}))
  tokenizer_json(folder / "tokenizer.json", WORDS, 263, begin)
  settings = {"eos_token": {"content": "<|im_end|>"}, "chat_template": chat}
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
  return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  folder = tmp_path_factory.mktemp("text")
  out = {}
  for name, chat, begin in (("plain", "", ("<s>",)), ("chat", TEMPLATE, ())):
    there = release(folder / f"{name}-release", chat, begin)
    out[name] = folder / name
    importing.import_run("llama", there, out[name], say=QUIET)
  return out


def test_what_lies_beside_the_weights_becomes_knobs(places):
  plain, chat = (rundir.read_config(places[n]) for n in ("plain", "chat"))
  for c in (plain, chat):
    assert dict(c.data.special)["eos"] == 2 and c.sample.stops == (0,)
    assert c.data.vocab == 263 and c.model.write == "none"
  assert plain.data.chat == (("begin", "<s>"),)
  assert dict(chat.data.chat) == {
    "begin": "", "user": "<|im_start|>user\n", "user_end": "<|im_end|>\n",
    "assistant": "<|im_start|>assistant\n", "assistant_end": "\n",
  }  # fmt: skip
  assert not load_run(places["plain"]).chat and load_run(places["chat"]).chat


@pytest.mark.parametrize("name", ["plain", "chat"])
def test_sampling_goes_on_from_the_ids_that_the_release_would_see(name, places, capsys):
  """`unijax sample` writes what sampling by ids writes after the template's ids."""
  code = cli.main(["sample", f"--workdir={places[name]}", "--prompt=What is red?"])
  done = result(capsys)
  assert not code and done["images"] == []
  loaded = load_run(places[name], only_sample=True)
  inner = loaded.builder.tokenizer
  told = {
    "plain": [0, *inner.encode("What is red?")],
    "chat": [
      1, *inner.encode("user\nWhat is red?"), 2, *inner.encode("\n"), 1,
      *inner.encode("assistant\n"),
    ],
  }[name]  # fmt: skip
  ids = np.asarray(
    family_decoders.written(loaded.config, loaded.params, np.asarray([told]))
  )[0].tolist()
  ends = [i for i, token in enumerate(ids) if token in (2, 0)]
  kept = ids[: ends[0]] if ends else ids
  text = done["texts"][0]
  assert text.startswith(inner.decode(kept)[:-1]) and done["finished"] == [bool(ends)]


def test_a_model_of_text_draws_nothing(places):
  generator = load_run(places["plain"], only_sample=True).generator()
  with pytest.raises(Exception, match="model.write='none' has none"):
    generator.generate([Prompt([Text("a")], "image")])
  assert generator.tasks == ("describe", "ask")


def test_an_empty_prompt_is_refused_where_nothing_begins_a_text(places):
  loaded = load_run(places["chat"], only_sample=True)
  with pytest.raises(Exception, match="prompt 0 is empty"):
    loaded.generator().generate([Prompt([])])
  assert loaded.generator().generate([Prompt([Turn("user")], max_text_tokens=1)])


def test_what_came_along_goes_back(places, tmp_path):
  out = tmp_path / "out"
  exporting.export_run(str(places["chat"]), out, say=QUIET)
  for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    there = places["chat"].with_name("chat-release") / name
    assert (out / name).read_bytes() == there.read_bytes()
  again = importing.look("llama", out).config
  mine = rundir.read_config(places["chat"])
  assert again.data.chat == mine.data.chat and again.sample == mine.sample
  loaded = config_file.load([f"--config={places['chat']}/config.py"])
  assert loaded.data.tokenizer == str(places["chat"] / "tokenizer.json")


@pytest.mark.parametrize(
  ("template", "begin", "user"),
  [
    ("{{ bos }}[INST] {{ x }} [/INST]", "<s>", "[INST] "),
    ("<|start_header_id|>..", "<s>", "<|start_header_id|>user<|end_header_id|>\n\n"),
    (
      "<|im_start|>system\nYou are a helpful assistant.<|im_end|>",
      "<s><|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
      "<|im_start|>user\n",
    ),
    ("### Human: {{ x }}", "<s>", None),
  ],
)
def test_formats_are_recognised_and_templates_never_run(template, begin, user):
  fields = {
    **CASE.published, "tokenizer.chat": template, "tokenizer.begin": "<s>",
    "tokenizer.ends": (2,),
  }  # fmt: skip
  chosen = system.load("llama")
  chat = dict(chosen.config(chosen.fields(fields)).data.chat)
  assert chat["begin"] == begin and chat.get("user") == user


@pytest.mark.parametrize(
  "name", ["tokenizer_config.json", "generation_config.json", "tokenizer.json"]
)
def test_damaged_files_beside_the_weights_are_named(name, places, tmp_path):
  there = release(tmp_path / "release", "", ())
  (there / name).write_text("[1, 2")
  with pytest.raises(Exception, match=name) as error:
    texts.beside(there)
  assert isinstance(error.value, CheckpointError) or name == "tokenizer.json"


def test_marks_are_the_special_tokens(places):
  tokenizer = load_run(places["plain"]).builder.tokenizer
  assert tokenizer.marks == {name: i for i, name in enumerate(MARKS)}
