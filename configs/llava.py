"""LLaVA-1.5 (Liu et al. 2024): CLIP's features through an MLP, then text. Never draws.

  --config=configs/llava.py:tiny         trains on a laptop, the encoder with the rest
  --config=configs/llava.py:tiny-frozen  the same on a run of configs/clip.py:tiny:
      --init-from='RUN:(?!vision\\.).*=>' --init-allow=missing
  --config=configs/llava.py:tiny-on=RUN  the same on the encoder of any alignment run,
      such as one of `unijax import clip`; of one that pools by attention there is more
      to leave out: --init-from='RUN:(?!vision\\.(?!pool\\.)).*=>'
  --config=configs/llava.py:7B           the paper's size

Axes: features read; MLP connector; causal features; shared parameters; 1-D RoPE; two
stages: captions train the connector, then questions, too, all but the encoder.

Differences from the paper, at its size: pictures are square scenes of this repository;
one batch size for both stages.
Some way to write images there must be: "regression", whose parameters rest.
`tiny` is the small model of configs/transfusion.py with the encoder of configs/clip.py;
it begins from nothing, so that its first stage trains what the second does.
"""

from ml_collections import ConfigDict

from configs import base, clip, transfusion
from unijax.checkpoint import rundir

ON = "tiny-on="
PUBLISHED = {"7B": 7_063_427_072}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, tiny-frozen, tiny-on=RUN or 7B."""
  run = preset.removeprefix(ON) if preset.startswith(ON) else ""
  if not run and preset not in ("tiny", "tiny-frozen", "7B"):
    raise ValueError(
      f"unknown preset {preset!r} (or {ON}RUN); known: tiny, tiny-frozen, 7B"
    )
  c = base.get_config()
  c.vision = clip.get_config("tiny" if "tiny" in preset else "L-14-336").vision
  if run:
    c.vision = rundir.config_dict(run).vision
  rest = ("patch_codec/*", "image_head/*", *(() if preset == "tiny" else ("vision/*",)))
  if preset == "7B":
    first, steps, scenes = paper(c), (2180, 5200), dict(image_size=336)
  else:
    c = transfusion.tiny(c)
    c.data.sources = ConfigDict()
    if run:
      fit(c, rundir.config_dict(run).data.image_size)
    first, steps, scenes = {"freeze": rest}, (500, 2500), dict(max_objects=2, grid=2)
  c.model.update(read="features", connector="mlp", write="regression", head_depth=1)
  c.model.update(image_mask="causal", patch_position="none", head_width=64)
  c.data.update(noise_limit=0.0, caption_dropout=0.0, images_per_row=4)
  scenes["num_documents"] = 10_000_000  # drawn as they are read: never twice the same
  for name, task in (("captions", "describe"), ("questions", "ask")):
    options = {**scenes, "tasks": {task: 1.0}}
    c.data.sources[name] = {"kind": "scenes", "weight": 1.0, "options": options}
  c.train.update(stages=("captions", "all"), steps=0)
  only = {"sources": {"questions": {"weight": 0.0}}}
  c.stages.captions = {"steps": steps[0], "optim": first, "data": only}
  c.stages.all = {"steps": steps[1], "optim": {"freeze": rest}}
  return c


def fit(c: ConfigDict, size: int) -> None:
  """Makes rows long enough for pictures of this size, which nobody draws."""
  c.data.update(image_size=size, patch_size=size // 2 if size % 2 == 0 else size)
  features = (size // c.vision.patch_size) ** 2
  c.data.seq_len = -(-(features + 128) // 64) * 64


def paper(c: ConfigDict) -> dict:
  """Vicuna and CLIP; section 3 and appendix A. Returns what the first stage changes."""
  c.model.update(depth=32, width=4096, heads=32, kv_heads=32, head_dim=128)
  c.model.update(mlp_width=11008, qk_norm=False, dtype="bfloat16", remat="full")
  c.vision.update(skip_blocks=1, features_norm=False)
  c.data.update(image_size=336, patch_size=16, seq_len=2048, vocab=32_064)
  c.optim.update(learning_rate=2e-5, warmup_steps=150, weight_decay=0.0)
  c.train.batch_size = 128
  return {"freeze": ("*", "!connector/*"), "learning_rate": 1e-3}
