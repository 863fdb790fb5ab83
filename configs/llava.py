"""LLaVA-1.5 (Liu et al. 2024): CLIP's features through an MLP, then text. Never draws.

  --config=configs/llava.py:tiny         trains on a laptop, the encoder with the rest
  --config=configs/llava.py:tiny-frozen  the same on a run RUN of configs/clip.py:tiny
  --config=configs/llava.py:tiny-on=RUN  or on the encoder of any alignment run RUN:
      --init-from='RUN:(?!vision\\.(?!pool\\.)).*=>' --init-allow=missing
  --config=configs/llava.py:7B           the paper's size
Axes: no image written; features read, bare; MLP connector; causal features; shared
parameters; 1-D RoPE; two stages: captions train the connector, then questions, too, all
but the encoder. Differences from the paper, at its size: pictures are square scenes of
this repository; one batch size. `tiny` joins those of transfusion.py and clip.py.
"""

from ml_collections import ConfigDict

from configs import base, clip, transfusion
from unijax.checkpoint import rundir

PUBLISHED = {"7B": 7_063_427_072}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, tiny-frozen, tiny-on=RUN or 7B."""
  run = preset.partition("tiny-on=")[2]
  if not run and preset not in ("tiny", "tiny-frozen", "7B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, tiny-frozen, 7B")
  c = base.get_config()
  c.vision = clip.get_config("L-14-336" if preset == "7B" else "tiny").vision
  rest = () if preset == "tiny" else ("vision/*",)
  if preset == "7B":
    first, steps, scenes = paper(c), (2180, 5200), dict(image_size=336)
  else:
    c = transfusion.tiny(c)
    c.data.sources = ConfigDict()
    first, steps, scenes = {"freeze": rest}, (500, 2500), dict(max_objects=2, grid=2)
  if run:
    theirs = rundir.config_dict(run)
    c.vision, c.data.image_size = theirs.vision, theirs.data.image_size
    c.data.seq_len = 128 + (c.data.image_size // c.vision.patch_size) ** 2
  c.model.update(read="features", connector="mlp", write="none", image_mask="causal")
  c.data.update(noise_limit=0.0, images_per_row=4, image_frame="bare")
  for name, task in (("captions", "describe"), ("questions", "ask")):
    options = {**scenes, "tasks": {task: 1.0}, "num_documents": 10_000_000}
    c.data.sources[name] = {"kind": "scenes", "weight": 1.0, "options": options}
  c.train.update(stages=("captions", "all"), steps=0)
  c.stages.captions = {"steps": steps[0], "optim": first}
  c.stages.captions["data"] = {"sources": {"questions": {"weight": 0.0}}}
  c.stages.all = {"steps": steps[1], "optim": {"freeze": rest}}
  return c


def paper(c: ConfigDict) -> dict:
  """Vicuna and CLIP; section 3 and appendix A. Returns what the first stage changes."""
  c.model.update(depth=32, width=4096, heads=32, kv_heads=32, head_dim=128)
  c.model.update(mlp_width=11008, qk_norm=False, dtype="bfloat16", remat="full")
  c.vision.update(skip_blocks=1, features_norm=False)
  c.data.update(image_size=336, seq_len=2048, vocab=32_064)
  c.optim.update(learning_rate=2e-5, warmup_steps=150, weight_decay=0.0)
  c.train.batch_size = 128
  return {"freeze": ("*", "!connector/*"), "learning_rate": 1e-3}
