"""Emu3VQVAE of transformers against our codec: pictures, and clips of frames."""

import numpy as np

from tests.interop import codes, numbers
from tests.interop.cases import Case, Wrong, loaded


def build(published):
  from transformers import Emu3VQVAE
  from transformers.models.emu3.configuration_emu3 import Emu3VQVAEConfig

  return Emu3VQVAE(Emu3VQVAEConfig(**published))


def load(folder):
  from transformers import Emu3VQVAE

  return loaded(Emu3VQVAE, folder, attn_implementation="eager")


def original(name: str) -> str:
  """A name of the library as the original layout has it."""
  for half, side in (("encoder", "down"), ("decoder", "up")):
    name = name.replace(f"{half}.{side}_block.{side}.", f"{half}.{side}.")
    name = name.replace(f"{half}.middle_block.attn_norm.", f"{half}.mid.attn_1.norm.")
    name = name.replace(f"{half}.middle_block.", f"{half}.mid.")
  head, found, rest = name.partition(".attn_norms.")
  if found:
    number, _, rest = rest.partition(".")
    name = f"{head}.attn.{number}.norm.{rest}"
  for new, old in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"),
                   ("out_proj", "proj_out")):  # fmt: skip
    name = name.replace(f".{new}.", f".{old}.")
  return name


def other_names(published, forms):
  """The original names, and those inside of a whole model."""
  first = {
    n: (original(n), (*shape, 1, 1) if "_proj.weight" in n else shape)
    for n, (_, shape) in forms.items()
  }
  return {
    "original": first,
    "in a whole model": {n: (f"vqmodel.{n}", s) for n, (_, s) in forms.items()},
  }


def peer(model, inputs):
  import torch

  def channels_first(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))

  book, kept = model.quantize.embedding.weight, []
  handle = model.quant_conv.register_forward_hook(lambda *x: kept.append(x[2]))
  if "frames" in inputs:
    clip, sizes = channels_first(inputs["frames"]), torch.tensor([[99, 99]])
    found = torch.stack(model.encode(clip, sizes).image_tokens)
  else:
    pixels = channels_first(inputs["pixels"])
    sizes = torch.tensor([[99, 99]] * len(pixels))
    found = torch.stack(model.encode(pixels, sizes).image_tokens)
  handle.remove()
  drawn = model.decode(torch.from_numpy(inputs["codes"]).long())
  vectors = kept[0].permute(0, 2, 3, 4, 1).reshape(*found.shape, -1)
  return {
    "vectors": vectors.numpy(), "codes": found.numpy().astype(np.int32),
    "ties": codes.ties(vectors.numpy(), book.numpy()),
    "pixels": np.moveaxis(drawn.numpy(), -3, -1),
  }  # fmt: skip


def ours(config, params, inputs):
  """Clips go the way that pictures go."""
  clip = {"pixels": inputs["frames"]} if "frames" in inputs else {}
  return codes.ours(config, params, {**inputs, **clip})


def frames():
  """A clip of two latents, and codes of another."""
  return {
    "frames": numbers.picture("frames", 1, 8, 7, 6, 3),
    "codes": numbers.whole("codes", 48, 1, 2, 3, 2),
  }


SMALL = {
  "base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1,
  "embed_dim": 4, "codebook_size": 48, "latent_channels": 4, "hidden_size": 64,
  "attn_resolutions": [1], "temporal_downsample_factor": 4,
}  # fmt: skip
INPUTS = codes.inputs(15, 9, (3, 5), 48)
PRODUCTS = lambda z, e: (z @ e.T).argmax(-1).astype("int32")  # noqa: E731
STATISTICS = Wrong(patch={"unijax.codecs.frames.EPSILON": 1e-2})
CASES = (
  Case("emu3-vq-loud", "emu3_vq", SMALL, "loud", INPUTS,
       {"products": Wrong(patch={"unijax.codecs.vector_quantizer.nearest": PRODUCTS}),
        "statistics": STATISTICS}),
  Case("emu3-vq-quiet", "emu3_vq", SMALL, "quiet", INPUTS, slow=True),
  Case("emu3-vq-clip", "emu3_vq", SMALL, "loud", frames, {"statistics": STATISTICS},
       slow=True),
)  # fmt: skip
