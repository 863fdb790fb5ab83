"""Show-o against ours: words about pictures, and pictures from words.

No library has it: the reference is tests/interop/showo_reference.py. Our rows are those
of our own interleaver from documents, pictures drawn and read by our own sampling.
"""

import dataclasses

import numpy as np

from tests.interop import family_decoders, family_janus, numbers, showo_reference
from tests.interop.cases import Case, Wrong

QUESTIONS, WORDS = ("Who is it?", "Is it red?"), ("a red dog", "moon")
LENGTH = 23  # of a padded prompt
STEPS, GUIDANCE = 18, 1.75
HIDDEN = 3  # every third code of the row that is drawn
MASK = ""  # another model.image_mask, of a mistake


def build(published):
  import torch

  made = showo_reference.shapes(published, 64, 72, 4, 2, TOKENIZER)
  return showo_reference.Model({n: torch.zeros(s) for n, s in made.items()}, published)


def load(folder):
  import json

  from safetensors.torch import load_file

  weights = load_file(folder / "model.safetensors")
  inside = load_file(folder / "magvitv2" / "model.safetensors")
  weights |= {f"magvitv2/{n}": x for n, x in inside.items()}
  return showo_reference.Model(
    weights, json.loads((folder / "config.json").read_text())
  )


def asked(text: str) -> bytes:
  return f"USER: \n{text} ASSISTANT:".encode()


def known(codes):
  """Codes of a row that is being drawn, -1 where they are hidden."""
  return np.where(np.arange(len(codes)) % HIDDEN == 1, -1, codes)


def peer(model, inputs):
  pictures = [model.read(x).tolist() for x in inputs["pixels"]]
  if "asked" in inputs:
    count = family_decoders.WRITTEN
    both = zip(pictures, QUESTIONS, strict=True)
    return {"tokens": np.array([model.write(p, asked(q), count) for p, q in both])}
  if "drawn" in inputs:
    codes = [model.draw(x.encode(), LENGTH, STEPS, GUIDANCE) for x in WORDS]
    pixels = np.stack([model.show(x) for x in codes])
    return {"codes": np.stack(codes).astype(np.int32), "pixels": pixels}
  read = model.logits(*model.reading(pictures[0], asked(QUESTIONS[0])))
  codes = known(inputs["codes"]).tolist()
  ids, sees = model.drawing(WORDS[0].encode(), codes, LENGTH)
  real = [i for i, token in enumerate(ids) if token != model.mark(showo_reference.PAD)]
  return {"read": read.numpy(), "drawn": model.logits(ids, sees)[real].numpy()}


def documents(pixels):
  from unijax.data.document import Document, Text
  from unijax.infer import prompts

  made = (
    prompts.user([prompts.picture(x), Text(q)], chat=True)
    for x, q in zip(pixels, QUESTIONS, strict=False)
  )
  return [Document(tuple(parts), id=0) for parts in made]


def ours(config, params, inputs):
  if MASK:
    model = dataclasses.replace(config.model, image_mask=MASK)
    config = dataclasses.replace(config, model=model)
  builder = family_decoders.everything(config)
  if "drawn" in inputs:
    return family_janus.drawn(config, params, builder, WORDS)
  if "asked" in inputs:
    return answers(config, params, builder, inputs["pixels"])
  read = builder.layout(documents(inputs["pixels"])[0], open_end=True)
  return rows(config, params, builder, read, inputs["codes"])


def answers(config, params, builder, pixels):
  """What sampling writes after each picture and its question."""
  laid = [builder.layout(d, open_end=True) for d in documents(pixels)]
  return {"tokens": family_decoders.written_after(config, params, laid)}


def rows(config, params, builder, read, codes):

  from unijax.data.document import Document, Text
  from unijax.data.rows import stack
  from unijax.write import make_write_path

  words = Document((Text(WORDS[0]),), id=0)
  draws = builder.layout(words, open_end=True, draws=True)
  draws.add_tokens([builder.vocabulary.special.boi], 0.0)
  builder.add_span(draws, codes, 0.0)
  batch = stack([builder.row([x]) for x in (read, draws)])
  hidden = np.isin(batch.patch_BT[1], np.flatnonzero(known(codes) < 0))
  batch.tokens_BT[1, hidden] = make_write_path(config, config.data.vocab).mask_token
  logits = family_decoders.logits_of(config, params, batch)
  return {"read": logits[0, : len(read)], "drawn": logits[1, : len(draws)]}


def inputs(kind: str, side: int):
  def make():
    pixels = numbers.picture("pixels", 2, side, side, 3)
    return {
      "pixels": (127.5 + 127.5 * pixels).astype(np.uint8), kind: np.ones(1),
      "codes": numbers.whole("codes", 64, (side // 2) ** 2),
    }  # fmt: skip

  return make


TOKENIZER = {
  "bits": 6, "widths": [32, 64], "blocks": [1, 1], "decoder_widths": [32, 32],
  "decoder_blocks": [1, 1],
}  # fmt: skip


def small(side: int, **fields):
  text, codes = 259, 64
  return {
    "_class_name": "Showo", "codebook_size": codes, "llm_vocab_size": text,
    "llm_model_path": "microsoft/phi-1_5", "mask_token_id": text + 10 + codes,
    "num_vq_tokens": (side // 2) ** 2, "vocab_size": text + 10 + codes + 1,
    "w_clip_vit": False, "max_position_embeddings": 128, **fields,
  }  # fmt: skip


FRAME = {"frame": Wrong(patch={"tests.interop.family_showo.MASK": "bidirectional"})}
CASES = (
  Case("showo-loud", "showo", small(8), "loud", inputs("rows", 8), FRAME, slow=True),
  Case("showo-quiet", "showo", small(8), "quiet", inputs("rows", 8),
       {"epsilon": Wrong(published={"layer_norm_eps": 1e-6})}, slow=True),
  Case("showo-text", "showo", small(8), "loud", inputs("asked", 8), slow=True),
  Case("showo-draw", "showo", small(12), "loud", inputs("drawn", 12), FRAME,
       bounds={"pixels": 1e-3}),
)  # fmt: skip
