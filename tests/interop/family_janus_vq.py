"""JanusVQVAE of transformers, its missing normalisation put back, against our codec.

The official code compares vectors and entries of length 1, both where it encodes and
where it decodes. `JanusVQVAE.encode` compares them as they are, so the look-up is
written out here; encoder, convolutions and decoder are the library's.
"""

import re

import numpy as np

from tests.interop import codes
from tests.interop.cases import Case, Wrong, loaded

ours = codes.ours


def build(published):
  from transformers.models.janus.modeling_janus import JanusVQVAE, JanusVQVAEConfig

  return JanusVQVAE(JanusVQVAEConfig(**published))


def load(folder):
  from transformers.models.janus.modeling_janus import JanusVQVAE

  return loaded(JanusVQVAE, folder)


def other_names(published, forms):
  """The original layout, and the tokenizer in a whole model of either."""
  words = (
    (r"\.(down|up)\.", ".conv_blocks."), (r"\.block\.", ".res."),
    (r"mid\.block_1", "mid.0"), (r"mid\.attn_1", "mid.1"), (r"mid\.block_2", "mid.2"),
  )  # fmt: skip
  original = {}
  for name, (_, shape) in forms.items():
    new = name
    for word, other in words:
      new = re.sub(word, other, new)
    original[name] = f"gen_vision_model.{new}", shape
  whole = {n: (f"model.vqmodel.{n}", shape) for n, (_, shape) in forms.items()}
  return {"original": original, "in a whole model": whole}


def peer(model, inputs):
  import torch
  from torch.nn.functional import normalize

  pixels = torch.from_numpy(inputs["pixels"]).permute(0, 3, 1, 2)
  vectors = model.quant_conv(model.encoder(pixels)).permute(0, 2, 3, 1)
  z, book = normalize(vectors, dim=-1), normalize(model.quantize.embedding.weight)
  found = torch.cdist(
    z.flatten(0, 2), book, compute_mode="donot_use_mm_for_euclid_dist"
  )
  wanted = book[torch.from_numpy(inputs["codes"]).long()].permute(0, 3, 1, 2)
  drawn = model.decoder(model.post_quant_conv(wanted))
  return {
    "vectors": vectors.numpy(),
    "codes": found.argmin(-1).reshape(z.shape[:3]).numpy().astype(np.int32),
    "ties": codes.ties(z.numpy(), book.numpy()),
    "pixels": drawn.permute(0, 2, 3, 1).numpy(),
  }


SMALL = {
  "base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1,
  "embed_dim": 8, "num_embeddings": 48, "latent_channels": 12, "num_patches": 16,
}  # fmt: skip
INPUTS = codes.inputs(19, 13, (5, 8), 48)
LENGTH = {"unijax.codecs.vector_quantizer.normalised": lambda x: x}
CASES = (
  Case("janus-vq-loud", "janus_vq", SMALL, "loud", INPUTS,
       {"lengths": Wrong(patch=LENGTH)}),
  Case("janus-vq-quiet", "janus_vq", SMALL, "quiet", INPUTS,
       {"epsilon": Wrong(patch={codes.EPSILON: 1e-5})}),
)  # fmt: skip
