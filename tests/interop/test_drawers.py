"""Pipelines that only draw, as runs: folders, conditions of a file, decoders of others."""

import json

import jax
import numpy as np
import pytest
from PIL import Image as Picture

from tests.interop import cases, family_dits, run
from tests.interop.asked import QUIET, result
from tests.interop.written import refused, same_weights, used
from unijax import cli, config_file
from unijax.checkpoint import rundir, safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.start import Start
from unijax.config import ConfigError
from unijax.data.document import DataError
from unijax.infer import conditions, prompts
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system
from unijax.nn.dit_blocks import Condition
from unijax.train import loop

SD3 = cases.everything()["sd3-dit-loud"][1]
SIDE = 16  # pixels of a picture


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
  """(release, run) of a small pipeline, each part of which has a folder."""
  folder = tmp_path_factory.mktemp("sd3")
  release = run.write_release(SD3, folder / "release")
  content = json.loads((release / "config.json").read_text())
  (release / "config.json").unlink()
  (release / "model_index.json").write_text("{}")
  for name, file in system.load("sd3").configs().items():
    (release / file).parent.mkdir(exist_ok=True)
    (release / file).write_text(json.dumps(content[name]))
  importing.import_run("sd3", release, folder / "first", say=QUIET)
  (folder / "first").rename(folder / "run")
  return release, folder / "run"


def told(path, **changed):
  """Writes a file of conditions; None leaves an array out."""
  x = family_dits.inputs("rows")()
  arrays = {
    "vectors": x["vectors"], "pooled": x["pooled"], "length": np.array([5, 3], np.int32),
    "negative_vectors": x["negative"][:1], "negative_pooled": x["negative_pooled"][:1],
    **changed,
  }  # fmt: skip
  arrays = {n: a for n, a in arrays.items() if a is not None}
  forms = {n: (a.shape, a.dtype.name) for n, a in arrays.items()}
  safetensors.write(path, forms, arrays.items, {})
  return path


def test_every_published_key_of_the_folders_is_used_once():
  names, whole, part = used("sd3", "medium", "sd3-medium", "flux-vae", "vae/")
  assert (len(whole.consumed), len(part.consumed)) == (683, 244)
  assert sorted(whole.consumed + part.consumed) == sorted(names)
  assert sorted(whole.dropped) == sorted(part.consumed)


def test_a_pipeline_is_written_back(sd3, tmp_path):
  release, out = sd3
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  for place in ("transformer", "vae"):
    same_weights(release / place, tmp_path / "out" / place)
  assert not (tmp_path / "out" / "config.json").exists()
  assert importing.look("sd3", tmp_path / "out").config == importing.look(
    "sd3", release
  ).config  # fmt: skip


def test_it_draws_as_the_official_pipeline_does(sd3):
  config = rundir.read_config(sd3[1])
  s, d = config.sample, config.diffusion
  assert (s.sampler, s.steps, s.guidance, s.schedule_shift) == ("euler", 28, 7.0, 3.0)
  assert s.schedule_last == pytest.approx(0.003 / 1.002)
  assert (d.path, d.predict, d.time_shift) == ("rectified_flow", "velocity", 3.0)
  assert config.fixed == ("dit/positions",) and config.dit.position_grid == 9


def test_pictures_are_drawn_from_a_file_of_conditions(sd3, tmp_path, capsys):
  """What the file says decides, row by row, and lengths leave the rest out."""
  _, out = sd3
  file, picture = told(tmp_path / "a.safetensors"), tmp_path / "a.png"
  asked = ["sample", f"--workdir={out}", f"--out={picture}", "--steps=3"]
  assert not cli.main([*asked, f"--conditions={file}", "--count=2"])
  done = result(capsys)
  shown = [np.asarray(Picture.open(x)) for x in done["images"]]
  assert [x.shape for x in shown] == [(SIDE, SIDE, 3)] * 4
  loaded = load_run(out)
  both, against = conditions.read(file, loaded.config.dit)
  assert [int(x.length_B[0]) for x in both] == [5, 3] and len(against) == 2
  generator = loaded.generator(2, steps=3)
  # One group of both, of which the second is padded, and its padding changes nothing.
  again = generator.draw(both, against, [0, 1])
  spoilt = both[1].vectors_BSE.copy()
  spoilt[:, 3:] = 9.0
  other = Condition(spoilt, both[1].length_B, both[1].pooled_BE)
  for x, y in zip(
    generator.draw([both[0], other], against, [0, 1]), again, strict=True
  ):
    np.testing.assert_array_equal(x, y)
  assert abs(again[0].astype(int) - shown[0]).max() <= 1
  assert abs(again[1].astype(int) - shown[3]).max() <= 1
  assert (shown[0] != shown[1]).any() and (shown[1] != shown[3]).any()


BAD = (  # changes of a file, what is said
  ({"pooled": None}, "no array 'pooled'; a file of conditions"),
  ({"vectors": np.zeros((2, 5, 11))}, r"vectors is \[2, 5, 11\].*\[any, any, 12\]"),
  ({"length": np.array([6, 1])}, "length must be in 0 .. 5"),
  ({"texts": np.zeros(1)}, "unknown arrays texts"),
  ({"negative_vectors": np.zeros((3, 5, 12)), "negative_pooled": np.zeros((3, 10))},
   "of 3 pictures, vectors of 2"),
)  # fmt: skip


@pytest.mark.parametrize(("changed", "said"), BAD)
def test_wrong_files_of_conditions_are_refused_by_name(changed, said, sd3, tmp_path):
  with pytest.raises(DataError, match=said):
    file = told(tmp_path / "a.safetensors", **changed)
    conditions.read(file, rundir.read_config(sd3[1]).dit)


