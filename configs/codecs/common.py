"""What the codec configs share: data, recipe, and the tiny sizes."""

from ml_collections import ConfigDict

from configs import base


def codec_config() -> ConfigDict:
  """The recipe at published sizes; sources are to be replaced by one's own pictures."""
  c = base.get_config()
  c.train.task = "codec"
  c.data.image_size = 256
  c.data.sources = ConfigDict(
    {"scenes": {"kind": "scenes", "weight": 1.0, "options": {"image_size": 256}}}
  )
  c.codec.update(
    width=128, multipliers=(1, 2, 4, 4), blocks=(2,), groups=32, attention=True,
    perceptual_weight=1.0, adversary_weight=0.5, adversary_start=50_000,
  )  # fmt: skip
  c.optim.update(
    learning_rate=1e-4, warmup_steps=1000, weight_decay=0.0, b1=0.5, b2=0.9
  )
  c.train.update(steps=250_000, batch_size=96, eval_every=5000, sample_every=5000)
  c.train.ema_decay = 0.999
  c.checkpoint.every_steps = 5000
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """32 pixels, a quarter of them a side: minutes on a laptop, scenes and emoji."""
  c.data.update(image_size=32, threads=1)
  scenes = dict(max_objects=3, num_documents=10_000_000)
  c.data.sources = ConfigDict(
    {
      "scenes": {"kind": "scenes", "weight": 0.5, "options": scenes},
      "emoji": {"kind": "emoji", "weight": 0.5, "options": {"shift": 2}},
    }
  )
  c.codec.update(
    width=16, multipliers=(1, 2, 4), blocks=(1,), groups=8, attention=True,
    perceptual_weight=0.1, adversary_weight=0.0, codebook=256,
  )  # fmt: skip
  c.optim.update(learning_rate=2e-3, warmup_steps=50, b1=0.9, b2=0.99)
  c.train.update(
    steps=2000, batch_size=32, eval_every=500, sample_every=500, log_every=20,
    ema_decay=0.99,
  )  # fmt: skip
  c.checkpoint.every_steps = 500
  c.eval.update(batch_size=48, kid_images=200)
  return c


def choose(preset: str, sizes: dict, c: ConfigDict) -> ConfigDict:
  """Returns the config of a preset, of those in `sizes`."""
  if preset not in sizes:
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(sizes)}")
  return sizes[preset](c)
