"""ChameleonVQVAE of transformers, which has no decoder, and VQModel of diffusers, whose
decoder is an equal one with other names, against our codec."""

import pathlib

import numpy as np

from tests.interop import codes
from tests.interop.cases import Case, Wrong
from tests.interop.family_autoencoders import original

ours = codes.ours


class Whole:
  """Encoder and codebook of the one library, decoder of the other."""

  def __init__(self, encoder):
    import torch
    from diffusers import VQModel
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    c = encoder.config
    widths = [c.base_channels * m for m in c.channel_multiplier]
    levels = len(widths)
    down = ("DownEncoderBlock2D",) * levels
    up = ("UpDecoderBlock2D",) * levels
    shape = {
      "block_out_channels": widths, "layers_per_block": c.num_res_blocks,
      "down_block_types": down, "up_block_types": up,
    }  # fmt: skip
    self.encoder = encoder
    self.decoder = VQModel(
      **shape, latent_channels=c.latent_channels, vq_embed_dim=c.embed_dim,
      num_vq_embeddings=c.num_embeddings,
    )  # fmt: skip
    names = original(shape)
    marked = {n: torch.full((1, 1, 1, 1), i) for i, n in enumerate(names)}
    converted = convert_ldm_vae_checkpoint(marked, shape)
    self.names = {  # of the decoder: the library's -> that of the file
      n: names[int(converted[n].flatten()[0])]
      for n in self.decoder.state_dict()
      if n.startswith(("decoder.", "post_quant_conv."))
    }

  def save_pretrained(self, folder):
    from safetensors.torch import save_file

    state = self.decoder.state_dict()
    arrays = dict(self.encoder.state_dict())
    for name, other in self.names.items():
      x = state[name]
      matrix = x.ndim == 2  # attention, which the file has as 1x1 convolutions
      arrays[other] = (x[:, :, None, None] if matrix else x).contiguous()
    save_file(arrays, pathlib.Path(folder) / "model.safetensors", {"format": "pt"})
    self.encoder.config.save_pretrained(folder)


def build(published):
  from transformers.models.chameleon.modeling_chameleon import (
    ChameleonVQVAE,
    ChameleonVQVAEConfig,
  )

  return Whole(ChameleonVQVAE(ChameleonVQVAEConfig(**published)))


def load(folder):
  from safetensors.torch import load_file
  from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE

  encoder, told = ChameleonVQVAE.from_pretrained(folder, output_loading_info=True)
  beyond = told.pop("unexpected_keys")
  assert not any(told.values()), told
  assert all(name.startswith("decoder.") for name in beyond), beyond
  model = Whole(encoder.eval())
  arrays = load_file(pathlib.Path(folder) / "model.safetensors")
  state = model.decoder.state_dict()
  for name, other in model.names.items():
    state[name] = arrays[other].reshape(state[name].shape)
  model.decoder.load_state_dict(state)
  model.decoder.eval()
  return model


def other_names(published, forms):
  """Names of the tokenizer inside of a whole model."""
  return {
    "in a whole model": {
      n: (f"model.vqmodel.{n}", shape) for n, (_, shape) in forms.items()
    }
  }


def peer(model, inputs):
  import torch

  pixels = torch.from_numpy(inputs["pixels"]).permute(0, 3, 1, 2)
  out = model.encoder.encode(pixels)
  vectors = model.encoder.quant_conv(out.last_hidden_state).permute(0, 2, 3, 1)
  book = model.encoder.quantize.embedding.weight
  wanted = book[torch.from_numpy(inputs["codes"]).long()].permute(0, 3, 1, 2)
  drawn = model.decoder.decode(wanted, force_not_quantize=True).sample
  return {
    "vectors": vectors.numpy(),
    "codes": out.image_tokens.reshape(vectors.shape[:3]).numpy().astype(np.int32),
    "ties": codes.ties(vectors.numpy(), book.numpy()),
    "pixels": drawn.permute(0, 2, 3, 1).numpy(),
  }


SMALL = {
  "base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1,
  "embed_dim": 12, "num_embeddings": 48, "latent_channels": 16, "resolution": 32,
}  # fmt: skip
INPUTS = codes.inputs(19, 13, (5, 8), 48)
PRODUCTS = lambda z, e: (z @ e.T).argmax(-1).astype("int32")  # noqa: E731
CASES = (
  Case("chameleon-vq-loud", "chameleon_vq", SMALL, "loud", INPUTS,
       {"products": Wrong(patch={"unijax.codecs.vector_quantizer.nearest": PRODUCTS})}),
  Case("chameleon-vq-quiet", "chameleon_vq", SMALL, "quiet", INPUTS,
       {"epsilon": Wrong(patch={codes.EPSILON: 1e-5})}),
)  # fmt: skip
