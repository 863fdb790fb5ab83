"""`unijax import` and `unijax export`: whole runs, or nothing."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.interop import cases, memory, run
from tests.interop.written import same_weights
from unijax import cli, codecs, config_file
from unijax.checkpoint import rundir, start
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.store import Store
from unijax.codecs import artefact, frozen
from unijax.config import ConfigError
from unijax.interop import exporting, files, importing
from unijax.train.functions import StepFunctions

FAMILY, CASE = cases.everything()["sd-loud"]
QUIET = lambda text: None


@pytest.fixture(scope="module")
def release(tmp_path_factory):
  return run.write_release(CASE, tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def imported(release, tmp_path_factory):
  out = tmp_path_factory.mktemp("runs") / "vae"
  importing.import_run(CASE.system, release, out, say=QUIET)
  return out


# -- what an imported run is ---------------------------------------------------------------


def test_an_imported_codec_is_one_that_others_train_on(imported):
  codec = frozen.FrozenCodec(str(imported))
  assert (codec.shift, codec.scale) == (0.0, 0.18215)
  sizes = codecs.sizes(str(imported))
  assert (sizes.stride, sizes.channels) == (4, 4)
  pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
  latents = codec.encode(pixels)
  assert latents.shape == (2, 3, 4)
  assert codec.decode(latents).shape == pixels.shape


def test_training_begins_from_an_imported_run(imported, tmp_path):
  config = config_file.load([f"--config={imported}/config.py"])
  assert config == rundir.read_config(imported)
  abstract = StepFunctions(config, 0).abstract_state()
  fresh = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), abstract)
  store = Store(tmp_path, say=QUIET)
  begin = start.Start(init_from=str(imported))
  state, _ = start.first_state(store, fresh, abstract, begin)
  store.close()
  weights = artefact.read_weights(str(imported), artefact.read(str(imported)))
  jax.tree.map(np.testing.assert_array_equal, state.params["codec"], weights)
  jax.tree.map(np.testing.assert_array_equal, state.ema_params["codec"], weights)


def test_an_imported_run_is_not_resumed_but_begun_from(imported):
  config = rundir.read_config(imported)
  store = Store(imported, read_only=True)
  with pytest.raises(CheckpointError, match=f"--init-from={imported}"):
    store.restore(StepFunctions(config, 0).abstract_state())
  store.close()


def test_what_is_exported_equals_what_was_imported(imported, release, tmp_path):
  exporting.export_run(str(imported), tmp_path / "out", say=QUIET)
  same_weights(release, tmp_path / "out")
  written = json.loads((tmp_path / "out" / "config.json").read_text())
  assert CASE.published.items() <= written.items()


def test_weights_are_exported_in_half_precision(imported, tmp_path):
  exporting.export_run(str(imported), tmp_path / "out", dtype="bfloat16", say=QUIET)
  found = files.open_weights(tmp_path / "out")
  assert {str(x.dtype) for x in found.values()} == {"bfloat16"}


def test_the_plain_export_has_the_weights_too(imported, tmp_path, capsys):
  out = tmp_path / "x.safetensors"
  with pytest.raises(SystemExit):
    cli.main(["ckpt", "ls", str(imported), "--unknown"])
  cli.main(["ckpt", "export", str(imported), f"--out={out}"])
  assert "codec.encoder.enter.conv.kernel" in files.open_weights(out)


# -- what is refused -----------------------------------------------------------------------


def test_nothing_is_left_of_an_import_that_fails(release, tmp_path):
  for change in ("cut", "renamed", "size", "there"):
    folder = run.write_release(CASE, tmp_path / change)
    weights, out = folder / "model.safetensors", tmp_path / f"{change}-run"
    if change == "cut":
      weights.write_bytes(weights.read_bytes()[:-5])
    if change == "renamed":
      expected = cases.read_expected(CASE.name)
      odd = lambda name, x: (name.replace("encoder.conv_in", "encoder.odd"), x)
      run.write_weights(weights, CASE, expected, odd)
    if change == "size":
      wide = {**CASE.published, "block_out_channels": [16, 16, 16]}
      (folder / "config.json").write_text(json.dumps(wide))
    if change == "there":
      out.mkdir()
    said = {
      "cut": "ends at byte", "renamed": "unknown:\n  encoder.odd.bias",
      "size": "block_out_channels: (16, 16, 16) in config.json, (8, 16, 16) in files",
      "there": "is there already",
    }[change]  # fmt: skip
    with pytest.raises(CheckpointError) as error:
      importing.import_run(CASE.system, folder, out, say=QUIET)
    assert said in str(error.value), change
    left = {p.name for p in tmp_path.iterdir()}
    assert not any(name.endswith(".tmp") for name in left)
    assert (out.name in left) == (change == "there")


def test_names_that_are_not_there_are_listed_with_all_others(release, tmp_path):
  expected = cases.read_expected(CASE.name)
  odd = lambda name, x: (name.replace("decoder.conv_in", "decoder.odd"), x)
  folder = run.write_release(CASE, tmp_path)
  run.write_weights(folder / "model.safetensors", CASE, expected, odd)
  with pytest.raises(CheckpointError) as error:
    importing.look(CASE.system, folder)
  text = str(error.value)
  assert "198 consumed, 0 dropped, 2 unknown, 2 missing, 0 misfit" in text
  assert "decoder.conv_in.weight: for codec/decoder/enter/conv/kernel" in text


def test_systems_and_sizes_that_are_not_known_are_named(release, tmp_path):
  with pytest.raises(ConfigError, match="'kandinsky'; known: .*autoencoder_kl"):
    importing.look("kandinsky", release)
  (tmp_path / "ae.safetensors").write_bytes(
    (release / "model.safetensors").read_bytes()
  )
  with pytest.raises(ConfigError, match="--size, one of sd, sdxl, sd3, flux"):
    importing.look(CASE.system, tmp_path / "ae.safetensors")
  with pytest.raises(ConfigError, match="no size 'xl'; known: sd, sdxl"):
    importing.look(CASE.system, release, "xl")
  with pytest.raises(
    CheckpointError, match="block_out_channels: .*128.* in config.json"
  ):
    importing.look(CASE.system, tmp_path / "ae.safetensors", "sd")


def test_damaged_released_configs_are_named(release, tmp_path):
  for content in ("{", "[]", '{"a": NaN'):
    folder = run.write_release(CASE, tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="config.json is damaged"):
      importing.look(CASE.system, folder)


def test_runs_that_no_release_can_say_are_not_exported(imported, tmp_path):
  own = tmp_path / "run"
  config = rundir.read_config(imported)
  codec = dataclasses.replace(config.codec, bottleneck="fsq", channels=3)
  rundir.write_config(own, dataclasses.replace(config, codec=codec), {})
  with pytest.raises(CheckpointError, match="--system, one of .*autoencoder_kl"):
    exporting.export_run(str(own), tmp_path / "out", say=QUIET)
  with pytest.raises(ConfigError, match="codec.bottleneck: 'fsq' -> 'kl'"):
    exporting.export_run(str(own), tmp_path / "out", "autoencoder_kl", say=QUIET)
  assert not (tmp_path / "out").exists()


def test_the_verbs_say_what_they_did(release, tmp_path, capsys):
  out, back = tmp_path / "run", tmp_path / "back"
  cli.main(["import", CASE.system, str(release), f"--out={out}"])
  cli.main(["export", str(out), f"--out={back}"])
  results = [json.loads(line.removeprefix("RESULT "))
             for line in capsys.readouterr().out.splitlines()
             if line.startswith("RESULT ")]  # fmt: skip
  assert results[0]["tensors"] == results[1]["tensors"] == 200
  with pytest.raises(SystemExit) as error:
    cli.main(["import", CASE.system, str(release), f"--out={out}"])
  assert error.value.code == 2
  assert "is there already" in capsys.readouterr().err
  for verb in ("import", "export"):
    with pytest.raises(SystemExit):
      cli.main([verb, "--help"])
    assert "examples:" in capsys.readouterr().out


# -- at length -----------------------------------------------------------------------------


@pytest.mark.slow
def test_imported_runs_are_trained_and_measured_like_any_other(imported, tmp_path):
  workdir = tmp_path / "tuned"
  few = ["--config.train.steps=2", "--config.train.batch_size=2",
         "--config.train.eval_every=100", "--config.train.sample_every=100",
         "--config.eval.kid_images=4", "--config.optim.freeze=('codec/encoder/*',)"]  # fmt: skip
  cli.main(["train", f"--config={imported}/config.py", f"--workdir={workdir}",
            f"--init-from={imported}", *few])  # fmt: skip
  cli.main(["eval", f"--workdir={workdir}", "--items=4"])
  exporting.export_run(str(workdir), tmp_path / "out", CASE.system, "params", say=QUIET)
  tuned, before = (
    run.params(importing.look(CASE.system, x))
    for x in (tmp_path / "out", importing_source(imported, tmp_path))
  )
  same = {n for n, x in tuned.items() if np.array_equal(x, before[n])}
  assert same == {n for n in tuned if n.startswith("codec/encoder/")}


def importing_source(imported, tmp_path):
  exporting.export_run(str(imported), tmp_path / "before", say=QUIET)
  return tmp_path / "before"


@pytest.mark.slow
def test_an_import_needs_little_more_memory_than_the_model(tmp_path):
  """2 GB in four files: at most 1.5 times the largest file beyond the model itself."""
  folder = tmp_path / "release"
  folder.mkdir()
  memory.write(folder)
  done = subprocess.run(
    [sys.executable, "-m", "tests.interop.memory", "import", folder, tmp_path / "run"],
    cwd=ROOT, text=True, capture_output=True, check=True,
  )  # fmt: skip
  found = json.loads(done.stdout.splitlines()[-1])
  beyond = found["largest"] - found["before"] - found["model"]
  assert beyond < 1.5 * found["shard"], found
