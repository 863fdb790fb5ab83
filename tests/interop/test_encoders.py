"""Imported encoders are runs: scored, read by other configs, and written back."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.interop import cases, eva_reference, family_eva, run
from tests.interop.written import same_weights
from tests.small import QUICK
from unijax import config_file
from unijax.checkpoint import integrity, rundir, start
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.evals import alignment
from unijax.interop import exporting, files, importing, system
from unijax.train.encoders import open_encoder
from unijax.train.functions import StepFunctions

SAY = lambda text: None
EMBEDDED = ROOT / "configs" / "tokenizers" / "embedded.json"


def release(name, folder, **fields):
  """The small release of a case, with a tokenizer and facts of its pictures beside."""
  _, case = cases.everything()[name]
  run.write_release(dataclasses.replace(case, published={**case.published, **fields}),
                    folder)  # fmt: skip
  (folder / "tokenizer.json").write_bytes(EMBEDDED.read_bytes())
  prepared = {
    "resample": 2,
    "size": {"shortest_edge": 40},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.5, 0.6, 0.7],
  }
  prepared["crop_size"] = {"height": 36, "width": 36}
  (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
  return case


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
  """A run of a small CLIP whose table has a row for each token of the tokenizer."""
  folder = tmp_path_factory.mktemp("clip")
  case = release("clip-loud", folder / "release")
  table = "text_model.embeddings.token_embedding.weight"
  expected = cases.read_expected(case.name)
  dtype, (_, width) = expected.forms[table]
  forms = {**expected.forms, table: (dtype, (520, width))}
  wider = dataclasses.replace(expected, forms=forms)
  run.write_weights(folder / "release" / "model.safetensors", case, wider)
  content = dict(case.published)
  content["text_config"] = {**content["text_config"], "vocab_size": 520}
  (folder / "release" / "config.json").write_text(json.dumps(content))
  importing.import_run("clip", folder / "release", folder / "run", say=SAY)
  return folder / "run"


def test_what_stands_beside_the_weights_comes_along(clip):
  config = rundir.read_config(clip)
  assert config.vision.mean == (0.1, 0.2, 0.3) and config.vision.std == (0.5, 0.6, 0.7)
  data = config.data
  assert (data.fit, data.resample, data.resize) == ("resize", "bilinear", 40)
  assert (clip / "tokenizer.json").read_bytes() == EMBEDDED.read_bytes()
  marks = {"pad": 519, "bos": 518, "eos": 519}  # the last two: its config names none
  assert dict(config.data.special) == marks


def test_the_run_is_scored(clip):
  figures = alignment.evaluate(str(clip), None, None, {"items": 8})
  assert np.isfinite(figures["held_out"]["loss"])
  assert {"scenes/kind", "scenes/image_to_text@1"} <= set(figures["zero_shot"])


def test_others_read_its_encoder(clip):
  """Frozen, as a teacher or a codec's; and as the eyes of a model of text."""
  frozen = open_encoder(str(clip))
  pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  assert jax.jit(frozen, compiler_options=QUICK)(pixels).shape == (2, 25, 24)
  on = config_file.load([f"--config={ROOT}/configs/llava.py:tiny-on={clip}"])
  assert on.vision == rundir.read_config(clip).vision and on.features == 25
  params = jax.eval_shape(StepFunctions(on, 520).init).params
  wanted = integrity.named_leaves(params)
  saved = {path.replace("/", "."): x for path, x in system.leaves(
    rundir.read_config(clip)).items()}  # fmt: skip
  taken = start.renamed(list(saved), start.parse_init(f"RUN:{LEFT_OUT}=>")[1])
  assert set(taken) == {name for name in wanted if name.startswith("vision.")}
  assert all(saved[name].shape == wanted[name].shape for name in taken)


LEFT_OUT = r"(?!vision\.(?!pool\.)).*"


def test_it_is_written_back_with_what_stood_beside(clip, tmp_path):
  exporting.export_run(str(clip), tmp_path / "out", say=SAY)
  same_weights(clip.parent / "release", tmp_path / "out")
  prepared = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
  assert prepared["image_mean"] == [0.1, 0.2, 0.3]
  content = json.loads((tmp_path / "out" / "config.json").read_text())
  assert "preprocessor" not in content and content["model_type"] == "clip"
  again = importing.look("clip", tmp_path / "out").config
  config = rundir.read_config(clip)
  assert (again.vision, again.text) == (config.vision, config.text)


def test_features_of_another_block_cannot_be_said_in_its_config(clip):
  config = rundir.read_config(clip)
  other = dataclasses.replace(config.vision, skip_blocks=1)
  chosen = system.load("clip")
  changed = dataclasses.replace(config, vision=other)
  with pytest.raises(ConfigError, match="vision.skip_blocks"):
    exporting._check_inverse(chosen, chosen.published(changed), changed)


def test_pictures_alone_are_scored_by_their_neighbours(tmp_path):
  release("dinov2-registers-loud", tmp_path / "release", preprocessor={})
  importing.import_run("dinov2", tmp_path / "release", tmp_path / "run", say=SAY)
  config = rundir.read_config(tmp_path / "run")
  assert config.data.image_size == 36 and config.vision.position_grid == 7
  figures = alignment.evaluate(str(tmp_path / "run"), None, None, {"items": 12})
  assert set(figures["zero_shot"]) == {"scenes/kind_by_neighbour"}
  assert open_encoder(str(tmp_path / "run")).config == config.vision


