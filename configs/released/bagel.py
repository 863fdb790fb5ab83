"""BAGEL-7B-MoT (Deng et al. 2025): reads features, draws by flow, weights for each.

  unijax import bagel FOLDER --out=runs/bagel
  unijax sample --workdir=runs/bagel --image=cat.png --prompt="What is this?"
  unijax sample --workdir=runs/bagel --begin=image --prompt="a cat"
  unijax sample --workdir=runs/bagel --begin=image --image=cat.png \\
    --prompt="make it red" --guidance-image=2 --guidance-renorm=text_patch \\
    --guidance-low=0

FOLDER has ema.safetensors and ae.safetensors (FLUX's autoencoder, which becomes
RUN/codec), llm_config.json, vit_config.json and the tokenizer. A Qwen2.5 with norms of
queries and keys has a second set of the weights of its blocks for latents; words,
features of SigLIP 2, BOI and EOI go through the first. Tables of fixed places are
weights of the release: they are read and written back, and rest in training.

As in the official code: rows are `<|im_start|> text <|im_end|>` and `<|vision_start|>
image <|vision_end|>`, an image with its marks has one rotary index and sees all of
itself; where one is drawn, a picture that is shown stands before the words twice, as
latents and as features, else as features alone; 49 steps of Euler from noise, shifted
by 3, with guidance 4 at timesteps above 0.4, no step longer than without it; the flags
above are those of editing. With --think what the demonstration says of thinking stands
before all in every branch of guidance; a plan is written behind the words, and the
image drawn behind it, against rows without the plan. Answers are greedy, of 1,000
tokens or to `<|im_end|>`.

Differences: pictures are squares, drawn at 1,024 pixels and read at 980, where the
official code keeps their shapes (data.fit says how one becomes a square); latents that
are read are means, not draws; norms are of one image, never of a batch; guidance leaves
out all text, not the last alone; a drawn image that is read again is read as latents.
"""

from math import isqrt

from ml_collections import ConfigDict

from configs.released import _autoencoder_bfl, _decoder, _parts, _towers, siglip
from configs.released._qwen_marks import END, START, special
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import LINEAR
from unijax.interop.told import axis, count

FILE, FILES = "ema.safetensors", {"ae": "ae.safetensors"}
CONFIGS = {"llm_config": "llm_config.json", "vit_config": "vit_config.json"}
PREFIXES = {
  "text": ("language_model.model.",), "head": ("language_model.",),
  "vision": ("vit_model.vision_model.",), "vae": ("ae/",),
}  # fmt: skip
SECOND = "_moe_gen"  # behind the name of a module: its weights for latents


def copies(key: Key) -> tuple[Key, ...]:
  """Keys of both sets of weights, of one of a decoder's."""
  if not key.ours.startswith("transformer/"):
    return (key,)
  (module, leaf), theirs = key.ours.rsplit("/", 1), key.theirs
  name, _, what = theirs.rpartition(".")
  latent = f"{name}{SECOND}.{what}"
  if ".mlp." in theirs:
    latent = theirs.replace(".mlp.", f".mlp{SECOND}.")
  return (
    Key(f"{module}/text/{leaf}", theirs, key.op),
    Key(f"{module}/image/{leaf}", latent, key.op),
  )


_EYES = "<vision>embeddings"
KEYS = (
  *(copy for key in _decoder.KEYS for copy in copies(key)),
  *_towers.linear("time_embedding/in", "time_embedder.mlp.0"),
  *_towers.linear("time_embedding/out", "time_embedder.mlp.2"),
  *_towers.linear("patch_codec/enter", "vae2llm"),
  *_towers.linear("patch_codec/leave", "llm2vae"),
  Key("patch_position", "latent_pos_embed.pos_embed"),
  Key("vision/position", f"{_EYES}.position_embedding.weight"),
  *_towers.linear("vision/patch", f"{_EYES}.patch_embedding", op=LINEAR),
  *_towers.split_blocks("vision", "<vision>"),
  *_towers.norm("vision/final_norm", "<vision>post_layernorm"),
  *_towers.linear("connector/in", "connector.fc1"),
  *_towers.linear("connector/out", "connector.fc2"),
  Key("feature_position", "vit_pos_embed.pos_embed"),
)
DROPS = (*_decoder.DROPS, Drop("<vae>*"))
PARTS = {"codec": ("_autoencoder_bfl", {"vae": "ae/"})}
SIZES = {
  **_parts.below("llm_config.", _decoder.SIZES), **_autoencoder_bfl.SIZES,
  "latent_places": axis("latent_pos_embed.pos_embed", 0),
  "latent_numbers": axis("vae2llm.weight", 1),
  "vit_places": axis(f"{_EYES}.position_embedding.weight", 0),
  "vit_layers": count("<vision>encoder.layers.{i}.layer_norm1.weight"),
}  # fmt: skip
LLM = {  # what transformers takes for fields of llm_config.json that are not written
  "num_attention_heads": 32, "num_key_value_heads": 32, "bos_token_id": None,
  "max_position_embeddings": 32_768,
}  # fmt: skip
# What its demonstration says first, where it is to think.
THINK = (
  "You should first think about the {}\nThe {} process is enclosed within <think> "
  "</think> tags, i.e. <think> {} process here </think> {} here"
)
THINK_DRAW = THINK.format(
  "planning process in the mind and then generate the image. ",
  "planning",
  "planning",
  "image",
)
THINK_ANSWER = THINK.format(
  "reasoning process in the mind and then provide the user with the answer. ",
  "reasoning",
  "reasoning",
  "answer",
)
CHAT = (
  ("begin", ""), ("user", START), ("user_end", END), ("assistant", START),
  ("assistant_end", ""), ("draw_assistant", ""),
)  # fmt: skip


