"""Released systems at their published size: every key has its place, once."""

import math

import numpy as np
import pytest

from tests.interop import cases, keys, run
from unijax.checkpoint import safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.interop import files, importing, matching, system

# (list in keys/, system, size of it)
LISTS = [
  ("sd-vae", "autoencoder_kl", "sd"),
  ("sd-vae", "autoencoder_kl", "sdxl"),
  ("flux-vae", "autoencoder_kl", "sd3"),
  ("flux-vae", "autoencoder_kl", "flux"),
  ("flux-vae-original", "autoencoder_kl", "flux"),
  ("wan-vae", "wan_vae", "2.1"),
  ("wan-vae-original", "wan_vae", "2.1"),
  ("clip-L-14-336", "clip", "L-14-336"),
  ("siglip-so400m-14-384", "siglip", "so400m-14-384"),
  ("dinov2-L", "dinov2", "L"),
  ("eva02-L-14-336", "eva_clip", "L-14-336"),
  ("eva02-B-16", "eva_clip", "B-16"),
  ("eva01-g-14", "eva_clip", "g-14"),
  ("eva02-bigE-14-plus", "eva_clip", "bigE-14-plus"),
  ("showo", "phi", "showo"),
  ("janus-vq", "janus_vq", "16384"),
  ("janus-vq-original", "janus_vq", "16384"),
  ("janus-pro-1b", "janus_vq", "16384"),
  ("magvit-v2", "magvit_v2", "8192"),
  ("llava-1.5-7b", "llava", "1.5-7B"),
  ("janus-pro-1b", "janus", "Pro-1B"),
  ("chameleon-7b", "chameleon", "7B"),
  ("chameleon-30b", "chameleon", "30B"),
  ("showo", "showo", "256"),
  ("bagel", "bagel", "7B-MoT"),
  ("qwen2-vl-2b", "qwen2_vl", "2B"),
  ("qwen2-vl-7b", "qwen2_vl", "7B"),
  ("qwen2.5-vl-7b", "qwen2_5_vl", "7B"),
  ("emu3", "emu3", "8B"),
  ("emu3", "emu3_vq", "32768"),
  ("emu3-vq-original", "emu3_vq", "32768"),
  ("opt-2.7b", "opt", "2.7B"),
  ("blip2-opt-2.7b", "blip2", "opt-2.7B"),
  ("blip2-itm", "blip2", "itm"),
  ("showo2-1.5b", "showo2", "1.5B"),
  ("showo2-7b", "showo2", "7B"),
  ("sd3-medium", "sd3", "medium"),
  ("flux-dev", "flux", "dev"),
]
SIZES = [(s, size) for s in system.names() for size in system.load(s).sizes()]
CASES = cases.everything()


LEAVES = {}


def leaves(config):
  """`system.leaves`, once for each config: several tests ask for large ones."""
  key = repr(config)
  if key not in LEAVES:
    LEAVES[key] = system.leaves(config)
  return LEAVES[key]


@pytest.mark.parametrize(("listed", "name", "size"), LISTS)
def test_every_published_key_is_used_once(listed, name, size):
  theirs, counts = keys.read(listed)
  chosen = system.load(name)
  config = chosen.config(chosen.fields(chosen.sizes()[size], theirs))
  ours = leaves(config)
  match = matching.match(chosen.table(config), ours, theirs)
  assert match.report.fits, match.report.text()
  assert len(theirs) == counts["tensors"]
  assert len(match.report.consumed) + len(match.report.dropped) == counts["tensors"]
  assert sum(len(p) for p in match.pieces.values()) >= len(match.report.consumed)


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_published_sizes_have_the_published_number_of_parameters(name, size):
  chosen = system.load(name)
  config = chosen.config(chosen.fields(chosen.sizes()[size]))
  built = sum(math.prod(x.shape) for x in leaves(config).values())
  assert built == chosen.module.PARAMETERS[size]


