"""MetaMorph (Tong et al. 2024): an instruction-tuned model that regresses features.

  --config=configs/metamorph.py:tiny   trains on a laptop: pixels stand for features
  --config=configs/metamorph.py:8B     the paper's size

The real thing at tiny size: a codec as configs/emu2.py says, then this with
`--config.data.codec=CODEC --config.data.patch_size=1`. At 8B likewise with
configs/codecs/features.py:378.

Axes: as configs/emu2.py, but what is regressed is a direction: one minus the cosine, of
a head with two GELU layers.

Parameters: the decoder is LLaMA-3-8B (8.03 billion) and the maps of features.

Differences from the paper: patches of 42 pixels, 81 an image, stand for the 64 features
until the codec is named; a feature enters by one linear map instead of two with a GELU;
what is drawn and fed back is set to the length of a feature of unit variance, which the
cosine does not train; scenes instead of instruction data, from nothing (--init-from
takes a language model), rates approximate. Context images carry no loss.
"""

from ml_collections import ConfigDict

from configs import base, emu2, transfusion

PUBLISHED = {"8B": 8_030_261_248}  # the language model, most of it


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 8B."""
  if preset not in PRESETS:
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
  c = PRESETS[preset](base.get_config())
  c.model.update(write="regression", image_mask="causal", head_depth=2, qk_norm=False)
  c.data.update(noise_limit=0.0, caption_dropout=0.1)
  c.train.update(regression="cosine", image_loss_weight=1.0)
  c.sample.clip_x0 = 0.0  # features have no bound
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """LLaMA-3-8B."""
  c.model.update(depth=32, width=4096, heads=32, kv_heads=8, head_dim=128)
  c.model.update(mlp_width=14336, rope_theta=5e5, dtype="bfloat16", remat="full")
  c.model.head_width = 4096
  c.data.update(image_size=378, patch_size=42, seq_len=2048, images_per_row=12)
  c.data.sources = transfusion.pairs(1.0, 0.1, dict(image_size=378))
  c.data.vocab = 128_256
  c.optim.update(learning_rate=6.93e-5, warmup_steps=500, weight_decay=0.0)
  c.train.update(batch_size=1536, steps=15_000)
  return c


PRESETS = {"tiny": emu2.tiny, "8B": paper}
