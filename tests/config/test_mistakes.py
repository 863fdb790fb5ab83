"""Every mistake in a config is named."""

import copy

import pytest

from tests import small
from unijax.config import ConfigError, from_config_dict, to_dict


def problems(change) -> list[str]:
  """The lines of the error for a config after `change(nested dict)`."""
  values = copy.deepcopy(to_dict(small.config()))
  change(values)
  with pytest.raises(ConfigError) as error:
    from_config_dict(values)
  first, *lines = str(error.value).splitlines()
  plural = "s" if len(lines) > 1 else ""
  assert first == f"{len(lines)} problem{plural} in the config:"
  return [line.strip() for line in lines]


def test_all_problems_are_listed_at_once():
  def change(v):
    v["model"]["widht"] = 3
    v["model"]["depth"] = 2.5
    v["model"]["positions"] = "gird"
    v["model"]["qk_norm"] = 1
    v["optim"]["learning_rate"] = "fast"
    v["optim"]["eps"] = float("nan")
    v["trian"] = {}
    del v["data"]["window"]
    v["data"]["sources"]["scenes"]["wieght"] = 1.0
    v["seed"] = None

  found = problems(change)
  want = [
    "trian: unknown knob (did you mean 'train'?)",
    "seed: expected int, got NoneType None",
    "model.widht: unknown knob (did you mean 'width'?)",
    "model.depth: expected int, got float 2.5",
    "model.positions: 'gird' is not one of sequential, shared, grid, learned (did you "
    "mean 'grid'?)",
    "model.qk_norm: expected bool, got int 1",
    "data.window: missing (configs start from configs/base.py)",
    "data.sources.scenes.wieght: unknown knob (did you mean 'weight'?)",
    "optim.learning_rate: expected float, got str 'fast'",
    "optim.eps: nan is not a finite number",
  ]
  assert found == want


def test_sections_of_the_wrong_shape():
  def change(v):
    v["model"] = 3
    v["data"]["sources"] = {"a": 1, "b": {"kind": 2, "weight": 1, "options": []}}

  found = problems(change)
  assert "model: expected named values, got 3" in found
  assert "data.sources.a: expected named values, got 1" in found
  assert "data.sources.b.kind: expected str, got int 2" in found
  assert "data.sources.b.options: expected named values, got []" in found


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    ("model.depth", 0, "model.depth: 0 must be > 0"),
    ("model.code_width", 0, "model.code_width: 0 must be > 0"),
    ("model.code_adapter", "mlp", "model.code_adapter: 'mlp' gives codes a table and a "
     "softmax of their own, and model.write='diffusion' writes none, or tokens that are "
     "no codes: use 'none', or model.write='codes'"),
    ("data.code_ids", (7,), "data.code_ids: model.write='diffusion' writes no codes, "
     "which would have these ids: use (), or model.write='codes'"),
    ("data.image_frame", "bare", "data.image_frame: 'bare' leaves out what stands around "
     "an encoder's features, and model.read='patches' has none in the row: use 'marked'"),
    ("data.codec", "codes:48:1", "data.codec: 'codes:48:1' says how many codes there are "
     "and no more, and model.write='diffusion' needs latents: name the run of a codec"),
    ("model.kv_heads", 4, "model.kv_heads: 4 must divide model.heads 2"),
    ("model.scan_unroll", 3, "model.scan_unroll: 3 must divide model.depth 2"),
    ("model.head_dim", 15, "model.head_dim: 15 must be a multiple of 2 for "
     "model.positions='sequential'"),
    ("data.image_size", 5, "data.image_size: 5 must be a multiple of 2 "
     "(codec stride x data.patch_size)"),
    ("data.seq_len", 7, "data.seq_len: 7 cannot hold one image (4 patches of 2 px make "
     "8 positions)"),
    ("data.codec", "pixel", "data.codec: unknown 'pixel' (did you mean 'pixels'?)"),
    ("data.noise_limit", 1.5, "data.noise_limit: 1.5 must be in [0, 1]"),
    ("data.sources", {}, "data.sources: name at least one source"),
    ("optim.b2", 1.0, "optim.b2: 1.0 must be in [0, 1)"),
    ("diffusion.time_max", 0.0, "diffusion.time_max: 0.0 must be in (0, 1]"),
    ("train.z_loss", -1.0, "train.z_loss: -1.0 must be >= 0"),
    ("train.log_every", 0, "train.log_every: 0 must be > 0"),
    ("sample.guidance_low", 2.0, "sample.guidance_low: 2.0 must be in [0, 1]"),
    ("sample.schedule_patches", ((4, 1.0),), "sample.schedule_patches: ((4, 1.0),) must "
     "be two points of a line, at different numbers of patches"),
    ("dit.dual_depth", 1, "dit.dual_depth: 1 needs dit.conditioning='joint' and "
     "dit.adaln='block': these blocks have three changes more than others"),
    ("dit.last_queries", True, "dit.last_queries: True needs dit.conditioning='joint' and "
     "dit.single_depth=0: only there is a last block of two streams"),
    ("dit.position_grid", 9, "dit.position_grid: 9 is read by dit.positions='table' only"),
    ("dit.rope_axes", (8, 12, 12), "dit.rope_axes: (8, 12, 12) is read by "
     "dit.positions='rope' only"),
    ("dit.time_scale", 9.0, "dit.time_scale: 9 is read by dit.time_waves='sinusoid'"),
    ("dit.time_features", 7, "dit.time_features: 7 must be even: sines and cosines"),
    ("eval.batch_size", 0, "eval.batch_size: 0 must be > 0"),
    ("guard.spike_factor", 0.5, "guard.spike_factor: 0.5 must be 0 (off) or > 1"),
    ("guard.patience", 0, "guard.patience: 0 must be > 0"),
  ],
)  # fmt: skip
def test_ranges_and_sizes_that_do_not_fit(path, value, message):
  section, _, name = path.partition(".")
  assert problems(lambda v: v[section].update({name: value})) == [message]


