"""Layouts of original repositories: the same weights and fields as those of transformers."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.interop import cases, family_chameleon, family_janus, keys, run
from unijax.checkpoint import safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.interop import files, importing, matching, system

CASES = cases.everything()


def arrays(folder) -> dict[str, np.ndarray]:
  return {name: entry.read() for name, entry in files.open_weights(folder).items()}


def write(path, made) -> None:
  forms = {name: (x.shape, x.dtype.name) for name, x in made.items()}
  safetensors.write(path, forms, made.items, {"format": "pt"})


def same(found: importing.Found, wanted: importing.Found) -> None:
  """All weights are, and those of parts that a run keeps apart."""
  assert found.config == wanted.config and found.parts.keys() == wanted.parts.keys()
  pairs = [(found, wanted), *((x, wanted.parts[k]) for k, x in found.parts.items())]
  for here, there in pairs:
    mine, theirs = run.params(here), run.params(there)
    assert mine.keys() == theirs.keys()
    for path, x in theirs.items():
      np.testing.assert_array_equal(mine[path], x, err_msg=path)


def beside(release, folder, made) -> None:
  """Writes other weights with the config.json of a release."""
  folder.mkdir(exist_ok=True)
  shutil.copyfile(release / "config.json", folder / "config.json")
  write(folder / "model.safetensors", made)


def test_janus_of_the_original_repository(tmp_path):
  release = run.write_release(CASES["janus-loud"][1], tmp_path / "release")
  made, folder = family_janus.original(arrays(release)), tmp_path / "original"
  unread = {
    "vision_model.vision_tower.attn_pool.latent": np.ones((1, 1, 24), np.float32),
    "gen_vision_model.quantize.codebook_used": np.ones(48, np.float32),
  }
  beside(release, folder, made | unread)
  found = importing.look("janus", folder)
  same(found, importing.look("janus", release))
  assert set(found.match.report.dropped) >= set(unread)
  beside(release, folder, made | {"gen_aligner.layers.4.bias": np.ones(3, np.float32)})
  with pytest.raises(CheckpointError, match=r"gen_aligner\.layers\.4\.bias"):
    importing.look("janus", folder)


def test_its_published_names_are_those_of_the_official_code():
  theirs, _ = keys.read("janus-pro-1b")
  made = family_janus.original(
    {n: np.broadcast_to(np.float32(0), x.shape) for n, x in theirs.items()}
  )
  named = {n: keys.Form(x.shape) for n, x in made.items()}
  official = keys.read("janus-vq-original")[0]
  codec = {n for n in named if n.startswith("gen_vision_model.")}
  assert codec == {n for n in official if not n.endswith("codebook_used")}
  chosen = system.load("janus")
  config = chosen.config(chosen.fields(ORIGINAL, named))
  report = matching.match(chosen.table(config), system.leaves(config), named).report
  assert report.fits, report.text()
  assert set(report.dropped) == codec
  assert set(report.consumed) == set(named) - codec


ORIGINAL = {  # config.json of deepseek-ai/Janus-Pro-1B
  "model_type": "multi_modality", "architectures": ["MultiModalityCausalLM"],
  "aligner_config": {"cls": "MlpProjector", "model_type": "aligner", "params": {
    "depth": 2, "input_dim": 1024, "n_embed": 2048, "projector_type": "mlp_gelu"}},
  "gen_aligner_config": {"cls": "MlpProjector", "model_type": "gen_aligner", "params": {
    "depth": 2, "input_dim": 8, "n_embed": 2048, "projector_type": "mlp_gelu"}},
  "gen_head_config": {"cls": "vision_head", "model_type": "gen_head", "params": {
    "image_token_embed": 2048, "image_token_size": 16384, "n_embed": 2048}},
  "gen_vision_config": {"cls": "VQ-16", "model_type": "gen_vision", "params": {
    "image_token_size": 16384, "n_embed": 8}},
  "language_config": {
    "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 16384,
    "model_type": "llama", "num_attention_heads": 16, "num_hidden_layers": 24,
    "num_key_value_heads": 16, "torch_dtype": "bfloat16", "vocab_size": 102400},
  "vision_config": {"cls": "CLIPVisionTower", "model_type": "vision", "params": {
    "image_size": 384, "model_name": "siglip_large_patch16_384",
    "select_feature": "same", "select_layer": -1}},
}  # fmt: skip


@pytest.mark.parametrize("wide", [{}, {"language_config.hidden_size": 4096}])
def test_its_fields_say_the_same(wide):
  chosen = system.load("janus")
  fields = chosen.fields(ORIGINAL)
  if wide:  # and not the widths of what stands around it
    with pytest.raises(ConfigError, match="aligner_config.params.n_embed=2048"):
      chosen.config(fields.given(**wide))
    return
  assert chosen.config(fields) == chosen.config(chosen.fields(chosen.sizes()["Pro-1B"]))


def test_its_turns_are_those_of_its_format(tmp_path):
  from tests.interop.asked import WORDS
  from tests.tokenizers import llama_json

  llama_json(tmp_path / "tokenizer.json", WORDS)
  (tmp_path / "config.json").write_text(json.dumps(ORIGINAL))
  chosen, said = system.load("janus"), {}
  for form in ("deepseek", "deepseek_old"):
    beside = {"tokenizer.file": str(tmp_path / "tokenizer.json"), "tokenizer.begin": ""}
    beside["tokenizer.chat"] = ""
    fields = {**ORIGINAL, **beside, "processor": {"sft_format": form}}
    said[form] = dict(chosen.config(chosen.fields(fields)).data.chat)
  assert said["deepseek"]["user"] == "<|User|>: " and "system" in said["deepseek"]
  assert said["deepseek_old"]["assistant"] == "Assistant:"


# -- Chameleon -----------------------------------------------------------------------------


def words(place, spare: str):
  """A tokenizer.json with the ids of the small Chameleons, `spare` for "<image>"."""
  import tokenizers

  known = dict(family_chameleon.vocabulary(family_chameleon.ORDER))
  known[spare] = known.pop("<image>")
  model = tokenizers.models.WordLevel(known, unk_token="<pad>")
  tokenizers.Tokenizer(model).save(str(place / "tokenizer.json"))


@pytest.fixture(params=["chameleon-swin-loud", "chameleon-quiet"])
def chameleon(request, tmp_path):
  """(release of transformers whose heads share their norms, the same as it was first)."""
  case = CASES[request.param][1]
  release, first = tmp_path / "release", tmp_path / "first"
  run.write_release(case, release)
  shared = {
    name: np.broadcast_to(x[:1], x.shape).copy() if "_norm." in name else x
    for name, x in arrays(release).items()
  }
  first.mkdir()
  write(release / "whole.safetensors", shared)
  (release / "whole.safetensors").rename(release / "model.safetensors")
  head = case.published["hidden_size"] // case.published["num_attention_heads"]
  made = family_chameleon.original(arrays(release), head)
  write(
    first / "consolidated.safetensors", made | {"rope.freqs": np.ones(4, np.float32)}
  )
  words(release, "<image>")
  tell(case, first)
  return release, first


def tell(case, first, pieces=1) -> None:
  """Writes what stands beside the weights of the original release."""
  words(first, "<reserved08707>")
  params = {
    "dim": 48, "n_layers": 3, "n_heads": 6, "n_kv_heads": 2, "norm_eps": 1e-5,
    "swin_norm": case.published["swin_norm"], "rope_theta": 1e4,
  }  # fmt: skip
  told = {"model_parallel_size": pieces, "model": params}
  (first / "params.json").write_text(json.dumps(told))
  rest = {"vq_config": case.published["vq_config"], "max_position_embeddings": 128}
  (first / "config.json").write_text(json.dumps(rest))


def test_chameleon_of_the_original_release(chameleon, tmp_path):
  release, first = chameleon
  found, wanted = (
    importing.look("chameleon", first),
    importing.look("chameleon", release),
  )
  mine, theirs = run.params(found), run.params(wanted)
  assert mine.keys() == theirs.keys()
  for path, x in theirs.items():
    np.testing.assert_array_equal(mine[path], x, err_msg=path)
  assert found.without == ("codec",) and found.match.report.dropped == ["rope.freqs"]
  for part in ("model", "sample"):
    assert getattr(found.config, part) == getattr(wanted.config, part)
  differ = {
    name
    for name in vars(found.config.data)
    if getattr(found.config.data, name) != getattr(wanted.config.data, name)
  }
  assert differ == {"tokenizer"}  # another path


def test_it_wants_a_tokenizer_of_pictures_and_its_words(chameleon, tmp_path):
  _, first = chameleon
  with pytest.raises(CheckpointError, match="name its run with --codec"):
    importing.import_run("chameleon", first, tmp_path / "run", say=lambda _: None)
  (first / "tokenizer.json").rename(first / "text_tokenizer.json")
  with pytest.raises(ConfigError, match=r"put text_tokenizer\.json"):
    importing.look("chameleon", first)


AXES = {"tok_embeddings": 1, "wo": 1, "w2": 1}  # along which parts are cut; else 0


def test_chameleon_in_parts(tmp_path):
  """As the 30B is released: heads of a part share a norm, those of another have theirs;
  other norms are in both, a little apart."""
  case, release, first = CASES["chameleon-swin-loud"][1], tmp_path / "a", tmp_path / "b"
  run.write_release(case, release)
  whole = {
    name: np.repeat(x[:: len(x) // 2], len(x) // 2, axis=0) if "_norm." in name else x
    for name, x in arrays(release).items()
  }
  first.mkdir()
  write(tmp_path / "whole.safetensors", whole)
  (tmp_path / "whole.safetensors").rename(release / "model.safetensors")
  for number in range(2):
    half = {
      n: x[:: len(x) // 2][number:] if "_norm." in n else x for n, x in whole.items()
    }
    part = family_chameleon.original(half, 8)
    for name, x in part.items():
      kind = name.split(".")[-2]
      if kind.endswith("norm"):
        part[name] = x + np.float32((number - 0.5) / 64)
      elif "normalization" not in kind:
        part[name] = np.array_split(x, 2, axis=AXES.get(kind, 0))[number].copy()
    write(first / f"consolidated.0{number}.safetensors", part)
  tell(case, first, 2)
  wanted = run.params(importing.look("chameleon", release))
  mine = run.params(importing.look("chameleon", first))
  assert mine.keys() == wanted.keys()
  for path, x in wanted.items():
    np.testing.assert_allclose(mine[path], x, rtol=1e-6, atol=1e-7, err_msg=path)
  del part["layers.1.ffn_norm.weight"]
  write(first / "consolidated.01.safetensors", part)
  with pytest.raises(
    CheckpointError, match=r"only one has layers\.1\.ffn_norm\.weight"
  ):
    importing.look("chameleon", first)


@pytest.mark.parametrize(("size", "pieces"), [("7B", 1), ("30B", 4)])
def test_its_published_names_have_their_places(size, pieces):
  """Those of transformers by the rules that the small one was written by; of the 30B
  as its files are joined."""
  named = {}
  for name, x in keys.read(f"chameleon-{size.lower()}")[0].items():
    if not name.startswith("model.vqmodel."):
      one = x.shape[1:] if pieces == 1 else (pieces, *x.shape[1:])
      shape = one if "_norm." in name else x.shape
      for old, new in family_chameleon.ORIGINAL:
        name = re.sub(old, new, name)
      named[name] = keys.Form(shape)
  chosen = system.load("chameleon")
  config = chosen.config(chosen.fields(chosen.sizes()[size]))
  report = matching.match(chosen.table(config), system.leaves(config), named).report
  assert report.fits, report.text()
  assert set(report.consumed) == set(named)
