"""Show-o2, 1.5B and 7B at 432 pixels (Xie et al. 2025): two paths in, a head of blocks.

  unijax import showo2 FOLDER --out=runs/showo2
  unijax sample --workdir=runs/showo2 --image=cat.png --prompt="What is this?"
  unijax sample --workdir=runs/showo2 --begin=image --prompt="a cat"

FOLDER has config.json and the weights of showlab/show-o2-1.5B or -7B, in `vae` those of
Wan2.1's autoencoder, which become RUN/codec, and the tokenizer of Qwen2.5-Instruct.
Both are pickles: first `unijax ckpt convert X.bin --out=FOLDER/model.safetensors` (of
several parts the index, `.bin.index.json`, to model.safetensors.index.json) and
`unijax ckpt convert Wan2.1_VAE.pth --out=FOLDER/vae/model.safetensors`. Its config.json
names the Qwen2.5 and no sizes; those are told by the weights.

As in the official code: patches of latents of any image enter on two paths, through
layers of SigLIP (without its last norm) and a linear map, side by side into two layers;
the vector of the timestep stands alone before them, an image that is read is at the
time of data; ten blocks with a width, heads and stretched rotary positions of their own
see the whole row, and say the velocity of latents in raster order, four a position, so
not of the patch that stands there. Time runs from noise to data, unscaled; the sign of
the velocity is turned on the way in. Rows are `<|im_start|> text <|vision_start|> image
<|vision_end|> <|im_end|>`; of a question, a system text, then picture and words in the
user's turn, which nothing ends, and which is encoded apart from what follows it; 49
steps of Euler (50 points) from noise, shifted by 3, guidance 5 against a row without
text; answers are greedy, of 300 tokens or to `<|im_end|>`.

Differences: an image that is read sees itself and its time, as in training, where the
script of questions leaves the time out and <|vision_end|> in; latents that are read are
means, not draws; text may follow a drawn picture. The blocks of the head also run over
the words of an answer, which is what a picture drawn after them needs.
"""

import dataclasses
from math import exp, isqrt

from ml_collections import ConfigDict

from configs.released import _autoencoder_wan, _decoder, _towers, siglip, wan_vae
from configs.released._qwen_marks import END, START, special
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import COPY, LINEAR, Negative, Patches
from unijax.interop.told import axis, count

FOLDERS, CONFIGS = ("vae",), {"vae": "vae/config.json"}
PREFIXES = {"text": ("showo.model.",), "head": ("showo.",), "vae": ("vae/",)}
LATENTS = 16  # channels of the autoencoder
HEAD = 72  # numbers of a head of SigLIP's so400m
_HEAD, _LAST = "diffusion_head_a.{i}", "diffusion_head_b"
_BLOCK = "denoiser/transformer/blocks"


def layers():
  """Keys of the layers of SigLIP, which have no names around them."""
  inside = "<vision>encoder."
  for key in _towers.split_blocks("vision", "<vision>"):
    names = tuple(n.replace(inside, "und_trans.") for n in key.theirs)
    yield dataclasses.replace(key, theirs=names)


def heads():
  """Keys of the blocks after the decoder's."""
  for key in _decoder.KEYS:
    if key.ours.startswith(_decoder.BLOCK) and key.ours.endswith(("kernel", "scale")):
      yield Key(
        key.ours.replace(_decoder.BLOCK, _BLOCK),
        key.theirs.replace(_decoder.LAYER, _HEAD), key.op,
      )  # fmt: skip
  yield from _towers.linear(f"{_BLOCK}/modulation", f"{_HEAD}.adaLN_modulation.1")


