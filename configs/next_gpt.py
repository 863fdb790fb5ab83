"""NExT-GPT (Wu et al. 2024): a frozen model writes signal tokens that a decoder reads.

  --config=configs/next_gpt.py:tiny          trains on a laptop, language and all
  --config=configs/next_gpt.py:tiny-frozen   language of a run of :tiny, bridge trained:
      --init-from='RUN:bridge\\..*=>' --init-allow=missing
  --config=configs/next_gpt.py:7B            the paper's size, images only

Axes: a bridge of 4 signal tokens that the model is trained to write, an encoder in
which they see each other, a diffusion transformer that attends to them; images are read
as clean patches; causal. Stages of 7B: what enters, what leaves, then the language too.

Parameters: Vicuna-7B (6.74 billion), signals and maps; the decoder is apart.

Differences from the paper: images alone of its modalities; no loss that pulls the
output projection to the decoder's own embedding of the caption (no pretrained text
encoder stands there, and one trained along would move); an encoder over the 4 signals
stands for an encoder-decoder with 77 queries, and reads hidden states without adding
the signals' embeddings; no min-SNR weights; the whole text head is trained with the
signals, since their rows cannot be alone; the last stage trains the language whole
instead of by LoRA; patches for ImageBind, a DiT of PixArt-alpha's size, frozen, for
Stable Diffusion.
"""

from ml_collections import ConfigDict

from configs import base, dreamllm

PUBLISHED, COUNTED = {"7B": 6_738_415_616}, {"7B": ("*", "!bridge/*")}  # the LLM

OUT = ("*", "!bridge/connector/*", "!bridge/queries", "!text_head/*")


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, tiny-frozen or 7B."""
  if preset not in ("tiny", "tiny-frozen", "7B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, tiny-frozen, 7B")
  c = base.get_config()
  c = paper(c) if preset == "7B" else dreamllm.tiny(c)
  c.bridge.update(slots=4, connector="encoder", signal_weight=1.0)
  if preset == "tiny-frozen":  # no decoder is at hand: it is trained with what leaves
    c.optim.freeze = (*OUT, "!bridge/decoder/*")
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Vicuna-7B and the three stages."""
  c = dreamllm.paper(c)
  c.bridge.connector_depth = 4
  c.optim.freeze = ("bridge/decoder/*",)
  c.stages = ConfigDict()
  c.stages.enters = dict(steps=10_000, optim=dict(freeze=("*", "!patch_codec/*")))
  c.stages.leaves = dict(steps=10_000, optim=dict(freeze=OUT))
  c.stages.all = dict(steps=10_000, optim=dict(learning_rate=2e-5))
  c.train.update(stages=("enters", "leaves", "all"), steps=0, image_loss_weight=1.0)
  return c
