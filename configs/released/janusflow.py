"""JanusFlow-1.3B (Ma et al. 2024): reads features, draws by a flow inside a causal row.

  unijax import janusflow FOLDER --out=runs/janusflow
  unijax sample --workdir=runs/janusflow --image=cat.png --prompt="What is this?"
  unijax sample --workdir=runs/janusflow --begin=image --prompt="a cat"

FOLDER has config.json, weights and tokenizer of deepseek-ai/JanusFlow-1.3B, in `vae`
those of stabilityai/sdxl-vae, which become RUN/codec. Sizes of all but the Llama are
told by the weights: heads of the tower of pictures have 64 numbers.

As in the official code: two ConvNeXt stacks around the decoder with a skip between
them; the vector of the timestep stands where BOI was, a vector of its own where the BOI
of a picture that is read was; attention is causal inside images, too; 30 steps of Euler
from noise, guidance 2 against a row in which BOS and the image alone are seen, all at
their places. The release counts time from noise to data, in thousandths, and its
velocity points there: signs are turned on the way in, and time is told as it was.
Pictures that are read are made square with grey; the system text stands before what is
only read; answers are greedy. After an image EOI is written, so that text may follow.

The pooling head of the tower, which nothing uses, is left out, also of what is
exported.
"""

from math import isqrt

from ml_collections import ConfigDict

from configs.released import (
  _autoencoder_sdxl,
  _decoder,
  _parts,
  _towers,
  autoencoder_kl,
  janus,
  llama,
  siglip,
)
from configs.released.llava import LLAMA
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import CONV, COPY, Linear, Negative, Ones, Patches, Shuffled
from unijax.interop.told import axis, count

FILES = {"vae": "vae/diffusion_pytorch_model.safetensors"}
CONFIGS = {"vae": "vae/config.json"}
PREFIXES = {
  "text": ("language_model.model.",), "head": ("language_model.",),
  "vision": ("vision_und_enc_model.vision_tower.",), "vae": ("vae/",),
}  # fmt: skip
LATENTS = 4  # channels of SDXL's autoencoder
HEAD = 64  # numbers of a head of SigLIP's towers up to L
_ENTER, _LEAVE = "vision_gen_enc_model", "vision_gen_dec_model"


def stack(ours, theirs):
  """Keys of the ConvNeXt blocks of one side."""
  to, of = f"patch_codec/{ours}{{i}}", f"{theirs}.mid_block.res_blocks.{{i}}"
  norm, scale = f"{of}.channelwise_norm", f"{to}/response"
  return (
    Key(f"{to}/depthwise/kernel", f"{of}.depthwise.weight", CONV),
    Key(f"{to}/depthwise/bias", f"{of}.depthwise.bias"),
    Key(f"{to}/norm/scale", f"{of}.norm.weight"),
    *_towers.linear(f"{to}/up", f"{of}.channelwise_linear_1"),
    Key(f"{scale}/scale", f"{norm}.weight", Ones(3)),
    Key(f"{scale}/bias", f"{norm}.bias", Ones(3)),
    *_towers.linear(f"{to}/down", f"{of}.channelwise_linear_2"),
    *_towers.linear(f"{to}/time", f"{of}.cond_embeds_mapper"),
  )


_LAST = f"{_LEAVE}.out_convs.0"
KEYS = (
  *_decoder.KEYS,
  *siglip.original("<vision>"),
  *_towers.linear("connector/out", "vision_und_enc_aligner"),
  Key("feature_begin", "beg_of_und_embed", Ones(1)),
  *_towers.linear("time_embedding/in", f"{_ENTER}.time_embed.linear_1"),
  *_towers.linear("time_embedding/out", f"{_ENTER}.time_embed.linear_2"),
  *_towers.linear("patch_codec/enter", f"{_ENTER}.in_conv", op=Patches(LATENTS)),
  *stack("down", _ENTER),
  *_towers.linear("patch_codec/align", "vision_gen_enc_aligner"),
  Key("patch_codec/back_norm/scale", "vision_gen_dec_aligner_norm.weight"),
  *_towers.linear("patch_codec/back", "vision_gen_dec_aligner"),
  Key("patch_codec/join_norm/scale", f"{_LEAVE}.input_norm.weight"),
  *stack("up", _LEAVE),
  Key("patch_codec/out_norm/scale", f"{_LAST}.norm.weight"),
  *(
    Key(
      f"patch_codec/leave/{ours}", f"{_LAST}.unpatch_conv.{theirs}",
      Negative(Shuffled(LATENTS, op)),
    )
    for ours, theirs, op in (
      ("kernel", "weight", Linear(conv=True)), ("bias", "bias", COPY),
    )
  ),
)  # fmt: skip
DROPS = (*_decoder.DROPS, Drop("<vision>attn_pool.*"), Drop("<vae>*"))
PARTS = {"codec": ("_autoencoder_sdxl", {"vae": "vae/"})}
SIZES = {
  **_parts.below("language_config.", _decoder.SIZES),
  **autoencoder_kl.SIZES,
  "tower_places": axis("<vision>pos_embed", 1),
  "tower_patch": axis("<vision>patch_embed.proj.weight", 2),
  "tower_width": axis("<vision>patch_embed.proj.weight", 0),
  "tower_layers": count("<vision>blocks.{i}.norm1.weight"),
  "tower_hidden": axis("<vision>blocks.0.mlp.fc1.weight", 0),
  "flow_width": axis(f"{_ENTER}.in_conv.weight", 0),
  "flow_patch": axis(f"{_ENTER}.in_conv.weight", 2),
  "flow_blocks": count(f"{_ENTER}.mid_block.res_blocks.{{i}}.norm.weight"),
}