KEYS = (
  *_decoder.KEYS,
  *_towers.linear("vision/patch", "image_embedder_und.proj", op=Patches(LATENTS)),
  Key("vision/position", "position_embedding.weight"),
  *layers(),
  *_towers.linear("patch_codec/enter", "image_embedder_gen.proj", op=Patches(LATENTS)),
  Key("fusion/norm/scale", "fusion_proj.0.weight"),
  *_towers.linear("fusion/in", "fusion_proj.1"),
  *_towers.linear("fusion/out", "fusion_proj.3"),
  *_towers.linear("time_embedding/in", "time_embed.mlp.0"),
  *_towers.linear("time_embedding/out", "time_embed.mlp.2"),
  *_towers.linear("time_projection", "time_embed_proj"),
  *_towers.linear("denoiser/in", "diff_proj.0"),
  *_towers.linear("denoiser/out", "diff_proj.2"),
  *heads(),
  Key("denoiser/transformer/final_norm/scale", f"{_LAST}.norm_final.weight"),
  *_towers.linear("denoiser/modulation", f"{_LAST}.adaLN_modulation.1"),
  Key("patch_codec/leave/kernel", f"{_LAST}.linear.weight", Negative(LINEAR)),
  Key("patch_codec/leave/bias", f"{_LAST}.linear.bias", Negative(COPY)),
)
# A tied head is written beside the table, too.
DROPS = (*_decoder.DROPS, Drop("<head>lm_head.weight"), Drop("<vae>*"))
PARTS = {"codec": ("_autoencoder_wan", {"vae": "vae/"})}
SIZES = {
  **{n: x for n, x in _decoder.SIZES.items() if n != "tie_word_embeddings"},
  **wan_vae.SIZES,
  "clip_latent_dim": axis("image_embedder_und.proj.weight", 0),
  "image_latent_dim": axis("image_embedder_und.proj.weight", 1),
  "patch_size": axis("image_embedder_und.proj.weight", 2),
  "und_places": axis("position_embedding.weight", 0),
  "und_layers": count("und_trans.layers.{i}.layer_norm1.weight"),
  "und_hidden": axis("und_trans.layers.{i}.mlp.fc1.weight", 0),
  "time_numbers": axis("time_embed.mlp.0.weight", 1),
  "num_diffusion_layers": count(f"{_HEAD}.input_layernorm.weight"),
  "head_width": axis(f"{_LAST}.norm_final.weight", 0),
  "head_numbers": axis(f"{_HEAD}.self_attn.q_norm.weight", 0),
  "head_queries": axis(f"{_HEAD}.self_attn.q_proj.weight", 0),
  "head_keys": axis(f"{_HEAD}.self_attn.k_proj.weight", 0),
  "head_hidden": axis(f"{_HEAD}.mlp.gate_proj.weight", 0),
}
# Of the Qwen2.5-Instruct that config.json names.
_QWEN = {
  "num_hidden_layers": 28, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
  "max_position_embeddings": 32_768,
}  # fmt: skip
LLM = {
  "Qwen2.5-1.5B-Instruct": {
    **_QWEN, "num_attention_heads": 12, "num_key_value_heads": 2,
    "tie_word_embeddings": True,
  },
  "Qwen2.5-7B-Instruct": {
    **_QWEN, "num_attention_heads": 28, "num_key_value_heads": 4,
    "tie_word_embeddings": False,
  },
}  # fmt: skip
ROPE = {"theta": 5e5, "factor": 32.0, "low": 1.0, "high": 4.0, "length": 8192}
SEAM = "<seam>"  # no token: texts on both sides of it are encoded apart
CHAT = (
  ("begin", f"{START}system\nYou are a helpful assistant.{END}"),
  ("user", f"\n{START}user\n"), ("user_end", SEAM),
  ("assistant", f"\n{START}assistant\n"), ("assistant_end", ""),
  ("draw_begin", START), ("draw_user", ""), ("draw_user_end", ""),
  ("draw_assistant", ""),
)  # fmt: skip


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  for name, value in (
    ("add_time_embeds", True),
    ("image_latent_dim", LATENTS),
    ("image_latent_width", published["image_latent_height"]),
  ):
    published.only(name, value)
  words = published.part("", **LLM.get(published["llm_model_path"].split("/")[-1], {}))
  c = _decoder.get_config(words, bias="qkv", norm_eps=words.get("rms_norm_eps", 1e-6))
  codec = _autoencoder_wan.get_config(published)
  c.codec = codec.codec
  stride, patch = 2 ** (len(codec.codec.multipliers) - 1), published["patch_size"]
  seen, grid = eyes(published, patch * stride), published["image_latent_height"]
  c.vision, c.align.objective = seen.vision, "none"
  places = isqrt(published["und_places"])
  c.vision.update(
    last_norm=False, features_norm=False, crop=False,
    position_grid=0 if places == grid else places,
  )  # fmt: skip
  c.model.update(
    write="diffusion", read="fused_latents", image_mask="bidirectional",
    patch_out="run", time_injection="token", time_token="alone", time_of="data",
    time_waves="sinusoid", time_features=published["time_numbers"],
  )  # fmt: skip
  c.denoiser.update(denoiser(published))
  ids = special(words)
  c.data.update(
    codec=f"latents:{LATENTS}:{stride}", patch_size=patch,
    image_size=grid * patch * stride, special=tuple(ids.items()),
    marks=((START, ids["bos"]), (END, ids["eos"]), (SEAM, -1)), chat=CHAT,
    fit="resize", resample="bicubic", resize=0, noise_limit=0.0, images_per_row=4,
    caption_dropout=0.1,
  )  # fmt: skip
  c.diffusion.update(
    path="rectified_flow", predict="velocity", time_law="logit_normal",
    time_shift=time_shift(grid**2 + 1),
  )  # fmt: skip
  c.train.image_loss_weight = 1.0
  c.sample.update(
    sampler="euler", steps=49, schedule_shift=3.0, guidance=5.0, clip_x0=0.0,
    max_text_tokens=300, stops=(),
  )  # fmt: skip
  return c


