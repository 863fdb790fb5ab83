"""Show-o2 against ours: words about pictures, velocities, and pictures from words.

No library has it: the reference is tests/interop/showo2_reference.py, whose decoder is
Qwen2 of transformers and whose layers are SigLIP's (`check_parts`), with Wan's autoencoder
of diffusers. Our rows are those of our own interleaver from documents, pictures drawn
and read by our own sampling.
"""

import dataclasses

import numpy as np

from tests.interop import (
  family_decoders,
  family_showo,
  from_noise,
  numbers,
  showo2_reference,
  showo2_shapes,
)
from tests.interop.cases import BOUND, Case, Wrong, read_release
from tests.interop.family_showo import QUESTIONS, WORDS

TIME, STEPS, GUIDANCE, SHIFT = 0.3, 6, 5.0, 3.0
MODEL = {}  # knobs, of a mistake
LATENTS, SIDE, STRIDE = 16, 3, 2  # SIDE: patches of a picture, of 2 x 2 latents
SIZES = {
  "width": 32, "kv": 16, "hidden": 48, "vocab": 263, "seen": 144, "head": 24,
  "numbers": 8, "side": SIDE, "latents": LATENTS,
}  # fmt: skip


def build(published):
  import torch
  from diffusers import AutoencoderKLWan

  made = showo2_shapes.shapes(**SIZES)
  codec = AutoencoderKLWan.from_config(published["vae"]).state_dict()
  made |= {f"vae/{n}": tuple(x.shape) for n, x in codec.items()}
  return showo2_reference.Model({n: torch.zeros(s) for n, s in made.items()}, published)


def load(folder):
  weights, published = read_release(folder, "vae")
  rope = published.get("rope_parameters", {})  # as our export writes it
  published.setdefault("rope_theta", rope.get("rope_theta"))
  return showo2_reference.Model(weights, published)


def check_parts(model):
  """Words alone are Qwen2 of transformers, the layers those of its SigLIP."""
  import torch
  from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig
  from transformers.models.siglip.modeling_siglip import SiglipEncoder

  def near(found, wanted):
    error = abs(found - wanted).max()
    assert error < BOUND / 10 * abs(wanted).max(), error

  def own(before):
    found = {n: x for n, x in model.w.items() if n.startswith(before)}
    return {n.removeprefix(before): x for n, x in found.items()}

  rope = {"rope_type": "default", "rope_theta": model.published["rope_theta"]}
  names = [n for n in TEXT if n not in ("rope_theta", "bos_token_id", "eos_token_id")]
  about = Qwen2Config(
    **{n: model.published[n] for n in names}, rope_parameters=rope,
    attn_implementation="eager",
  )  # fmt: skip
  words = Qwen2ForCausalLM(about).eval()
  words.load_state_dict(own("showo."))
  ids = torch.from_numpy(numbers.whole("tokens", SIZES["vocab"], 23)).long()
  near(model.heads([("ids", ids.tolist())])[0], words(ids[None]).logits[0])
  seen = SIZES["seen"]
  eyes = SiglipVisionConfig(
    hidden_size=seen, intermediate_size=seen + 8, num_hidden_layers=2,
    num_attention_heads=seen // showo2_reference.VISION_HEAD,
    attn_implementation="eager",
  )  # fmt: skip
  layers = SiglipEncoder(eyes).eval()
  layers.load_state_dict(own("und_trans."))
  x = torch.from_numpy(numbers.normal("features", SIDE**2, seen))
  near(model.layers(x), layers(x[None]).last_hidden_state[0])


def codec(model):
  """The autoencoder of the library."""
  from diffusers import AutoencoderKLWan

  made = AutoencoderKLWan.from_config(model.published["vae"])
  made.load_state_dict(model.codec())
  return made.eval()


def by_channel(name):
  """A list of the autoencoder's config.json, for [C, h, w]."""
  import torch

  return torch.tensor(VAE[name])[:, None, None]