def get_config(published) -> ConfigDict:
  """Our config of it."""
  words = published.part("llm_config.", **LLM)
  words.only("hidden_act", "silu")
  words.only("use_sliding_window", False)
  eps = words.get("rms_norm_eps", 1e-6)
  c = _decoder.get_config(words, bias="qkv", qk_norm=True, norm_eps=eps)
  _parts.read_through(c, eyes(published), "marked")
  side, codec = isqrt(published["vit_places"]), _autoencoder_bfl.get_config(published)
  (mean, std), places = _towers.HALF, published["latent_places"]
  c.vision.update(
    position_grid=side, position_resize="corner", mean=mean, std=std,
    image_size=published.get("vit_image_size", side * c.vision.patch_size),
  )  # fmt: skip
  c.codec.update(codec.codec)
  channels, stride = codec.codec.channels, 2 ** (len(codec.codec.multipliers) - 1)
  patch, grid = isqrt(published["latent_numbers"] // channels), isqrt(places)
  c.model.update(
    write="diffusion", read="needed", sharing="full", image_mask="framed",
    positions="shared", patch_position="fixed", patch_grid=grid,
    feature_position="fixed", connector_activation="gelu_tanh",
    time_injection="add", time_waves="sinusoid", time_features=256,
  )  # fmt: skip
  ids = special(words)
  c.data.update(
    codec=f"latents:{channels}:{stride}", patch_size=patch,
    image_size=published.get("image_size", grid * patch * stride),
    special=tuple(ids.items()), marks=((START, ids["bos"]), (END, ids["eos"])),
    chat=CHAT, pictures_first=True, fit="pad", resample="bicubic",
    without_text="bare", clean_copy=True, images_per_row=8,
  )  # fmt: skip
  c.diffusion.update(path="rectified_flow", predict="velocity", time_law="logit_normal")
  c.train.update(image_loss_weight=1.0, ema_decay=0.9999)
  c.sample.update(
    sampler="euler", steps=49, schedule_shift=3.0, clip_x0=0.0, guidance=4.0,
    guidance_low=0.4, guidance_renorm="image", max_text_tokens=1000, stops=(),
    think_draw=THINK_DRAW, think_answer=THINK_ANSWER,
  )  # fmt: skip
  return c


def eyes(published) -> ConfigDict:
  """The config of the tower of pictures alone, whose last block the release leaves
  out."""
  tower = published.part("vit_config.", patch_size=14)
  layers = published.get("vit_layers", tower.get("num_hidden_layers", 27) - 1)
  return siglip.get_config(
    tower.given(
      model_type="siglip_vision_model", vision_use_head=False, num_hidden_layers=layers
    )
  )


def to_published(config) -> dict:
  """Fields of its files, with sizes that official code knows or the weights tell."""
  v, codec, ids = config.vision, config.codec, _towers.marked(config)
  words = _decoder.to_published(
    config, architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu",
    rms_norm_eps=config.model.norm_eps, rope_theta=config.model.rope_theta,
    bos_token_id=ids["bos"], eos_token_id=ids["eos"], pad_token_id=ids["pad"],
  )  # fmt: skip
  return {
    "model_type": "bagel", "llm_config": words,
    "vit_config": {
      "model_type": "siglip_vision_model", **_towers.plain(v), "num_channels": 3,
      "num_hidden_layers": v.depth + 1, "patch_size": v.patch_size,
      "image_size": v.position_grid * v.patch_size,
    },
    "vit_layers": v.depth, "vit_places": v.position_grid**2,
    "vit_image_size": v.image_size, "image_size": config.data.image_size,
    "latent_places": config.model.patch_grid**2,
    "latent_numbers": config.data.patch_size**2 * codec.channels,
    "latent_channels": codec.channels, "layers_per_block": codec.blocks[0],
    "block_out_channels": [codec.width * m for m in codec.multipliers],
  }  # fmt: skip


PUBLISHED = {
  "7B-MoT": {
    "llm_config": {
      "num_hidden_layers": 28, "hidden_size": 3584, "num_attention_heads": 28,
      "num_key_value_heads": 4, "intermediate_size": 18_944, "vocab_size": 152_064,
      "rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 32_768,
      "tie_word_embeddings": False,
    },
    "vit_config": {
      "hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16,
      "intermediate_size": 4304, "patch_size": 14, "image_size": 980,
    },
    "vit_layers": 26, "vit_places": 4900, "latent_places": 4096, "latent_numbers": 64,
  },
}  # fmt: skip
PARAMETERS = {"7B-MoT": 14_607_260_128}  # the autoencoder has 83,819,683