def test_what_it_cannot_be_asked_is_said(sd3, tmp_path):
  loaded = load_run(sd3[1])
  generator = loaded.generator(1, steps=1)
  with pytest.raises(DataError, match="no encoder of texts.*--conditions"):
    generator.generate([prompts.draw("a dog", False, 0)])
  file = told(tmp_path / "a", negative_vectors=None, negative_pooled=None)
  both, none = conditions.read(file, loaded.config.dit)
  with pytest.raises(DataError, match="negative_vectors in the file, or --guidance=1"):
    generator.draw(both, none, [0, 1])


def damaged(file: str, **fields):
  def damage(folder):
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **fields}))

  return damage


REFUSED = (
  ("transformer/config.json", {"qk_norm": "layer_norm"}, "transformer.qk_norm"),
  ("transformer/config.json", {"dual_attention_layers": [1]}, "dual_attention_layers"),
  ("transformer/config.json", {"patch_size": 4}, "transformer.patch_size"),
  ("scheduler/scheduler_config.json", {"use_karras_sigmas": True}, "use_karras_sigmas"),
  ("vae/config.json", {"latent_channels": 16}, "latent_channels"),
)


@pytest.mark.parametrize(("file", "fields", "said"), REFUSED)
def test_what_cannot_be_done_is_refused_by_name(file, fields, said, sd3, tmp_path):
  wrong = (ConfigError, CheckpointError)
  refused("sd3", sd3[0], damaged(file, **fields), wrong, said, tmp_path)


def test_a_release_is_the_folder_of_its_folders(sd3, tmp_path):
  one = sd3[0] / "transformer" / "model.safetensors"
  with pytest.raises(CheckpointError, match="no folder; name that of transformer, vae"):
    importing.look("sd3", one)
  with pytest.raises(CheckpointError, match="transformer: no such file or folder"):
    importing.look("sd3", tmp_path)


# -- tuned -------------------------------------------------------------------------------

STEP = tuple(
  f"--config.{knob}"
  for knob in (
    "train.steps=1", "train.batch_size=2", "train.ema_decay=0.0", "optim.warmup_steps=0",
    "data.image_size=32", "model.depth=1", "model.scan_unroll=1",
  )
)  # fmt: skip


def trained(args, start: Start, workdir):
  """A step of training: (its config, the weights after it, by path)."""
  config = config_file.load([*args, *STEP])
  loop.train(config, workdir, begin=start)
  after = system.named(load_run(workdir).params)
  return config, {n: np.asarray(x) for n, x in after.items()}


def weights(out) -> dict[str, np.ndarray]:
  return {n: np.asarray(x) for n, x in system.named(load_run(out).params).items()}


def test_a_bridge_has_a_place_for_all_of_it(sd3):
  """As wide as the bridge's model may be, it is told vectors as wide as it knows."""
  config = config_file.load([f"--config=configs/dreamllm.py:tiny-on={sd3[1]}"])
  shapes = system.leaves(config)
  mine = {n: x.shape for n, x in system.leaves(rundir.read_config(sd3[1])).items()}
  for name, shape in mine.items():
    assert shapes[f"bridge/decoder/{name.removeprefix('dit/')}"].shape == shape, name
  fit = [shapes[f"bridge/fit/{x}/kernel"].shape for x in ("vectors", "pooled")]
  assert fit == [(128, family_dits.WIDTH), (128, family_dits.POOLED)]
  assert config.optim.freeze == ("bridge/decoder/*",)
  assert config.sample.schedule_last > 0 and config.patches == 16


@pytest.mark.slow
def test_it_is_tuned_as_the_decoder_of_a_bridge(sd3, tmp_path):
  """It begins with the release's weights; all but the table of places moves."""
  _, out = sd3
  args = [f"--config=configs/dreamllm.py:tiny-on={out}", "--config.optim.freeze=()"]
  rule = r":dit\.(.*)=>bridge.decoder.\1"
  start = Start(init_from=f"{out}{rule}", init_allow=("missing",))
  config, after = trained(args, start, tmp_path / "run")
  assert config.fixed == ("bridge/decoder/positions",)
  for name, x in weights(out).items():
    y = after[f"bridge/decoder/{name.removeprefix('dit/')}"]
    # Nothing reads what the last block asks of the condition.
    still = name == "dit/positions" or "last_block/condition/q/" in name
    assert np.array_equal(x, y) == still, name
    np.testing.assert_allclose(x, y, atol=0.05)


@pytest.mark.slow
def test_it_is_tuned_with_an_encoder_of_captions_and_written_back(sd3, tmp_path):
  release, out = sd3
  args = [f"--config={out}/config.py", "--config.dit.told=captions"]
  start = Start(init_from=str(out), init_allow=("missing",))
  _, after = trained(args, start, tmp_path / "run")
  kernel = "dit/blocks/patch/q/kernel"
  assert (after[kernel] != weights(out)[kernel]).any()
  assert after["text/fit/vectors/kernel"].shape[1] == family_dits.WIDTH
  exporting.export_run(str(tmp_path / "run"), tmp_path / "back", "sd3", say=QUIET)
  again = dict(run.params(importing.look("sd3", tmp_path / "back")))
  jax.tree.map(np.testing.assert_array_equal, again, {n: after[n] for n in again})


def test_without_one_it_is_not_trained(sd3, tmp_path):
  with pytest.raises(ConfigError, match="dit.told: 'vectors' come from an encoder"):
    trained([f"--config={sd3[1]}/config.py"], Start(), tmp_path / "run")
