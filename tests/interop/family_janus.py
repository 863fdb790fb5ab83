"""Janus of transformers against ours: words about pictures, and pictures from words.

Rows are laid out by our own interleaver, pictures drawn by our own sampling; the
reference gets the ids that its processor makes.
"""

import dataclasses
import re

import numpy as np

from tests.interop import family_decoders, family_llava, numbers
from tests.interop.cases import Case, Wrong, loaded

BOI, EOI, PLACE, PAD = 257, 258, 259, 260  # ids behind those of bytes
READ = ("a red", 0, " dog?")  # a number: a picture that is read
DRAWN = ("draw", 1, "ok")  # one that is drawn
ASKED = (("Who ", 0, "is it?"), ("Is it", 1, " red?"))
WORDS = ("a red dog", "blue moon")
GUIDANCE = 5.0


def build(published):
  from transformers import JanusConfig, JanusForConditionalGeneration

  return JanusForConditionalGeneration(JanusConfig.from_dict(dict(published)))


def load(folder):
  from transformers import JanusForConditionalGeneration

  return loaded(JanusForConditionalGeneration, folder, attn_implementation="eager")


# Names of transformers -> those of the original repository.
ORIGINAL = (
  (r"^lm_head", "language_model.lm_head"),
  (r"^model\.language_model\.", "language_model.model."),
  (r"^model\.aligner\.fc1", "aligner.layers.0"),
  (r"^model\.aligner\.hidden_layers\.0", "aligner.layers.2"),
  (r"^model\.generation_embeddings", "gen_embed"),
  (r"^model\.generation_aligner\.fc1", "gen_aligner.layers.0"),
  (r"^model\.generation_aligner\.hidden_layers\.0", "gen_aligner.layers.2"),
  (r"^model\.generation_head\.proj_out", "gen_head.output_mlp_projector"),
  (r"^model\.generation_head\.vision_head", "gen_head.vision_head"),
  (r"^model\.vision_model\.", "vision_model.vision_tower."),
  (r"embeddings\.patch_embedding\.", "patch_embed.proj."),
  (r"embeddings\.position_embedding\.weight", "pos_embed"),
  (r"encoder\.layers\.(\d+)\.layer_norm(\d)", r"blocks.\1.norm\2"),
  (r"encoder\.layers\.(\d+)\.self_attn\.projection_layer", r"blocks.\1.attn.proj"),
  (r"encoder\.layers\.(\d+)\.mlp", r"blocks.\1.mlp"),
  (r"vision_tower\.post_layernorm", "vision_tower.norm"),
  (r"^model\.vqmodel\.", "gen_vision_model."),
  (r"(gen_vision_model\..*)(up|down)\.(\d+)\.(down|up)sample", r"\1conv_blocks.\3.\4sample"),
  (r"(gen_vision_model\..*)(up|down)\.(\d+)\.block", r"\1conv_blocks.\3.res"),
  (r"(gen_vision_model\..*)(up|down)\.(\d+)\.attn", r"\1conv_blocks.\3.attn"),
  (r"mid\.block_1", "mid.0"), (r"mid\.attn_1", "mid.1"), (r"mid\.block_2", "mid.2"),
)  # fmt: skip
FUSED = re.compile(r"(.*)encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)")


def original(arrays):
  """Weights of transformers as the original repository has them."""
  made, parts = {}, {}
  for name, x in arrays.items():
    if found := FUSED.fullmatch(name):
      tower, layer, part, kind = found.groups()
      parts.setdefault((layer, kind), {})[part] = x
      continue
    for old, new in ORIGINAL:
      name = re.sub(old, new, name)
    made[name] = x[None] if name.endswith("pos_embed") else x
  for (layer, kind), three in parts.items():
    name = f"vision_model.vision_tower.blocks.{layer}.attn.qkv.{kind}"
    made[name] = np.concatenate([three[part] for part in "qkv"])
  return made