def test_without_a_tokenizer_it_says_so(tmp_path):
  _, case = cases.everything()["siglip-quiet"]
  run.write_release(case, tmp_path / "release")
  told = []
  importing.import_run(
    "siglip", tmp_path / "release", tmp_path / "run", say=told.append
  )
  assert any("put one of tokenizer.json, " in line for line in told)


# -- other layouts -------------------------------------------------------------------------


def test_fused_weights_of_the_original_layout(tmp_path):
  """Queries, keys and values in one matrix, as DINOv2 was first released."""
  name = "dinov2-loud"
  _, case = cases.everything()[name]
  folder = run.write_release(case, tmp_path)
  wanted = run.params(importing.look("dinov2", folder))
  arrays = {n: e.read() for n, e in files.open_weights(folder).items()}
  old = {n: x for n, x in map(_original, arrays.items()) if n}
  for i in range(3):
    for kind in ("weight", "bias"):
      parts = [
        arrays[f"encoder.layer.{i}.attention.attention.{n}.{kind}"]
        for n in ("query", "key", "value")
      ]
      old[f"blocks.{i}.attn.qkv.{kind}"] = np.concatenate(parts)
  forms = {n: (x.shape, x.dtype.name) for n, x in old.items()}
  run.safetensors.write(folder / "model.safetensors", forms, old.items, {})
  found = run.params(importing.look("dinov2", folder))
  for path, x in wanted.items():
    np.testing.assert_array_equal(found[path], x, err_msg=path)


ORIGINAL = {
  "embeddings.cls_token": "cls_token", "embeddings.mask_token": "mask_token",
  "embeddings.position_embeddings": "pos_embed", "layernorm.": "norm.",
  "embeddings.patch_embeddings.projection": "patch_embed.proj",
  "encoder.layer.": "blocks.", "attention.output.dense": "attn.proj",
  "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma",
}  # fmt: skip


def _original(item):
  name, x = item
  if "attention.attention" in name:
    return "", x
  for new, word in ORIGINAL.items():
    name = name.replace(new, word)
  return name, x


def test_numbers_of_positions_in_old_files_are_dropped(tmp_path):
  _, case = cases.everything()["clip-alone-loud"]
  folder = run.write_release(case, tmp_path)
  arrays = {n: e.read() for n, e in files.open_weights(folder).items()}
  for number, good in ((np.arange(26), True), (np.arange(26)[::-1], False)):
    more = {**arrays, "embeddings.position_ids": np.ascontiguousarray(number[None])}
    forms = {n: (x.shape, x.dtype.name) for n, x in more.items()}
    run.safetensors.write(folder / "model.safetensors", forms, more.items, {})
    if good:
      assert importing.look("clip", folder).match.report.dropped
    else:
      with pytest.raises(CheckpointError, match="position_ids"):
        importing.look("clip", folder)


def test_tables_of_rotations_in_files_are_those_of_the_formula(tmp_path):
  """The wave of each channel, from what the reference does to a pair of ones."""
  _, case = cases.everything()["eva02-loud"]
  folder = run.write_release(case, tmp_path)
  arrays = {n: e.read() for n, e in files.open_weights(folder).items()}
  pairs = np.tile([1.0, 0.0], (26, 12))  # turned, (1, 0) is (cos, sin)
  waves = eva_reference.turned(pairs, 3, 5, 16)[1:, :8].reshape(25, 4, 2)
  cos, sin = (np.repeat(waves[..., i], 2, axis=1).astype(np.float32) for i in (0, 1))
  for wrong in (False, True):
    more = {"visual.rope.freqs_cos": cos, "visual.rope.freqs_sin": sin}
    more |= {"visual.blocks.1.attn.rope.freqs_sin": cos if wrong else sin}
    every = {**arrays, **more}
    forms = {n: (x.shape, x.dtype.name) for n, x in every.items()}
    run.safetensors.write(folder / "model.safetensors", forms, every.items, {})
    if wrong:
      with pytest.raises(CheckpointError, match="blocks.1.attn.rope.freqs_sin"):
        importing.look("eva_clip", folder)
    else:
      assert len(importing.look("eva_clip", folder).match.report.dropped) == 3


def test_the_reference_is_the_tower_of_its_own_config():
  assert family_eva.CASES[0].published["vision_cfg"]["rope"]
  shapes = eva_reference.shapes(family_eva.CASES[0].published)
  assert set(shapes) == set(cases.read_expected("eva02-loud").forms)


# -- what cannot be done is refused ------------------------------------------------------


@pytest.mark.parametrize(
  ("name", "size", "field", "value"),
  [
    ("clip", "B-32", "vision_config.hidden_act", "relu"),
    ("clip", "B-32", "vision_config.num_channels", 4),
    ("siglip", "B-16", "text_config.hidden_act", "silu"),
    ("dinov2", "S", "model_type", "dinov3_vit"),
    ("dinov2", "S", "hidden_act", "relu"),
    ("eva_clip", "B-16", "vision_cfg.pt_hw_seq_len", 14),
  ],
)
def test_what_cannot_be_done_is_refused_by_name(name, size, field, value):
  chosen = system.load(name)
  fields = chosen.fields({**_flat(chosen.sizes()[size]), field: value})
  with pytest.raises(ConfigError, match=field):
    chosen.config(fields)


def _flat(values, path=""):
  flat = {}
  for name, x in values.items():
    flat |= _flat(x, f"{path}{name}.") if isinstance(x, dict) else {path + name: x}
  return flat