def latents(model, pixels):
  """[C, h, w] of uint8 [rows, columns, 3]: the mean."""
  import torch

  x = torch.from_numpy(pixels).permute(2, 0, 1)[None, :, None] / 127.5 - 1.0
  mean = codec(model).encode(x).latent_dist.mean[0, :, 0]
  return (mean - by_channel("latents_mean")) / by_channel("latents_std")


def show(model, z):
  """[rows, columns, 3], about -1 .. 1: before the library cuts them there."""
  made, found = codec(model), []
  made.decoder.register_forward_hook(lambda *x: found.append(x[2]))
  z = z * by_channel("latents_std") + by_channel("latents_mean")
  made.decode(z[None, :, None])
  return found[0][0, :, 0].permute(1, 2, 0)


def unpatched(x):
  """Patches [P, (p q c)] -> [C, h, w]."""
  cut = x.reshape(SIDE, SIDE, 2, 2, LATENTS).transpose(4, 0, 2, 1, 3)
  return cut.reshape(LATENTS, 2 * SIDE, 2 * SIDE)


def patches(z):
  """The inverse of `unpatched`."""
  cut = np.asarray(z).reshape(LATENTS, SIDE, 2, SIDE, 2).transpose(1, 3, 2, 4, 0)
  return cut.reshape(SIDE**2, -1)


def peer(model, inputs):
  import torch

  kind = str(inputs["kind"])
  noise = [torch.from_numpy(unpatched(x).copy()) for x in inputs["noise"]]
  if kind == "drawn":
    about = STEPS, GUIDANCE, SHIFT
    drawn = [
      model.draw(w.encode(), z, *about) for w, z in zip(WORDS, noise, strict=True)
    ]
    pixels = np.stack([show(model, z) for z in drawn])
    return {"latents": np.stack([patches(z) for z in drawn]), "pixels": pixels}
  read = [latents(model, x) for x in inputs["pixels"]]
  if kind == "asked":
    rows = [model.asking(z, q.encode()) for z, q in zip(read, QUESTIONS, strict=True)]
    count = family_decoders.WRITTEN
    return {"tokens": np.array([model.write(row, count) for row in rows])}
  check_parts(model)
  asked, _ = model.heads(model.asking(read[0], QUESTIONS[0].encode()))
  m = model.mark
  both, velocity = model.heads(
    [
      ("ids", [m["start"], m["boi"]]), ("image", read[0], 1.0),
      ("ids", [m["eoi"], *WORDS[0].encode(), m["boi"]]), ("image", noise[0], TIME),
    ]
  )  # fmt: skip
  return {
    "read": asked.numpy(), "drawn": both.numpy(), "velocity": patches(velocity),
  }  # fmt: skip


def ours(config, params, inputs):
  model = dataclasses.replace(config.model, **MODEL)
  config = dataclasses.replace(config, model=model)
  builder, kind = family_decoders.everything(config), str(inputs["kind"])
  if kind == "drawn":
    return drawn(config, params, builder, inputs)
  if kind == "asked":
    return family_showo.answers(config, params, builder, inputs["pixels"])
  return rows(config, params, builder, inputs)


def rows(config, params, builder, inputs):
  from unijax.data.document import Document, Text
  from unijax.data.rows import stack
  from unijax.infer import prompts

  read, _ = family_showo.documents(inputs["pixels"])
  shown = prompts.picture(inputs["pixels"][0])
  edit = Document((*prompts.user([shown, Text(WORDS[0])], chat=True),), id=0)
  read = builder.layout(read, open_end=True)
  draws = builder.layout(edit, open_end=True, draws=True)
  draws.add_tokens([builder.vocabulary.special.boi], 0.0)
  builder.add_span(draws, inputs["noise"][0], 1.0)
  batch = stack([builder.row([x]) for x in (read, draws)])
  noised = batch.noise_limit_BT > 0
  time = np.where(noised, 1.0 - TIME, 0.0).astype(np.float32)
  heads = family_decoders.both_heads(config, params, batch, batch.patches_BTC, time)
  there = (batch.patch_BT[1] >= 0) & noised[1]
  logits, velocity = heads
  last = len(draws) - 1  # EOI
  return {
    "read": logits[0, : len(read)], "drawn": logits[1, :last],
    "velocity": -velocity[1, there],
  }  # fmt: skip


