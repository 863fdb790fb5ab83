"""BAGEL against ours: words about pictures, pictures from words, pictures changed.

No library has it: the reference is tests/interop/bagel_reference.py, which for words
alone is Qwen3 of transformers (`check_words`). Our rows are those of our own
interleaver from documents, pictures drawn and read by our own sampling.
"""

import dataclasses

import numpy as np

from tests.interop import (
  bagel_reference,
  bagel_shapes,
  family_decoders,
  family_showo,
  from_noise,
  numbers,
)
from tests.interop.cases import BOUND, Case, Wrong
from tests.interop.family_showo import QUESTIONS, WORDS

PLACES = {bagel_reference.CODEC_FILE: bagel_reference.CODEC}
TIME = 0.35  # of a row that is drawn
STEPS = 6
FIRST, THOUGHT = "plan it", 8  # said before all; ids of what is then written
SCALE, PICTURE_SCALE, LOW = 4.0, 2.0, 0.4
MODEL, SAMPLE = {}, {}  # other knobs, of a mistake


def build(published):
  import torch

  made = bagel_shapes.shapes(published, CODEC)
  return bagel_reference.Model({n: torch.zeros(s) for n, s in made.items()}, published)


def load(folder):
  import json

  from safetensors.torch import load_file

  weights = load_file(folder / bagel_reference.FILE)
  inside = load_file(folder / bagel_reference.CODEC_FILE)
  weights |= {f"{bagel_reference.CODEC}/{n}": x for n, x in inside.items()}
  about = json.loads((folder / "config.json").read_text())
  for name in ("llm_config", "vit_config"):  # as our export writes them
    if (folder / f"{name}.json").is_file():
      about[name] = json.loads((folder / f"{name}.json").read_text())
  llm = about["llm_config"]
  llm.setdefault("rope_theta", llm.get("rope_parameters", {}).get("rope_theta"))
  return bagel_reference.Model(weights, about)


def check_words(model):
  """The first set of weights alone is a Qwen3 whose maps but the last have biases."""
  import torch
  from transformers import Qwen3Config, Qwen3ForCausalLM

  llm, before = model.llm, "language_model."
  rope = {"rope_type": "default", "rope_theta": llm["rope_theta"]}
  head, depth = (
    llm["hidden_size"] // llm["num_attention_heads"],
    llm["num_hidden_layers"],
  )
  about = Qwen3Config(
    **{n: llm[n] for n in LLM if n not in ("rope_theta", "hidden_act")}, head_dim=head, attention_bias=True, rope_parameters=rope,
    attn_implementation="eager",
  )  # fmt: skip
  own = {n.removeprefix(before): x for n, x in model.w.items() if n.startswith(before)}
  own = {n: x for n, x in own.items() if bagel_reference.SECOND not in n}
  for i in range(depth):
    own[f"model.layers.{i}.self_attn.o_proj.bias"] = torch.zeros(llm["hidden_size"])
  theirs = Qwen3ForCausalLM(about).eval()
  theirs.load_state_dict(own)
  ids = torch.from_numpy(numbers.whole("tokens", llm["vocab_size"], 23)).long()
  wanted = theirs(ids[None]).logits[0]
  error = abs(model.heads([("ids", ids.tolist())])[0] - wanted).max()
  assert error < BOUND / 10 * abs(wanted).max(), error


def seen(model, pixels):
  """A picture at the size that the encoder reads."""
  from PIL import Image

  side = model.published["vit_image_size"]
  picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
  return "picture", np.asarray(picture)


def shown(model, pixels):
  """Pieces of a picture that is shown where one is drawn."""
  return [("latents", model.latents(pixels), 0.0, False), seen(model, pixels)]


