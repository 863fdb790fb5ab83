"""Emu3 of transformers against ours: words after pictures, and pictures from words.

Rows are laid out by our own interleaver, pictures made codes by the tokenizer of the
run and drawn by our own sampling; the reference gets the ids that its processor makes.
No library draws with a layout: the reference of that is a loop over its logits, a row
at a time and without a cache, which knows the rule of the official script.
"""

import dataclasses

import numpy as np

from tests.interop import family_decoders, family_emu3_vq, numbers
from tests.interop.cases import Case, Wrong, loaded
from tests.interop.family_chameleon import layouts
from tests.interop.family_chameleon import words as words_and_codes

CODES, SIDE = 48, 5  # a picture is 5 x 5 codes
FIRST = 300  # of codes
BOS, EOS, PAD, BOI, EOI, IMG, EOL, EOF, PLACE = range(256, 265)
ROWS = ((0, "What is it?"), ("a ", 1, " and ", 2, "red dogs!"))  # numbers: pictures
ASKED = ((0, "Who is it?"), (1, "Is it red?"))
DRAWN = ("a red dog", "moon")  # of unequal length
SYSTEM, GUIDANCE = "You are a helpful assistant.", 3.0
SUFFIX, NEGATIVE = " masterpiece, film grained, best quality.", "blurry, worst."


def build(published):
  from transformers import Emu3Config, Emu3ForConditionalGeneration

  return Emu3ForConditionalGeneration(Emu3Config.from_dict(dict(published)))


def load(folder):
  from transformers import Emu3ForConditionalGeneration

  return loaded(Emu3ForConditionalGeneration, folder, attn_implementation="eager")


def opened() -> list[int]:
  """What begins a picture."""
  return [BOI, *f"{SIDE}*{SIDE}".encode(), IMG]


def asked(row) -> list[int]:
  """A question with pictures, as the official processor has it."""
  found = [BOS, *f"{SYSTEM} USER: ".encode()]
  for part in row:
    picture = [*opened(), *[PLACE] * SIDE * (SIDE + 1), EOF, EOI]
    found += picture if isinstance(part, int) else list(part.encode())
  return [*found, *b". ASSISTANT:"]


def peer(model, inputs):
  import torch

  if "drawn" in inputs:
    return drawn_by(model)
  pixels = (inputs["pixels"] / 127.5 - 1.0).astype(np.float32)
  pixels = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
  sizes = torch.tensor([pixels.shape[-2:]] * len(pixels))
  codes = torch.stack(model.model.vqmodel.encode(pixels, sizes).image_tokens)
  tokens = [asked(row) for row in (ASKED if "asked" in inputs else ROWS)]
  longest = max(map(len, tokens))
  real = torch.tensor([[0] * (longest - len(x)) + [1] * len(x) for x in tokens])
  words = torch.cat(
    [model.model.vocabulary_mapping.convert_img2bpe(x).flatten() for x in codes]
  )
  tokens = torch.tensor([[PAD] * (longest - len(x)) + x for x in tokens])
  tokens[tokens == PLACE] = words.long()
  if "asked" in inputs:
    model.generation_config.eos_token_id = None
    written = model.generate(
      input_ids=tokens, attention_mask=real, do_sample=False, pad_token_id=PAD,
      max_new_tokens=family_decoders.WRITTEN, use_cache=True,
      suppress_tokens=[BOI, *range(FIRST, FIRST + CODES)],
    )  # fmt: skip
    return {"tokens": written[:, longest:].numpy()}
  position = (real.cumsum(1) - 1).clamp(min=0)
  logits = model(tokens, attention_mask=real, position_ids=position).logits
  return {
    "logits": logits[real.bool()].numpy(), "codes": codes.numpy().astype(np.int32),
  }  # fmt: skip


def drawn_by(model):
  """The likeliest codes under guidance, and the tokens that the layout asks for."""
  import torch

  def logits(ids):
    return torch.log_softmax(model(torch.tensor([ids])).logits[0, -1].double(), -1)

  def forced(since: int) -> list[int]:
    """What may stand so many tokens after the one that opens a picture."""
    end = SIDE * (SIDE + 1)
    if since > end:
      return [EOF, EOI, EOS][since - end - 1 :][:1]
    return range(FIRST, FIRST + CODES) if since % (SIDE + 1) else [EOL]

  found = []
  for text in DRAWN:
    row = [BOS, *(text + SUFFIX).encode(), *opened()]
    other, made = [BOS, *NEGATIVE.encode(), *opened()], []
    for since in range(1, SIDE * (SIDE + 1) + 4):
      allowed = list(forced(since))
      c, u = logits(row + made), logits(other + made)
      made.append(allowed[int((u + GUIDANCE * (c - u))[allowed].argmax())])
    assert made[-3:] == [EOF, EOI, EOS] and made.count(EOL) == SIDE
    found.append(made)
  pixels = model.decode_image_tokens(
    image_tokens=torch.tensor(found), height=SIDE, width=SIDE
  )
  codes = np.array([[x - FIRST for x in row if x >= FIRST] for row in found])
  return {"codes": codes.astype(np.int32), "pixels": pixels.permute(0, 2, 3, 1).numpy()}