@pytest.mark.parametrize(
  ("write", "model", "data", "message"),
  [
    ("codes", {}, {"codec": "blocks"}, "model.image_mask: 'bidirectional' would show a "
     "position what model.write='codes' predicts there: use 'causal'"),
    ("gmm", {}, {"codec": "pixels"}, "model.image_mask: 'bidirectional' would show a "
     "position what model.write='gmm' predicts there: use 'causal'"),
    ("masked", {}, {"codec": "pixels"}, "model.write: 'masked' writes codes, and "
     "data.codec='pixels' has none: use a codec with a codebook, such as 'blocks', or "
     "model.write='diffusion'"),
    ("masked", {}, {"codec": "blocks", "patch_size": 2}, "data.patch_size: 2 must be 1 "
     "with model.write='masked', which has one code a latent"),
    ("masked", {"time_injection": "token"}, {"codec": "blocks"}, "model.time_injection: "
     "'token' has no timestep to carry with model.write='masked': leave it at 'add'"),
    ("gmm", {"image_mask": "causal", "patch_codec": "unet"}, {"codec": "pixels"},
     "model.patch_codec: 'unet' mixes the patches of an image by their timestep, which "
     "model.write='gmm' does not have: use 'linear'"),
    ("codes", {"image_mask": "causal"}, {"codec": "blocks", "code_ids": (7, 8, 7)},
     "data.code_ids: 3 ids, 2 of them different, and data.codec='blocks' has 216 codes: "
     "name one id for each, or use ()"),
    ("codes", {"image_mask": "causal", "code_adapter": "mlp"}, {"codec": "blocks",
     "code_ids": tuple(range(300, 516))}, "data.code_ids: with model.code_adapter='mlp' "
     "codes are no rows of the token table: use (), or 'none'"),
    ("codes", {"image_mask": "causal"}, {"codec": "blocks", "image_tokens":
     (("end", 7),)}, "data.image_tokens: no place 'end'; known: open, line, close"),
    ("codes", {"image_mask": "causal"}, {"codec": "blocks", "without_text": "padded",
     "image_tokens": (("line", 7),)}, "data.image_tokens: data.without_text='padded' would "
     "take them for text, and put padding or nothing in their place: use () or 'dropped'"),
    ("codes", {"image_mask": "causal", "positions": "grid"}, {"codec": "blocks",
     "image_tokens": (("line", 7),)}, "data.image_tokens: model.positions='grid' gives "
     "places of a picture, which such tokens do not have: use () or 'sequential'"),
    ("diffusion", {}, {"image_tokens": (("line", 7),)}, "data.image_tokens: model.write="
     "'diffusion' writes an image as a whole, with no tokens between its lines: use (), or "
     "a way that goes in order, such as 'codes'"),
  ],
)  # fmt: skip
def test_ways_to_write_that_lack_something(write, model, data, message):
  def change(v):
    v["model"].update(write=write, **model)
    v["data"].update({"patch_size": 1, "image_size": 8, **data})
    v["data"]["seq_len"] = 128

  assert problems(change) == [message]


@pytest.mark.parametrize(
  ("write", "model", "data", "message"),
  [
    ("codes", {"image_mask": "causal"}, {"codec": "blocks"}, "data.clean_copy: with "
     "model.write='codes' an image is read as it is, and there is no noised one to put "
     "a clean copy beside: use False, or model.write='diffusion' or 'masked'"),
    ("bridge", {}, {}, "data.clean_copy: with model.write='bridge' an image is read as "
     "it is, and there is no noised one to put a clean copy beside: use False, or "
     "model.write='diffusion' or 'masked'"),
    ("diffusion", {"attention": "splash"}, {}, "model.attention: 'splash' computes "
     "intervals, and with data.clean_copy=True the mask is none: use 'dense', which is "
     "exact and slower"),
  ],
)  # fmt: skip
def test_clean_copies_that_cannot_be(write, model, data, message):
  def change(v):
    v["model"].update(write=write, **model)
    v["data"].update({"patch_size": 1, "image_size": 8, "seq_len": 128, **data})
    v["data"]["clean_copy"] = True

  assert problems(change) == [message]