def peer(model, inputs):
  import torch

  pixels, kind = inputs["pixels"], str(inputs["kind"])
  noise = torch.from_numpy(inputs["noise"])
  if kind == "asked":
    count = family_decoders.WRITTEN
    rows = [
      [seen(model, x), model.said(q.encode())]
      for x, q in zip(pixels, QUESTIONS, strict=True)
    ]
    return {"tokens": np.array([model.write(x, count) for x in rows])}
  if kind == "thought":
    return thought(model, inputs)
  if kind in ("drawn", "edited"):
    made = []
    for x, words, picture in zip(noise, WORDS, pixels, strict=True):
      if kind == "drawn":
        how = [], words.encode(), SCALE, 1.0, LOW, "global"
      else:
        before = shown(model, picture)
        how = before, words.encode(), SCALE, PICTURE_SCALE, 0.0, "text_channel"
      made.append(model.draw(x, *how, STEPS))
    pixels = np.stack([model.show(x) for x in made])
    return {"latents": np.stack(made), "pixels": pixels}
  check_words(model)
  start = ("ids", [model.mark["start"]])
  both = [seen(model, x) for x in pixels]
  read, _ = model.heads([*both, model.said(QUESTIONS[0].encode()), start])
  said, target = model.said(WORDS[0].encode()), model.latents(pixels[1])
  image = ("latents", (1 - TIME) * target + TIME * noise[0], TIME)
  drawn, velocity = model.heads([*shown(model, pixels[0]), said, (*image, False)])
  end = ("ids", [model.mark["end"]])
  after = [("latents", target, 0.0, False), end]
  copies, _ = model.heads([said, (*image, True), *after])
  alone, moves = model.heads([said, (*image, True)])
  return {
    "read": read.numpy(), "drawn": drawn.numpy(), "velocity": velocity.numpy(),
    "copies": copies.numpy(), "moves": moves.numpy(),
  }  # fmt: skip


def thought(model, inputs):
  """Words are written about a picture and what is asked, then it is changed."""
  import torch

  tokens, made, before = [], [], [model.said(FIRST.encode())]
  for x, words, pixels in zip(inputs["noise"], WORDS, inputs["pixels"], strict=True):
    picture, mark = shown(model, pixels), model.mark
    tokens.append(model.write([*before, *picture, model.said(words.encode())], THOUGHT))
    ids = "ids", [mark["start"], *tokens[-1], mark["end"]]
    how = SCALE, PICTURE_SCALE, 0.0, "text_channel", STEPS, before, [ids]
    made.append(model.draw(torch.from_numpy(x), picture, words.encode(), *how))
  return {"tokens": np.array(tokens), "latents": np.stack(made)}


def ours(config, params, inputs):
  model = dataclasses.replace(config.model, **MODEL)
  config = dataclasses.replace(config, model=model)
  builder, kind = family_decoders.everything(config), str(inputs["kind"])
  if kind in ("drawn", "edited", "thought"):
    return drawn(config, params, builder, inputs, kind)
  if kind == "asked":
    return family_showo.answers(config, params, builder, inputs["pixels"])
  return rows(config, params, builder, inputs)


def rows(config, params, builder, inputs):
  """Logits of three rows, and velocities of the noised images of two."""
  from unijax.data.document import Document, Image, Text, Turn
  from unijax.data.rows import stack
  from unijax.infer import prompts

  first, second = map(prompts.picture, inputs["pixels"])
  ask = prompts.user([first, second, Text(QUESTIONS[0])], chat=True)
  edit = prompts.user([first, Text(WORDS[0])], chat=True)
  target = Image(lambda: inputs["pixels"][1], *inputs["pixels"][1].shape[:2])
  again = (Turn("user"), Text(WORDS[0]), Turn("assistant"), target, Text("x"))
  read = builder.layout(Document(tuple(ask), id=0), open_end=True)
  draws = builder.layout(Document(tuple(edit), id=0), open_end=True, draws=True)
  draws.add_tokens([builder.vocabulary.special.boi], 0.0)
  builder.add_span(draws, builder.patches(target), 1.0)
  copies = builder.layout(Document(again, id=0), without_text=False)
  last = len(copies) - 1  # "x" is there for the copy alone
  copies = copies.part(0, last)
  copies.tokens[-1] = builder.vocabulary.special.eos
  made = stack([builder.row([x]) for x in (read, draws, copies)])
  noise, real = inputs["noise"][0], made.noise_limit_BT > 0
  time = np.where(real & (made.patch_BT >= 0), TIME, 0.0).astype(np.float32)
  noised = (1 - TIME) * made.patches_BTC + TIME * noise[made.patch_BT]
  noised = np.where((time > 0)[..., None], noised, made.patches_BTC)
  logits, velocity = family_decoders.both_heads(config, params, made, noised, time)
  return {
    "read": logits[0, : len(read)], "drawn": logits[1, : len(draws)],
    "velocity": velocity[1][time[1] > 0], "copies": logits[2, : len(copies)],
    "moves": velocity[2][time[2] > 0],
  }  # fmt: skip


