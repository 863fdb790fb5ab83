"""EVA-CLIP (Fang et al. 2023, Sun et al. 2023): a student of CLIP, then CLIP again.

  --config=configs/eva_clip.py:tiny-distill --config.align.frozen=RUN   the student: RUN
      is a run of configs/clip.py:tiny, whose features at hidden patches it predicts
  --config=configs/eva_clip.py:tiny --init-allow=missing
      --init-from='RUN:(?!vision\\.).*=>'
      contrast, beginning from the student of RUN
  --config=configs/eva_clip.py:L-14-336    published: B-16, L-14-336, g-14,
      bigE-14-plus

Axes: as configs/clip.py, with 2-D RoPE, SwiGLU and norms inside of branches (EVA-02),
or plain MLPs (g) with norms at the end of branches (bigE); queries and values biased.

Parameters: B-16 149,691,137, L-14-336 428,083,137, g-14 1,136,435,841, bigE-14-plus
5,044,889,089 (tests hold them).

Differences from the papers: as configs/clip.py; hidden patches are drawn one by one,
not in blocks; class tokens are not distilled.
"""

from ml_collections import ConfigDict

from configs import clip

EVA2 = dict(mlp="swiglu", sub_norm=True, rope_grid=16)
SIZES = {  # pixels, patch, shared width; vision; text depth, width, heads
  "B-16": (224, 16, 512, (12, 768, 12, 2048), EVA2, (12, 512, 8)),
  "L-14-336": (336, 14, 768, (24, 1024, 16, 2730), EVA2, (12, 768, 12)),
  "g-14": (224, 14, 1024, (40, 1408, 16, 6144), {}, (12, 768, 12)),
  "bigE-14-plus": (
    224, 14, 1024, (64, 1792, 16, 15360), {"norm": "branch"}, (32, 1280, 20)
  ),
}  # fmt: skip


PUBLISHED = {
  "B-16": 149_691_137, "L-14-336": 428_083_137, "g-14": 1_136_435_841,
  "bigE-14-plus": 5_044_889_089,
}  # fmt: skip


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, tiny-distill, or a published size."""
  c = clip.get_config("tiny" if preset.startswith("tiny") else "L-14-336")
  c.vision.update(qkv_bias="query_value", patch_bias=True, embed_norm=False)
  c.vision.update(norm_eps=1e-6, mlp="gelu")
  c.text.mlp, c.align.image_projection = "gelu", "bias"
  if preset in ("tiny", "tiny-distill"):
    c.vision.update(EVA2, rope_grid=4, mlp_width=176)
    c.align.objective = "distill" if preset == "tiny-distill" else "softmax"
    return c
  if preset not in SIZES:
    names = ["tiny", "tiny-distill", *SIZES]
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(names)}")
  pixels, patch, shared, (depth, width, heads, mlp), more, text = SIZES[preset]
  c.vision.update(depth=depth, width=width, heads=heads, mlp_width=mlp, **more)
  c.vision.patch_size, c.align.width, c.data.image_size = patch, shared, pixels
  c.text.update(depth=text[0], width=text[1], heads=text[2], mlp_width=4 * text[1])
  return c
