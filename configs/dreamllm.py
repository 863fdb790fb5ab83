"""DreamLLM (Dong et al. 2024): learned queries after BOI tell a decoder what to draw.

  --config=configs/dreamllm.py:tiny          trains on a laptop, decoder and all
  --config=configs/dreamllm.py:tiny-frozen   decoder of RUN, of configs/ldm.py:tiny:
      --init-from='RUN:dit\\.(.*)=>bridge.decoder.\\1,text\\..*=>' --init-allow=missing
  --config=configs/dreamllm.py:tiny-on=RUN   decoder of RUN, a released one that was
      imported, which rests (--config.optim.freeze="()" tunes it):
      --init-from='RUN:dit\\.(.*)=>bridge.decoder.\\1' --init-allow=missing
  --config=configs/dreamllm.py:7B            the paper's size

Axes: a bridge: 64 queries that see what is before them, one linear map from their
hidden states, a diffusion transformer that attends to them; images are read as clean
patches; causal; next-token loss 1, denoising loss 10; guided against what the queries
say without text.

Differences from the paper: a DiT of PixArt-alpha's size on patches of pixels stands for
the frozen U-Net of Stable Diffusion 2.1; patches for CLIP's features; the two stages of
7B (maps alone, then all but the decoder) begin from --init-from; BOI stands for the
dream token; scenes and a small corpus for interleaved pages; the third stage is another
run.
"""

from ml_collections import ConfigDict

from configs import base, ldm, transfusion
from unijax.checkpoint import rundir

PUBLISHED, COUNTED = {"7B": 6_738_415_616}, {"7B": ("*", "!bridge/*")}  # Vicuna

LANGUAGE = ("transformer/*", "embedding/*", "text_head/*")  # what stage 1 rests


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, tiny-frozen, tiny-on=RUN or 7B."""
  run = preset.partition("tiny-on=")[2]
  if not run and preset not in ("tiny", "tiny-frozen", "7B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, tiny-frozen, 7B")
  c = paper(base.get_config()) if preset == "7B" else tiny(base.get_config())
  c = drawn_by(c, run) if run else c
  c.bridge.update(connector="linear", signal_weight=0.0)
  c.train.image_loss_weight = 10.0
  c.optim.freeze = () if preset == "tiny" else ("bridge/decoder/*",)
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Vicuna-7B, 64 queries, and the decoder of configs/ldm.py."""
  c = transfusion.paper(c, "7B", "linear")
  picture = ldm.get_config("0.6B")
  c.dit, c.diffusion = picture.dit, picture.diffusion
  c.model.update(write="bridge", image_mask="causal")
  c.bridge.slots, c.data.vocab = 64, 32_000
  maps = dict(optim=dict(freeze=(*LANGUAGE, "bridge/decoder/*"), learning_rate=2e-3))
  c.stages.maps = dict(steps=15_000, **maps)
  c.stages.all = dict(steps=15_000, optim=dict(learning_rate=2e-5))
  c.train.update(stages=("maps", "all"), steps=0, batch_size=128)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """Two million parameters, 16 queries, the decoder of configs/ldm.py:tiny."""
  c = transfusion.tiny(c)
  c.dit.update(adaln="shared", pooled=False)
  c.model.update(write="bridge", image_mask="causal", patch_position="none")
  c.data.update(patch_size=8, seq_len=256, images_per_row=8)
  return c


def drawn_by(c: ConfigDict, run: str) -> ConfigDict:
  """The transformer of a run, with its latents, its noise and its times."""
  theirs = rundir.config_dict(run)
  c.dit, c.diffusion = theirs.dit, theirs.diffusion
  c.data.update({n: theirs.data[n] for n in ("codec", "image_size", "patch_size")})
  patches = rundir.read_config(run).patches
  c.data.seq_len = 256 + 2 * patches
  names = (
    "sampler", "steps", "schedule_shift", "schedule_patches", "schedule_last",
    "clip_x0", "guidance", "guidance_told",
  )  # fmt: skip
  c.sample.update({name: theirs.sample[name] for name in names})
  return c
