"""Emu2 (Sun et al. 2024): the next token or the next feature, drawn by a decoder.

  --config=configs/emu2.py:tiny     trains on a laptop: pixels stand for features
  --config=configs/emu2.py:33B      the paper's size, 64 features of a 448-pixel image

The real thing, two commands: `unijax train --config=configs/codecs/features.py:tiny
--config.codec.encoder=RUN_OF_CLIP --workdir=CODEC`, then this with
`--config.data.codec=CODEC --config.data.patch_size=1`. At 33B with features.py:448.

Axes: features of one frozen encoder are read and written; in order, each regressed by a
squared error, one linear map in and one out; causal; a decoder trained apart draws.

Parameters: LLaMA-33B (32.5 billion) and two maps; encoder and decoder are the codec's.

Differences from the paper: patches of 56 pixels stand for the features until the codec
is named; trained at once from nothing instead of from LLaMA, with the captioning stage
before (freeze globs and --init-from do that); rates are approximate; scenes and a small
corpus; no video. Context images carry no loss, as everywhere here.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

PUBLISHED = {"33B": 32_528_943_616}  # the language model, most of it


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 33B."""
  if preset not in ("tiny", "33B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 33B")
  c = (tiny if preset == "tiny" else paper)(base.get_config())
  c.model.update(write="regression", image_mask="causal", head_depth=0, qk_norm=False)
  c.data.update(noise_limit=0.0, caption_dropout=0.1)
  c.train.update(regression="squared", image_loss_weight=1.0)
  c.sample.clip_x0 = 0.0  # features have no bound
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """LLaMA-33B."""
  c.model.update(depth=60, width=6656, heads=52, kv_heads=52, head_dim=128)
  c.model.update(mlp_width=17920, norm_eps=1e-6, dtype="bfloat16", remat="full")
  c.data.update(image_size=448, patch_size=56, seq_len=2048, images_per_row=12)
  scenes = dict(image_size=448, chat=False, caption_first=0.5)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.data.vocab = 32_000
  c.optim.update(learning_rate=1e-5, warmup_steps=1000, b2=0.98, weight_decay=0.05)
  c.train.update(batch_size=768, steps=40_000)
  c.sample.update(guidance=3.0)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """One million parameters, 16 patches or features an image."""
  c = transfusion.tiny(c)
  c.model.patch_position = "none"
  c.data.update(patch_size=8, seq_len=192, images_per_row=8)
  return c
