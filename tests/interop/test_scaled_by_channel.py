"""A released autoencoder whose latents have a shift and a scale each channel, in use."""

import dataclasses
import json

import numpy as np
import pytest

from configs import base
from tests.interop import cases, run
from tests.interop.asked import QUIET
from tests.interop.written import same_weights
from unijax import codecs
from unijax.checkpoint import rundir
from unijax.codecs import artefact, frozen
from unijax.config import ConfigError, from_config_dict
from unijax.interop import exporting, importing, system

CASE = cases.everything()["wan-vae-quiet"][1]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
  """(release, path of the run that was imported)."""
  place = tmp_path_factory.mktemp("run")
  release = run.write_release(CASE, place / "release")
  importing.import_run(CASE.system, release, place / "run", say=QUIET)
  return release, place / "run"


def test_others_train_on_latents_that_are_scaled_channel_by_channel(imported):
  place = str(imported[1])
  codec, about = codecs.open_codec(place), artefact.read(place)
  mean, std = (np.float32(CASE.published[f"latents_{n}"]) for n in ("mean", "std"))
  plain = frozen.Weighted(codec.form, artefact.read_weights(place, about))
  pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
  latents = codec.encode(pixels)
  assert latents.shape == (2, 3, 4, 6)
  np.testing.assert_allclose(
    latents, (plain.encode(pixels) - mean) / std, rtol=1e-5, atol=1e-5
  )
  drawn = codec.decode((plain.encode(pixels) - mean) / std).astype(int)
  assert abs(drawn - plain.decode(plain.encode(pixels))).max() <= 1


def test_a_run_says_them_and_another_codec_is_another(imported, tmp_path):
  place = str(imported[1])
  about = artefact.read(place)
  assert about.shift == list(CASE.published["latents_mean"]) and len(about.scale) == 6
  assert json.loads(json.dumps(about.identity())) == about.identity()
  other = dataclasses.replace(about, scale=[*about.scale[:-1], 9.0])
  assert other.identity() != about.identity()
  again = from_config_dict(rundir.config_dict(place))
  assert again == rundir.read_config(place)
  assert again.codec.shift == tuple(about.shift)


def test_what_is_exported_is_what_was_imported(imported, tmp_path):
  release, place = imported
  exporting.export_run(str(place), tmp_path / "out", say=QUIET)
  same_weights(release, tmp_path / "out")
  written = json.loads((tmp_path / "out" / "config.json").read_text())
  assert {n: written[n] for n in CASE.published} == CASE.published


@pytest.mark.parametrize("number", [2.8184, 1.4541, 1.0 / 3.0, 0.1 + 0.2])
def test_deviations_are_written_as_they_were_read(number):
  inverse = system.load("wan_vae").module._inverse
  assert 1.0 / inverse(1.0 / number) == 1.0 / number
  if len(str(number)) < 8:
    assert inverse(1.0 / number) == number


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("is_residual", True), ("patch_size", 2), ("attn_scales", [0.5]),
    ("in_channels", 12), ("out_channels", 12), ("decoder_base_dim", 256),
    ("temperal_downsample", [True, True]), ("latents_mean", [0.0] * 4),
    ("latents_std", [1.0] * 48), ("dropout", 0.1), ("_class_name", "AutoencoderKL"),
  ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(field, value):
  chosen = system.load("wan_vae")
  fields = chosen.fields({**chosen.sizes()["2.1"], field: value})
  with pytest.raises(ConfigError, match=f"config.json has {field}="):
    chosen.config(fields)


def test_a_system_takes_it_as_a_part():
  chosen, c = system.load("wan_vae"), base.get_config()
  made = chosen.module.get_config(chosen.fields(chosen.sizes()["2.1"]))
  c.codec.update(made.codec)
  c.data.sources = made.data.sources
  codec = from_config_dict(c).codec
  assert (len(codec.scale), codec.scale[0]) == (16, 1.0 / 2.8184)


def test_files_of_one_scale_do_not_say_one_a_channel():
  chosen = system.load("autoencoder_kl")
  fields = chosen.fields({**chosen.sizes()["sd"], "scaling_factor": [1.0] * 4})
  with pytest.raises(ConfigError, match="config.json has scaling_factor="):
    chosen.config(fields)