@pytest.mark.parametrize(
  ("name", "size"),
  [x for x in SIZES if hasattr(system.load(x[0]).module, "to_published")],
)
def test_what_is_exported_is_read_as_the_same_config(name, size):
  chosen = system.load(name)
  config = chosen.config(chosen.fields(chosen.sizes()[size]))
  again = chosen.fields(chosen.published(config))
  assert chosen.config(again) == config
  names = matching.plan(chosen.table(config), leaves(config))
  listed = next((k for k, n, s in LISTS if (n, s) == (name, size)), None)
  if listed:
    # What has the list of a system around it is written without its prefix.
    theirs, around = keys.read(listed)[0], ("showo.", "vqmodel.")
    bare = (n.removeprefix(prefix) for prefix in around for n in theirs)
    assert set(names) <= {*theirs, *bare}


@pytest.mark.parametrize("name", [n for n, (_, c) in CASES.items() if not c.slow])
def test_every_layout_gives_the_same_weights(name, tmp_path):
  _, case = CASES[name]
  expected = cases.read_expected(name)
  folder = run.write_release(case, tmp_path)
  wanted = run.params(importing.look(case.system, folder))
  for layout in expected.others:
    rename = run.renamed(expected, layout)
    run.write_weights(folder / "model.safetensors", case, expected, rename)
    found = run.params(importing.look(case.system, folder))
    assert found.keys() == wanted.keys()
    for path, x in wanted.items():
      np.testing.assert_array_equal(found[path], x, err_msg=f"{layout}: {path}")


# -- the autoencoders: what is refused -----------------------------------------------------

REFUSED = {
  "act_fn": "gelu", "in_channels": 4, "latents_mean": [0.0] * 4,
  "down_block_types": ["AttnDownEncoderBlock2D"] * 4, "block_out_channels": [128, 200],
  "use_post_quant_conv": False,
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_what_cannot_be_done_is_refused_by_name(field):
  chosen = system.load("autoencoder_kl")
  fields = chosen.fields({**chosen.sizes()["sd"], field: REFUSED[field]})
  with pytest.raises(ConfigError, match=field):
    chosen.config(fields)


def test_a_field_that_nothing_tells_is_named():
  chosen = system.load("autoencoder_kl")
  fields = {k: v for k, v in chosen.sizes()["sd"].items() if k != "scaling_factor"}
  with pytest.raises(ConfigError, match="scaling_factor"):
    chosen.config(chosen.fields(fields))


def test_weights_of_another_size_than_the_config_are_refused():
  chosen = system.load("autoencoder_kl")
  theirs, _ = keys.read("sd-vae")
  with pytest.raises(
    CheckpointError, match=r"latent_channels: 16 in config.json, 4 in"
  ):
    chosen.fields({**chosen.sizes()["sd"], "latent_channels": 16}, theirs)


def test_a_layer_that_is_not_in_the_file_wins_over_the_config():
  chosen = system.load("autoencoder_kl")
  theirs, _ = keys.read("flux-vae")
  fields = {**chosen.sizes()["flux"], "use_quant_conv": True}
  assert not chosen.fields(fields, theirs)["use_quant_conv"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_files_of_fewer_bits_are_cast(dtype, tmp_path):
  _, case = CASES["sd-loud"]
  folder = run.write_release(case, tmp_path)
  wide = files.open_weights(folder)["encoder.conv_in.weight"].read().copy()
  narrow = lambda name, x: (name, x.astype(safetensors.BITS[safetensors.TYPES[dtype]]))
  expected = cases.read_expected(case.name)
  run.write_weights(folder / "model.safetensors", case, expected, narrow)
  found = run.params(importing.look(case.system, folder))
  kernel = "codec/encoder/enter/conv/kernel"
  assert found[kernel].dtype == np.float32
  narrowed = wide.astype(safetensors.BITS[safetensors.TYPES[dtype]]).astype(np.float32)
  np.testing.assert_array_equal(found[kernel], narrowed.transpose(2, 3, 1, 0))