def test_pairs_of_sizes():
  def change(v):
    v["model"].update(positions="grid", head_dim=18, patch_codec="unet")
    v["data"].update(image_size=12, patch_size=6)
    v["sample"].update(guidance_low=0.9, guidance_high=0.1)
    v["data"]["sources"]["scenes"]["weight"] = -1.0

  assert problems(change) == [
    "model.head_dim: 18 must be a multiple of 4 for model.positions='grid'",
    "data.sources: weights must be >= 0 and not all zero",
    "data.patch_size: 6 must be a power of 2 for a U-Net",
    "sample.guidance_low: must not exceed sample.guidance_high",
  ]


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(experts=4, experts_per_token=5), "experts_per_token: 5 of 4 experts"),
    (
      dict(experts=4, experts_per_token=3, expert_routing="by_modality"),
      "experts_per_token: 3 of 2 experts",
    ),
    (dict(experts=5, expert_routing="by_modality"), "experts: 5 must be even"),
    (dict(experts_per_token=1), "use 'all', or model.experts_per_token > 1"),
  ],
)
def test_routed_experts_that_cannot_be(knobs, message):
  named = {f"model__{name}": value for name, value in knobs.items()}
  with pytest.raises(ConfigError, match=message):
    small.config(model__sharing="experts", **named)
  small.config(**named)  # nobody reads them: no problem


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(model__read="fused"), "have other places than its 2 x 2 patches"),
    (
      dict(model__read="fused", vision__patch_size=2),
      "data.noise_limit: 1.0 makes context images targets, too",
    ),
    (
      dict(model__read="fused_latents", vision__patch_size=2,
           model__image_mask="causal"),
      "model.read: 'fused_latents' shows each patch its whole image",
    ),
    (
      dict(model__read="fused_latents", vision__patch_size=2, vision__frames=2),
      "vision.frames: 0 and 2 are of pixels",
    ),
    (
      dict(model__read="features", vision__patch_size=2, vision__last_norm=False),
      "vision.last_norm: False leaves out the norm",
    ),
    (dict(model__read="both", vision__patch_size=3), "a multiple of vision.patch_size"),
    (dict(model__read="features", vision__heads=3), "vision.heads: 3 must divide"),
    (
      dict(model__connector="shuffle", vision__patch_size=4, model__read="features"),
      "give 1 a side: make that even",
    ),
    (
      dict(model__connector="resampler", model__positions="grid", model__read="both"),
      "model.positions: 'grid' needs places",
    ),
    (
      dict(model__connector="qformer", model__positions="grid", model__read="both"),
      "queries of model.connector='qformer' have none",
    ),
    (
      dict(model__connector="qformer", model__read="features", text__depth=3),
      "align.cross_every: 2 must divide text.depth 3",
    ),
    (
      dict(model__connector="resampler", model__connector_queries=61,
           model__read="features"),
      "data.seq_len: 64 cannot hold the 61 features of one image",
    ),
    (
      dict(model__read="both", data__images_per_row=1),
      "data.images_per_row: 1 cannot hold an image that is read twice",
    ),
  ],
)  # fmt: skip
def test_ways_to_read_that_do_not_fit(knobs, message):
  named = {"vision__patch_size": 1, **knobs}
  with pytest.raises(ConfigError, match=message):
    small.config(**named)
  small.config(**{**named, "model__read": "patches"})  # nobody reads them: no problem


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (
      dict(model__write="gmm", model__image_mask="causal"),
      "denoiser.depth: 1 blocks denoise patches, and model.write='gmm' has none",
    ),
    (dict(denoiser__kv_heads=3), "denoiser.kv_heads: 3 must divide denoiser.heads 4"),
    (
      dict(denoiser__head_dim=6, model__positions="grid"),
      "denoiser.head_dim: 6 must be a multiple of 4",
    ),
    (dict(denoiser__rope_high=1.0), "denoiser.rope_high: 1.0 must be > denoiser"),
    (dict(model__time_token="alone"), "model.time_token: 'alone' is of the token"),
    (
      dict(model__patch_out="run", model__patch_codec="unet"),
      "model.patch_out: 'run' is what the linear patches",
    ),
  ],
)  # fmt: skip
def test_blocks_that_denoise_nothing(knobs, message):
  with pytest.raises(ConfigError, match=message):
    small.config(denoiser__depth=1, **knobs)
  small.config(denoiser__depth=1)