def time_shift(positions: int) -> float:
  """Shift of training's timesteps: its log is linear in the positions of an image."""
  return exp(0.5 + (1.15 - 0.5) * (positions - 256) / (4096 - 256))


def eyes(published, pixels: int) -> ConfigDict:
  """The config of the layers of SigLIP; `pixels` a side of a patch."""
  width = published["clip_latent_dim"]
  tower = published.part("vit.").given(
    model_type="siglip_vision_model", vision_use_head=False, hidden_size=width,
    num_attention_heads=max(width // HEAD, 1), patch_size=pixels,
    num_hidden_layers=published["und_layers"], num_channels=3,
    intermediate_size=published["und_hidden"],
    image_size=published["image_latent_height"] * pixels,
  )  # fmt: skip
  return siglip.get_config(tower)


def denoiser(published) -> dict:
  """Knobs of the blocks after the decoder's."""
  numbers = published["head_numbers"]
  return {
    "depth": published["num_diffusion_layers"], "width": published["head_width"],
    "heads": published["head_queries"] // numbers, "head_dim": numbers,
    "kv_heads": published["head_keys"] // numbers,
    "mlp_width": published["head_hidden"], "norm_eps": 1e-5, "last_eps": 1e-6,
    **{f"rope_{name}": value for name, value in ROPE.items()},
  }  # fmt: skip


def to_published(config) -> dict:
  """Its config.json, and that of the autoencoder; with sizes that its weights tell,
  and those of the decoder, which the official code takes from elsewhere."""
  m, v, d, data = config.model, config.vision, config.denoiser, config.data
  words = _decoder.to_published(config, rms_norm_eps=m.norm_eps)
  for name in ("bos_token_id", "eos_token_id", "pad_token_id", "dtype"):
    del words[name]
  sizes = {1536: "1.5B", 3584: "7B"}
  grid = config.grid
  return {
    "_class_name": "Showo2Qwen2_5", "add_qk_norm": True, "add_time_embeds": True,
    "clip_pretrained_model_path": "google/siglip-so400m-patch14-384",
    "llm_model_path": f"Qwen/Qwen2.5-{sizes.get(m.width, 'other')}-Instruct",
    "llm_vocab_size": data.vocab, "load_from_showo": True, "model_name": "Showo2",
    "image_latent_dim": LATENTS, "image_latent_height": grid,
    "image_latent_width": grid, "video_latent_height": grid,
    "video_latent_width": grid, "patch_size": data.patch_size,
    "clip_latent_dim": v.width, "num_diffusion_layers": d.depth,
    "und_places": (v.position_grid or grid) ** 2, "und_layers": v.depth,
    "und_hidden": v.mlp_width, "time_numbers": m.time_features,
    "head_width": d.width, "head_numbers": d.head_dim,
    "head_queries": d.heads * d.head_dim, "head_keys": d.kv_heads * d.head_dim,
    "head_hidden": d.mlp_width, **words,
    "vae": wan_vae.to_published(config),
  }  # fmt: skip


def _size(name: str, width: int, hidden: int, vocab: int) -> dict:
  return {
    "llm_model_path": f"Qwen/Qwen2.5-{name}-Instruct", "hidden_size": width,
    "intermediate_size": hidden, "vocab_size": vocab, "patch_size": 2,
    "image_latent_dim": LATENTS, "image_latent_height": 27, "image_latent_width": 27,
    "clip_latent_dim": 1152, "num_diffusion_layers": 10, "und_places": 729,
    "und_layers": 26, "und_hidden": 4304, "time_numbers": 256, "head_width": 2048,
    "head_numbers": 64, "head_queries": 2048, "head_keys": 512, "head_hidden": 8192,
  }  # fmt: skip


PUBLISHED = {
  "1.5B": _size("1.5B", 1536, 8960, 151_936), "7B": _size("7B", 3584, 18_944, 152_064),
}  # fmt: skip
PARAMETERS = {"1.5B": 2_831_187_168, "7B": 8_934_950_112}  # without the autoencoder