def ids(row, begin: int, count: int) -> list[int]:
  """What a processor makes of a row, with a token at each place of a picture."""
  found = [begin]
  for part in row:
    picture = [BOI, *[PLACE] * count, EOI]
    found += picture if isinstance(part, int) else list(part.encode())
  return found


def standard(pixels) -> np.ndarray:
  made = (pixels / 127.5 - 1.0).astype(np.float32)
  return np.ascontiguousarray(made.transpose(0, 3, 1, 2))


def peer(model, inputs):
  import torch

  c = model.config
  count = (c.vision_config.image_size // c.vision_config.patch_size) ** 2
  begin = c.text_config.bos_token_id
  if "drawn" in inputs:
    return _drawn(model, [ids([words], begin, count) for words in WORDS])
  pixels = torch.from_numpy(standard(inputs["pixels"]))
  if "asked" in inputs:
    tokens = torch.tensor([ids(row, begin, count) for row in ASKED])
    model.generation_config.eos_token_id = None
    written = model.generate(
      input_ids=tokens, pixel_values=pixels, attention_mask=torch.ones_like(tokens),
      do_sample=False, max_new_tokens=family_decoders.WRITTEN, pad_token_id=0,
    )  # fmt: skip
    return {"tokens": written[:, tokens.shape[1] :].numpy()}
  words, codes = [], []
  for row in (READ, DRAWN):
    tokens = torch.tensor([ids(row, begin, count)])
    x = model.get_input_embeddings()(tokens)
    if row == READ:
      x[tokens == PLACE] = model.model.get_image_features(pixels).pooler_output[0]
    else:
      code = torch.from_numpy(inputs["codes"]).long()
      x[tokens == PLACE] = model.prepare_embeddings_for_image_generation(code)[0]
    h = model.model.language_model(inputs_embeds=x).last_hidden_state[0]
    words.append(model.lm_head(h))
    codes.append(model.model.generation_head(h))
  return {"words": torch.cat(words).numpy(), "codes": torch.cat(codes).numpy()}


def _drawn(model, prompts):
  import torch

  g = model.generation_config
  g.bos_token_id, g.pad_token_id = model.config.text_config.bos_token_id, PAD
  g.generation_kwargs = {"boi_token_id": BOI}
  tokens = torch.tensor([[*prompt, BOI] for prompt in prompts])
  codes = model.generate(
    inputs=tokens, attention_mask=torch.ones_like(tokens), generation_mode="image",
    do_sample=False, guidance_scale=GUIDANCE,
  )  # fmt: skip
  pixels = model.decode_image_tokens(codes)
  return {"codes": codes.numpy().astype(np.int32), "pixels": pixels.numpy()}


def named(config):
  """The config with ids of a tokenizer, which small releases do not have."""
  ids = dict(config.data.special) | {"boi": BOI, "eoi": EOI, "pad": PAD}
  data = dataclasses.replace(config.data, special=tuple(ids.items()))
  return dataclasses.replace(config, data=data)


def ours(config, params, inputs):

  from unijax.data.rows import stack

  config = named(config)
  builder = family_decoders.everything(config)
  if "drawn" in inputs:
    sample = dataclasses.replace(config.sample, guidance=GUIDANCE)
    return drawn(dataclasses.replace(config, sample=sample), params, builder, WORDS)
  if "asked" in inputs:
    laid = family_llava.layouts(builder, ASKED, inputs["pixels"])
    return {"tokens": family_decoders.written_after(config, params, laid)}
  read = family_llava.layouts(builder, (READ,), inputs["pixels"])[0]
  draws = family_llava.layouts(builder, DRAWN[:1], ())[0]
  draws.add_tokens([BOI], 0.0)
  builder.add_span(draws, inputs["codes"][0], 0.0)
  draws.add_tokens(list(DRAWN[2].encode()), 0.0)
  batch = stack([builder.row([x]) for x in (read, draws)])
  logits = family_decoders.logits_of(config, params, batch)[batch.segment_BT > 0]
  first = config.data.vocab - config.codebook
  return {"words": logits[:, :first], "codes": logits[:, first:]}


def drawn(config, params, builder, words, turns=False):
  """Codes that sampling chooses, and what the imported codec makes of them."""
  from unijax.codecs import artefact, frozen
  from unijax.data.document import Text
  from unijax.infer import prompts
  from unijax.infer.batch import RowBatch
  from unijax.infer.generate import Generator, Prompt

  greedy = {"image_temperature": 0.0, "confidence_noise": 0.0}
  sample = dataclasses.replace(config.sample, **greedy)
  config = dataclasses.replace(config, sample=sample)
  generator = Generator(config, params, builder, len(words))
  said = [prompts.user([Text(x)], turns) for x in words]
  asked = [Prompt(x, "image", stop_after_image=True) for x in said]
  batch = RowBatch(generator, asked, 0)
  batch.run()
  codes = np.stack([row.tracks[0].images[-1][1] for row in batch.rows])
  about = artefact.read(config.data.codec)
  form, weights = (
    frozen.form(about.codec),
    artefact.read_weights(config.data.codec, about),
  )
  grid = codes.reshape(len(words), config.grid, config.grid, 1)
  pixels = form.run("decode", weights, form.run("entries", weights, grid))
  return {"codes": codes, "pixels": pixels}


def inputs(kind: str, pictures: int, side: int):
  def make():
    pixels = numbers.picture("pixels", pictures, side, side, 3)
    return {
      "pixels": (127.5 + 127.5 * pixels).astype(np.uint8), kind: np.ones(1),
      "codes": numbers.whole("codes", CODES, 1, (side // 4) ** 2),
    }  # fmt: skip

  return make


CODES = 48
TEXT = {
  **family_decoders.COMMON, "model_type": "llama", "hidden_act": "silu",
  "rms_norm_eps": 1e-6, "hidden_size": 32, "num_attention_heads": 4,
  "num_hidden_layers": 2, **family_decoders.theta(1e4),
}  # fmt: skip
WIDE = {"projection_dim": 32, "hidden_act": "gelu"}


def small(side: int, eps=1e-6, act="gelu"):
  return {
    "model_type": "janus", "architectures": ["JanusForConditionalGeneration"],
    "tie_word_embeddings": False, "image_token_id": PLACE, "text_config": TEXT,
    "vision_config": {
      **WIDE, "model_type": "janus_vision_model", "hidden_size": 24, "patch_size": 4,
      "num_hidden_layers": 2, "num_attention_heads": 3, "mlp_ratio": 1.5,
      "image_size": side, "num_image_tokens": (side // 4) ** 2, "layer_norm_eps": eps,
    },
    "vq_config": {
      **WIDE, "model_type": "janus_vqgan", "base_channels": 32,
      "channel_multiplier": [1, 1, 2], "num_res_blocks": 1, "embed_dim": 8,
      "num_embeddings": CODES, "latent_channels": 12, "image_token_embed_dim": 32,
    },
  }  # fmt: skip


EPSILON = {"vision_config": small(16, eps=1e-5)["vision_config"]}
NOTHING = {"padded": lambda *_: None}
CASES = (
  Case("janus-loud", "janus", small(16), "loud", inputs("rows", 1, 16),
       {"gelu": Wrong(patch={"unijax.nn.codes.ACTIVATIONS": {"gelu": lambda x: x}})}),
  Case("janus-quiet", "janus", small(16), "quiet", inputs("rows", 1, 16),
       {"epsilon": Wrong(published=EPSILON)}, slow=True),
  Case("janus-text", "janus", small(16), "loud", inputs("asked", 2, 16), slow=True),
  Case("janus-draw", "janus", small(32), "loud", inputs("drawn", 1, 32),
       {"guidance": Wrong(patch={"unijax.data.without_text.EMPTY": NOTHING})},
       bounds={"pixels": 1e-3}, slow=True),
)  # fmt: skip