def get_config(published) -> ConfigDict:
  """Our config of it."""
  words = published.part("language_config.", **LLAMA)
  c, codec = llama.get_config(words), _autoencoder_sdxl.get_config(published)
  _parts.read_through(c, eyes(published), "marked")
  c.data.fit = "pad"
  width = published["flow_width"]
  c.model.update(
    write="diffusion", connector="linear", feature_begin=True, image_mask="causal",
    patch_codec="convnext", unet_width=width, unet_blocks=published["flow_blocks"],
    time_injection="boi", time_of="data", time_waves="sinusoid", time_scale=1000.0,
    time_features=width,
  )  # fmt: skip
  c.codec.update(codec.codec)
  stride = 2 ** (len(codec.codec.multipliers) - 1)
  c.data.update(
    codec=f"latents:{LATENTS}:{stride}", patch_size=published["flow_patch"],
    special=janus.special(published, words), without_text="hidden",
    caption_dropout=0.1,
  )  # fmt: skip
  c.diffusion.update(
    path="rectified_flow", predict="velocity", time_law="logit_normal", time_shift=1.0
  )
  c.train.update(image_loss_weight=1.0, ema_decay=0.99)
  c.sample.update(sampler="euler", steps=30, guidance=2.0, clip_x0=0.0)
  begin = words.get("tokenizer.begin")
  if begin is not None:
    c.data.chat = _decoder.chat(begin, "Assistant:") + (("system", janus.SYSTEM),)
  return c


def eyes(published) -> ConfigDict:
  """The config of the tower of pictures alone."""
  width, patch = published["tower_width"], published["tower_patch"]
  tower = published.part("vision_und_enc_config.params.")
  tower.only("select_layer", -1)
  tower.only("select_feature", "same")
  size = isqrt(published["tower_places"]) * patch
  return siglip.get_config(
    tower.given(
      model_type="siglip_vision_model", vision_use_head=False, hidden_act="gelu",
      hidden_size=width, num_attention_heads=max(width // HEAD, 1),
      num_hidden_layers=published["tower_layers"], patch_size=patch,
      intermediate_size=published["tower_hidden"], image_size=size,
    )
  )  # fmt: skip


def to_published(config) -> dict:
  """Its config.json, and that of the autoencoder."""
  m, v, size = config.model, config.vision, config.data.image_size
  words = llama.to_published(config) | {"rope_theta": m.rope_theta}
  flow = {
    "block_out_channels": [m.unet_width], "hidden_size": m.width,
    "layers_in_middle": m.unet_blocks,
  }  # fmt: skip
  enter = {"input_channels": LATENTS, "kernel_size": 2, "padding": 0, "stride": 2}
  leave = {"in_channels": m.unet_width, "out_channels": LATENTS, "upsamples": 1}
  tower = {
    "image_size": size, "model_name": f"siglip_large_patch{v.patch_size}_{size}",
    "select_feature": "same", "select_layer": -1,
  }  # fmt: skip
  return {
    "architectures": ["MultiModalityCausalLM"], "model_type": "multi_modality",
    "torch_dtype": "float32", "language_config": words,
    "vision_und_enc_config": _class("CLIPVisionTower", "vision_und_enc", tower),
    "vision_gen_enc_config": _class(
      "ShallowUViTEncoder", "vision_gen_enc", {**flow, **enter}
    ),
    "vision_gen_dec_config": _class(
      "ShallowUViTDecoder", "vision_gen_dec", {**flow, **leave}
    ),
    "vae": autoencoder_kl.to_published(config) | {"sample_size": 1024},
    **told(config),
  }  # fmt: skip


def told(config) -> dict:
  """What its weights tell when they are there."""
  v, m = config.vision, config.model
  return {
    "tower_places": (config.data.image_size // v.patch_size) ** 2,
    "tower_patch": v.patch_size, "tower_width": v.width, "tower_layers": v.depth,
    "tower_hidden": v.mlp_width, "flow_width": m.unet_width,
    "flow_patch": config.data.patch_size, "flow_blocks": m.unet_blocks,
  }  # fmt: skip


def _class(name: str, kind: str, params: dict) -> dict:
  return {"cls": name, "model_type": kind, "params": params}


PUBLISHED = {
  "1.3B": {
    "model_type": "multi_modality",
    "language_config": janus.PUBLISHED["1.3B"]["text_config"],
    "vae": autoencoder_kl.PUBLISHED["sdxl"],
    "tower_places": 576, "tower_patch": 16, "tower_width": 1024, "tower_layers": 24,
    "tower_hidden": 4096, "flow_width": 768, "flow_patch": 2, "flow_blocks": 2,
  }
}  # fmt: skip
PARAMETERS = {"1.3B": 2_033_772_304}  # without the 83,653,863 of the autoencoder
