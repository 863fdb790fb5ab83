"""Qwen-VL (Bai et al. 2023): a resampler makes 256 positions of a picture. Never draws.

  --config=configs/qwen_vl.py:tiny     trains on a laptop, embedded data
  --config=configs/qwen_vl.py:9.6B     the paper's size

Axes: no image written; features read; resampler of one layer; causal features; shared
parameters; 1-D RoPE; three stages: words rest, nothing rests, the encoder rests.

Differences from the paper, at its size: queries also attend to themselves and have a
feed-forward layer, both of the encoder's width; features enter the resampler without
2-D positions; 448 pixels in all stages (the paper: 224 in the first). What is said of
data in configs/llava.py holds here.

`tiny` is configs/llava.py:tiny with four positions a picture; it begins from nothing,
so that no words rest.
"""

from ml_collections import ConfigDict

from configs import llava

PUBLISHED = {"9.6B": 9.6e9}  # table 1, rounded

WORDS = ("transformer/*", "embedding/*", "text_head/*")


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 9.6B."""
  if preset not in ("tiny", "9.6B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 9.6B")
  c = llava.get_config("tiny" if preset == "tiny" else "7B")
  c.model.update(connector="resampler", connector_queries=4)
  return c if preset == "tiny" else paper(c)


def paper(c: ConfigDict) -> ConfigDict:
  """Qwen-7B and ViT-bigG/14; section 3 and appendix B of the paper."""
  c.model.update(connector_queries=256, norm_eps=1e-6, bias="qkv")
  c.vision.update(depth=48, width=1664, heads=16, mlp_width=8192, mlp="gelu")
  c.data.update(image_size=448, vocab=151_936)
  for source in c.data.sources.values():
    source.options.image_size = 448
  c.optim.update(b2=0.98, eps=1e-6, weight_decay=0.05)
  c.train.stages = ("pretraining", "tasks", "conversation")
  rates = dict(zip(c.train.stages, (2e-4, 5e-5, 1e-5), strict=True))
  steps = dict(zip(c.train.stages, (50_000, 19_000, 8_000), strict=True))
  rest = dict(zip(c.train.stages, (WORDS, (), ("vision/*",)), strict=True))
  c.stages = ConfigDict()
  for name in c.train.stages:
    optim = {"learning_rate": rates[name], "freeze": rest[name]}
    c.stages[name] = {"steps": steps[name], "optim": optim}
  return c