def drawn(config, params, builder, inputs, kind: str):
  """What sampling draws from given noise, and perhaps writes before."""
  from unijax.data.document import Text
  from unijax.infer import prompts
  from unijax.infer.generate import Prompt

  knobs, thinks, edits = {"steps": STEPS}, kind == "thought", kind != "drawn"
  if thinks:
    knobs |= {"think_draw": FIRST, "max_text_tokens": THOUGHT, "temperature": 0.0}
  if edits:
    knobs |= {"guidance_image": PICTURE_SCALE, "guidance_renorm": "text_patch",
              "guidance_low": 0.0}  # fmt: skip
  data = dataclasses.replace(config.data, seq_len=128)
  config = from_noise.sampled(config, **{**knobs, **SAMPLE})
  config = dataclasses.replace(config, data=data)
  asked = [
    Prompt(
      prompts.user([*[prompts.picture(x)] * edits, Text(words)], chat=True), "image",
      stop_after_image=True, think=thinks,
    )
    for words, x in zip(WORDS, inputs["pixels"], strict=True)
  ]  # fmt: skip
  if not thinks:
    return from_noise.drawn(config, params, builder, asked, inputs["noise"])
  made = from_noise.rows(config, params, builder, asked, inputs["noise"])
  tokens = np.array([row.tokens for row in made])
  return {"tokens": tokens, "latents": from_noise.latents(made)}


def inputs(kind: str):
  def make():
    pixels = numbers.picture("pixels", 2, SIDE, SIDE, 3)
    return {
      "pixels": (127.5 + 127.5 * pixels).astype(np.uint8), "kind": np.array(kind),
      "noise": numbers.normal("noise", 2, (SIDE // 4) ** 2, 16),
    }  # fmt: skip

  return make


SIDE = 12  # pixels: 3 x 3 patches of 2 x 2 latents of 2 pixels, of 5 x 5 places
CODEC = {
  "numbers": 4, "widths": [32, 64], "blocks": [1, 1], "decoder_widths": [32, 64],
  "decoder_blocks": [2, 2],
}  # fmt: skip
LLM = {
  "hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2,
  "intermediate_size": 72, "num_hidden_layers": 2, "vocab_size": 263,
  "rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 160,
  "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip
VIT = {
  "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 36,
  "num_hidden_layers": 3, "patch_size": 3, "layer_norm_eps": 1e-6,
}  # fmt: skip
SMALL = {
  "model_type": "bagel", "llm_config": LLM, "vit_config": VIT, "vit_layers": 2,
  "vit_places": 36, "vit_image_size": 15, "latent_places": 25, "latent_numbers": 16,
  "image_size": SIDE,
}  # fmt: skip


def model(**knobs):
  return Wrong(patch={"tests.interop.family_bagel.MODEL": knobs})


def sampled(**knobs):
  return Wrong(patch={"tests.interop.family_bagel.SAMPLE": knobs})


EPSILON = {"llm_config": {**LLM, "rms_norm_eps": 1e-5}}
CASES = (
  Case("bagel-loud", "bagel", SMALL, "loud", inputs("rows"),
       {"waves": model(time_scale=1000.0), "places": model(positions="sequential")}, slow=True),
  Case("bagel-quiet", "bagel", SMALL, "quiet", inputs("rows"),
       {"epsilon": Wrong(published=EPSILON)}, slow=True),
  Case("bagel-text", "bagel", SMALL, "loud", inputs("asked"), slow=True),
  Case("bagel-draw", "bagel", SMALL, "loud", inputs("drawn"),
       {"renorm": sampled(guidance_renorm="none")},
       bounds={"latents": 1e-3, "pixels": 1e-3}, slow=True),
  Case("bagel-edit", "bagel", SMALL, "loud", inputs("edited"),
       {"pictures": sampled(guidance_image=1.0)},
       bounds={"latents": 1e-3, "pixels": 1e-3}),
  Case("bagel-think", "bagel", SMALL, "loud", inputs("thought"),
       {"first": sampled(think_draw="")}, bounds={"latents": 1e-3, "tokens": 0.0},
       slow=True),
)  # fmt: skip
