"""JanusFlow against ours: words about pictures, velocities, and pictures from words.

No library has it: the reference is tests/interop/janusflow_reference.py, with the
autoencoder of diffusers. Our rows are those of our own interleaver, pictures drawn by
our own sampling from the noise that it draws.
"""

import dataclasses

import numpy as np

from tests.interop import (
  family_decoders,
  family_janus,
  family_llava,
  from_noise,
  janusflow_reference,
  janusflow_shapes,
  numbers,
)
from tests.interop.cases import Case, Wrong, read_release
from tests.interop.janusflow_reference import BOI

READ = ("a red", 0, " dog?", 1, "!")  # numbers: pictures that are read
ASKED = (("Who ", 0, "is it?"), ("Is it", 1, " red?"))
WORDS = ("a red dog", "blue")
TIME, STEPS, GUIDANCE = 0.3, 6, 2.0
MODEL, DATA = {}, {}  # knobs, of a mistake
LATENTS = 4
TOWER, WIDTH, FLOW, SIDE = 128, 32, 16, 4  # SIDE: patches of a picture, either way


def build(published):
  import torch
  from diffusers import AutoencoderKL

  fields = {n: x for n, x in published["vae"].items() if n[0] != "_"}
  codec = AutoencoderKL(**fields).state_dict()
  made = janusflow_shapes.shapes(published, TOWER, WIDTH, FLOW, SIDE)
  made |= {f"vae/{n}": tuple(x.shape) for n, x in codec.items()}
  return janusflow_reference.Model(
    {n: torch.zeros(s) for n, s in made.items()}, published
  )


def load(folder):
  file = "diffusion_pytorch_model.safetensors"
  return janusflow_reference.Model(*read_release(folder, "vae", file))


def spoken(row, pixels):
  return [pixels[x] if isinstance(x, int) else x.encode() for x in row]


def latents(x):
  """Patches [P, (p q c)] -> [1, C, h, w]."""
  cut = x.reshape(SIDE, SIDE, 2, 2, LATENTS).transpose(4, 0, 2, 1, 3)
  return cut.reshape(1, LATENTS, 2 * SIDE, 2 * SIDE)


def patches(z):
  """The inverse of `latents`."""
  cut = np.asarray(z)[0].reshape(LATENTS, SIDE, 2, SIDE, 2).transpose(1, 3, 2, 4, 0)
  return cut.reshape(SIDE**2, -1)


def peer(model, inputs):
  import torch

  if "asked" in inputs:
    count = family_decoders.WRITTEN
    rows = [spoken(row, inputs["pixels"]) for row in ASKED]
    return {"tokens": np.array([model.write(row, count) for row in rows])}
  z = [torch.from_numpy(latents(x)) for x in inputs["noise"]]
  if "drawn" in inputs:
    drawn = [
      model.draw(w.encode(), x, STEPS, GUIDANCE) for w, x in zip(WORDS, z, strict=True)
    ]
    pixels = np.stack([model.show(x) for x in drawn])
    return {"latents": np.stack([patches(x) for x in drawn]), "pixels": pixels}
  logits = model.logits(model.reading(spoken(READ, inputs["pixels"])))
  velocity = model.velocity(WORDS[0].encode(), z[0], TIME, False)
  return {"logits": logits.numpy(), "velocity": patches(velocity)}


def ours(config, params, inputs):
  config = family_janus.named(config)
  model = dataclasses.replace(config.model, **MODEL)
  data = dataclasses.replace(config.data, **DATA)
  config = dataclasses.replace(config, model=model, data=data)
  builder = family_decoders.everything(config)
  if "asked" in inputs:
    laid = family_llava.layouts(builder, ASKED, inputs["pixels"])
    return {"tokens": family_decoders.written_after(config, params, laid)}
  if "drawn" in inputs:
    return drawn(config, params, builder, inputs)
  return rows(config, params, builder, inputs)


def rows(config, params, builder, inputs):
  from unijax.data.rows import stack

  read = family_llava.layouts(builder, (READ,), inputs["pixels"])[0]
  draws = family_llava.layouts(builder, WORDS[:1], ())[0]
  draws.add_tokens([BOI], 0.0)
  builder.add_span(draws, inputs["noise"][0], 1.0)
  batch = stack([builder.row([x]) for x in (read, draws)])
  time = np.where(batch.noise_limit_BT > 0, 1.0 - TIME, 0.0).astype(np.float32)
  heads = family_decoders.both_heads(config, params, batch, batch.patches_BTC, time)
  logits, velocity = heads
  there = batch.patch_BT[1] >= 0
  return {"logits": logits[0, : len(read)], "velocity": -velocity[1, there]}


def drawn(config, params, builder, inputs):
  """What sampling draws from given noise."""
  from unijax.data.document import Text
  from unijax.infer.generate import Prompt

  config = from_noise.sampled(config, steps=STEPS)
  asked = [Prompt([Text(x)], "image", stop_after_image=True) for x in WORDS]
  return from_noise.drawn(config, params, builder, asked, inputs["noise"])


def inputs(kind: str):
  def make():
    pixels = numbers.picture("pixels", 2, 4 * SIDE, 4 * SIDE, 3)
    return {
      "pixels": (127.5 + 127.5 * pixels).astype(np.uint8), kind: np.ones(1),
      "noise": numbers.normal("noise", len(WORDS), SIDE**2, 4 * LATENTS),
    }  # fmt: skip

  return make


VAE = {
  "_class_name": "AutoencoderKL", "block_out_channels": [32, 64], "latent_channels": 4,
  "layers_per_block": 1, "norm_num_groups": 32, "act_fn": "silu",
  "scaling_factor": 0.13025, "sample_size": 16, "in_channels": 3, "out_channels": 3,
  "down_block_types": ["DownEncoderBlock2D"] * 2,
  "up_block_types": ["UpDecoderBlock2D"] * 2,
}  # fmt: skip
TEXT = {
  "model_type": "llama", "hidden_size": WIDTH, "num_attention_heads": 4,
  "num_key_value_heads": 4, "intermediate_size": 48, "num_hidden_layers": 2,
  "vocab_size": 263, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "hidden_act": "silu",
  "bos_token_id": 256, "eos_token_id": 261, "max_position_embeddings": 128,
  "tie_word_embeddings": False,
}  # fmt: skip
SMALL = {"model_type": "multi_modality", "language_config": TEXT, "vae": VAE}


def model(**knobs):
  return Wrong(patch={"tests.interop.family_janusflow.MODEL": knobs})


DROPPED = {"without_text": "dropped"}
CASES = (
  Case("janusflow-loud", "janusflow", SMALL, "loud", inputs("rows"),
       {"time": model(time_of="noise"), "begin": model(time_injection="token"),
        "waves": model(time_scale=999.0)}),
  Case("janusflow-quiet", "janusflow", SMALL, "quiet", inputs("rows"),
       {"epsilon": Wrong(published={"language_config": {**TEXT, "rms_norm_eps": 1e-5}})},
       slow=True),
  Case("janusflow-text", "janusflow", SMALL, "loud", inputs("asked"), slow=True),
  Case("janusflow-draw", "janusflow", SMALL, "loud", inputs("drawn"),
       {"places": Wrong(patch={"tests.interop.family_janusflow.DATA": DROPPED})},
       bounds={"pixels": 1e-3}, slow=True),
)  # fmt: skip
