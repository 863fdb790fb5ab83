"""MetaQuery (Pan et al. 2025): learned queries ask a frozen model what to draw.

  --config=configs/metaquery.py:tiny          trains on a laptop, language and all
  --config=configs/metaquery.py:tiny-frozen   with the frozen model of a run of :tiny:
      --init-from='RUN:bridge\\..*=>' --init-allow=missing
  --config=configs/metaquery.py:0.5B          published sizes: 0.5B, 7B

Axes: as configs/dreamllm.py, but the model that reads is frozen, and only queries, an
encoder in which they see each other, and the decoder are trained, by the loss of
diffusion alone.

Parameters: Qwen2-0.5B (0.494 billion) or Qwen2.5-7B (7.62 billion), an encoder of 24
blocks of its width, and a DiT of 1.66 billion.

Differences from the paper: a DiT with softmax attention on patches of pixels stands for
Sana's; one linear map behind the encoder instead of two and a scaled norm; 64 queries,
as the paper's default; it reads patches instead of the features of its encoder; the
stage of instructions is another run.
"""

from ml_collections import ConfigDict

from configs import base, dreamllm

PUBLISHED = {"0.5B": 494_032_768, "7B": 7_615_616_512}  # the language model
COUNTED = dict.fromkeys(PUBLISHED, ("*", "!bridge/*"))

SIZES = {  # width, heads, kv heads, depth, hidden, vocabulary, tied
  "0.5B": (896, 14, 2, 24, 4864, 151_936, True),
  "7B": (3584, 28, 4, 28, 18_944, 152_064, False),
}
FROZEN = ("*", "!bridge/*")


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, tiny-frozen, 0.5B or 7B."""
  if preset not in ("tiny", "tiny-frozen", *SIZES):
    names = ", ".join(("tiny", "tiny-frozen", *SIZES))
    raise ValueError(f"unknown preset {preset!r}; known: {names}")
  c = base.get_config()
  c = paper(c, *SIZES[preset]) if preset in SIZES else dreamllm.tiny(c)
  c.bridge.update(connector="encoder", signal_weight=0.0)
  if preset != "tiny":
    c.optim.freeze, c.train.text_loss_weight = FROZEN, 0.0
  return c


def paper(c: ConfigDict, width, heads, kv, depth, hidden, vocab, tied) -> ConfigDict:
  """Qwen2's sizes, Sana's width and depth."""
  c = dreamllm.paper(c)
  c.model.update(depth=depth, width=width, heads=heads, kv_heads=kv, mlp_width=hidden)
  c.model.update(head_dim=width // heads, tie_embeddings=tied, rope_theta=1e6)
  c.model.update(bias="qkv", qk_norm=False)
  c.bridge.connector_depth = 24
  c.dit.update(depth=20, width=2240, heads=20, mlp_width=8960)
  c.diffusion = base.get_config().diffusion  # flow matching
  c.data.vocab, c.stages = vocab, ConfigDict()
  c.train.update(stages=(), steps=100_000, batch_size=4096, image_loss_weight=1.0)
  c.optim.update(learning_rate=1e-4, final_fraction=0.1)
  return c