def builder_of(config):
  from unijax.data.rows import RowBuilder
  from unijax.data.tokenizer import ByteTokenizer

  tokenizer = ByteTokenizer()
  tokenizer.vocab_size = config.data.vocab  # every row of the table is some word's
  return RowBuilder(config, tokenizer)


def ours(config, params, inputs):
  from unijax.data.rows import stack

  builder = builder_of(config)
  if "drawn" in inputs:
    return drawn(config, params, builder)
  pixels = inputs["pixels"]
  if "asked" in inputs:
    endless = dataclasses.replace(builder.vocabulary.special, eos=-1)
    builder.vocabulary = dataclasses.replace(builder.vocabulary, special=endless)
    laid = layouts(builder, ASKED, pixels)
    return {"tokens": family_decoders.written_after(config, params, laid, builder)}
  laid = layouts(builder, ROWS, pixels)
  batch = stack([builder.row([x]) for x in laid])
  logits = family_decoders.logits_of(config, params, batch)
  codes = [builder.codes(image) for x in laid for _, image in x.images]
  return {
    "logits": logits[batch.segment_BT > 0],
    "codes": np.stack(codes).reshape(-1, SIDE, SIDE),
  }


def drawn(config, params, builder):
  from tests.interop import family_janus

  sample = dataclasses.replace(config.sample, negative_prompt=NEGATIVE)
  config = dataclasses.replace(config, sample=sample)
  return family_janus.drawn(config, params, builder, DRAWN, turns=True)


def inputs(kind: str, pictures: int):
  def make():
    pixels = numbers.picture("pixels", pictures, 2 * SIDE, 2 * SIDE, 3)
    return {"pixels": (127.5 + 127.5 * pixels).astype(np.uint8), kind: np.ones(1)}

  return make


VOCABULARY = {
  "<|extra_200|>": EOL, "<|extra_201|>": EOF, "<|image token|>": IMG, "<image>": PLACE,
  "<|image start|>": BOI, "<|image end|>": EOI, "*": ord("*"), str(SIDE): ord(str(SIDE)),
  **{f"<|visual token {i:06d}|>": FIRST + i for i in range(CODES)},
}  # fmt: skip
SMALL = {
  "model_type": "emu3", "architectures": ["Emu3ForConditionalGeneration"],
  "image_area": (2 * SIDE) ** 2, "vocabulary_map": VOCABULARY,
  "vq_config": family_emu3_vq.SMALL,
  "text_config": {
    **family_decoders.COMMON, "model_type": "emu3_text_model", "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "bos_token_id": BOS, "eos_token_id": EOS,
    "pad_token_id": PAD, "vocab_size": FIRST + CODES, "num_hidden_layers": 2,
    "max_position_embeddings": 512, **family_decoders.theta(1e6),
  },
}  # fmt: skip
TEXT = SMALL["text_config"]
THETA = {"text_config": {**TEXT, **family_decoders.theta(1e4)}}
EPSILON = {"text_config": {**TEXT, "rms_norm_eps": 1e-6}}
MAP = {"vocabulary_map": {**VOCABULARY, "<|extra_200|>": EOF, "<|extra_201|>": EOL}}
CASES = (
  Case("emu3-loud", "emu3", SMALL, "loud", inputs("rows", 3),
       {"theta": Wrong(published=THETA), "ends of lines": Wrong(published=MAP)},
       slow=True),
  Case("emu3-quiet", "emu3", SMALL, "quiet", inputs("rows", 3),
       {"epsilon": Wrong(published=EPSILON)}, slow=True),
  Case("emu3-text", "emu3", SMALL, "loud", inputs("asked", 2),
       {"words and codes": Wrong(patch={"unijax.data.tokenizer.CodeIds":
                                        words_and_codes})}, slow=True),
  Case("emu3-draw", "emu3", SMALL, "loud", inputs("drawn", 1),
       {"no words behind": Wrong(patch={"unijax.infer.tracks.told":
                                        lambda parts, *_: parts})},
       bounds={"pixels": 1e-3}),
)  # fmt: skip
