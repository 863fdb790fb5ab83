"""The tokenizer of Show-o against our codec: no library has it.

The reference is tests/interop/plain.py, and the look-up of Yu et al. 2024 (arXiv
2310.05737, section 3.1, eq. 2): a bit is 1 where its number is above zero, and the first
is the highest.
"""

from tests.interop import codes, plain
from tests.interop.cases import Case, Wrong

ours, load = codes.ours, plain.load


def shapes(published):
  """Name -> shape of every weight, from the published list of names."""
  found = {}

  def conv(name, into, out, size=3):
    found[f"{name}.weight"], found[f"{name}.bias"] = (out, into, size, size), (out,)

  def norm(name, width):
    found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

  def residual(name, into, out):
    norm(f"{name}.norm1", into)
    conv(f"{name}.conv1", into, out)
    norm(f"{name}.norm2", out)
    conv(f"{name}.conv2", out, out)
    if into != out:
      conv(f"{name}.nin_shortcut", into, out, 1)

  def middle(name, width):
    residual(f"{name}.block_1", width, width)
    norm(f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
      conv(f"{name}.attn_1.{part}", width, width, 1)
    residual(f"{name}.block_2", width, width)

  bits, down, up = (published[n] for n in ("bits", "widths", "decoder_widths"))
  conv("encoder.conv_in", 3, down[0])
  for i, width in enumerate(down):
    for b in range(published["blocks"][i]):
      residual(
        f"encoder.down.{i}.block.{b}", width if b else down[max(i - 1, 0)], width
      )
    if i < len(down) - 1:
      conv(f"encoder.down.{i}.downsample.conv", width, width)
  middle("encoder.mid", down[-1])
  norm("encoder.norm_out", down[-1])
  conv("encoder.conv_out", down[-1], bits)
  conv("encoder.quant_conv", bits, bits, 1)
  conv("decoder.post_quant_conv", bits, bits, 1)
  conv("decoder.conv_in", bits, up[-1])
  middle("decoder.mid", up[-1])
  for i, width in enumerate(up):
    above = up[min(i + 1, len(up) - 1)]
    for b in range(published["decoder_blocks"][i]):
      residual(f"decoder.up.{i}.block.{b}", width if b else above, width)
    if i:
      conv(f"decoder.up.{i}.upsample.conv", width, width)
  norm("decoder.norm_out", up[0])
  conv("decoder.conv_out", up[0], 3)
  return found


def build(published):
  import torch

  weights = {n: torch.zeros(shape) for n, shape in shapes(published).items()}
  powers = 2 ** torch.arange(published["bits"] - 1, -1, -1)
  return plain.Plain({**weights, "quantize.power_vals": powers}, published)


def peer(model, inputs):
  import torch

  w = model.weights
  pixels = torch.from_numpy(inputs["pixels"]).permute(0, 3, 1, 2)
  vectors = plain.convolve(w, "encoder.quant_conv", plain.encode(w, pixels))
  bits = model.published["bits"]
  powers = [2 ** (bits - 1 - i) for i in range(bits)]
  found = sum(p * (vectors[:, i] > 0) for i, p in enumerate(powers))
  wanted = torch.from_numpy(inputs["codes"])
  signs = torch.stack([2.0 * (wanted // p % 2) - 1.0 for p in powers], 1)
  drawn = plain.decode(w, plain.convolve(w, "decoder.post_quant_conv", signs))
  return {
    "vectors": vectors.permute(0, 2, 3, 1).numpy(),
    "codes": found.numpy(),
    "ties": codes.ties_of_signs(vectors.numpy()),
    "pixels": drawn.permute(0, 2, 3, 1).numpy(),
  }


SMALL = {
  "bits": 6, "widths": [32, 64], "blocks": [2, 1], "decoder_widths": [32, 32],
  "decoder_blocks": [1, 2], "resolution": 32,
}  # fmt: skip
INPUTS = codes.inputs(19, 13, (5, 8), 64)
CASES = (
  Case("magvit-v2-loud", "magvit_v2", SMALL, "loud", INPUTS),
  Case("magvit-v2-quiet", "magvit_v2", SMALL, "quiet", INPUTS,
       {"epsilon": Wrong(patch={codes.EPSILON: 1e-5})}),
)  # fmt: skip