def drawn(config, params, builder, inputs):
  """What sampling draws from given noise."""
  from unijax.data.document import Text
  from unijax.infer import prompts
  from unijax.infer.generate import Prompt

  config = from_noise.sampled(config, steps=STEPS)
  asked = [
    Prompt(prompts.user([Text(x)], chat=True), "image", stop_after_image=True)
    for x in WORDS
  ]
  return from_noise.drawn(config, params, builder, asked, inputs["noise"])


def inputs(kind: str):
  def make():
    pixels = numbers.picture("pixels", 2, 2 * STRIDE * SIDE, 2 * STRIDE * SIDE, 3)
    return {
      "pixels": (127.5 + 127.5 * pixels).astype(np.uint8), "kind": np.array(kind),
      "noise": numbers.normal("noise", len(WORDS), SIDE**2, 4 * LATENTS),
    }  # fmt: skip

  return make


VAE = {
  "_class_name": "AutoencoderKLWan", "base_dim": 4, "dim_mult": [1, 2],
  "num_res_blocks": 1, "temperal_downsample": [True], "z_dim": LATENTS,
  "latents_mean": [0.1 * i - 0.8 for i in range(LATENTS)],
  "latents_std": [0.5 + 0.1 * i for i in range(LATENTS)], "scale_factor_spatial": 2,
}  # fmt: skip
TEXT = {
  "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
  "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 263,
  "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 192,
  "tie_word_embeddings": False,
}  # fmt: skip
SMALL = {
  "_class_name": "Showo2Qwen2_5", "llm_model_path": "Qwen/small", **TEXT,
  "add_time_embeds": True, "image_latent_dim": LATENTS, "image_latent_height": SIDE,
  "image_latent_width": SIDE, "patch_size": 2, "num_diffusion_layers": 2, "vae": VAE,
}  # fmt: skip


def model(**knobs):
  return Wrong(patch={"tests.interop.family_showo2.MODEL": knobs})


def everywhere(of_images_BIF, number_BT, elsewhere):
  """`denoiser.spread` that forgets where there is no image."""
  import jax.numpy as jnp

  at = jnp.maximum(number_BT, 0)[..., None]
  return jnp.take_along_axis(of_images_BIF, at, axis=1)


class Swapped:
  """jax.numpy that puts the last of several arrays first."""

  def __getattr__(self, name):
    import jax.numpy as jnp

    if name == "concatenate":
      return lambda parts, axis: jnp.concatenate(parts[::-1], axis=axis)
    return getattr(jnp, name)


CASES = (
  Case("showo2-loud", "showo2", SMALL, "loud", inputs("rows"),
       {"place": model(patch_out="patch"),
        "outside": Wrong(patch={"unijax.nn.denoiser.spread": everywhere})}),
  Case("showo2-quiet", "showo2", SMALL, "quiet", inputs("rows"),
       {"epsilon": Wrong(published={"rms_norm_eps": 1e-5})}, slow=True),
  Case("showo2-text", "showo2", SMALL, "loud", inputs("asked"), slow=True),
  Case("showo2-draw", "showo2", SMALL, "loud", inputs("drawn"),
       {"mask": model(image_mask="causal"), "time": model(time_of="noise"),
        "order": Wrong(patch={"unijax.nn.reading.jnp": Swapped()})},
       bounds={"latents": 1e-3, "pixels": 1e-3}, slow=True),
)  # fmt: skip
