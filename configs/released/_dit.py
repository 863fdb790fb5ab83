"""Diffusion transformers with joint attention, as pipelines of diffusers have them.

A pipeline is a folder: `transformer`, `vae`, `scheduler`, and encoders of text, which
are not read. Two streams are one block of ours, whose last one gives keys and values
of the condition only; a block of one stream has attention and MLP side by side.
"""

from ml_collections import ConfigDict

from configs import base, ldm
from configs.released import _autoencoder_pipeline, autoencoder_kl
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import COPY, LINEAR, Chunks, Op

FOLDERS = ("transformer", "vae")
CONFIGS = {
  "transformer": "transformer/config.json", "vae": "vae/config.json",
  "scheduler": "scheduler/scheduler_config.json",
}  # fmt: skip
FILE = "diffusion_pytorch_model.safetensors"
OURS_ONLY = ("text/*",)  # an encoder of captions that a run was tuned with
PREFIXES = {"dit": ("transformer/",), "vae": ("vae/",)}
DROPS = (Drop("<vae>*"),)
PARTS = {"codec": ("_autoencoder_pipeline", {"vae": "vae/"})}
SWAPPED = Chunks((1, 0), LINEAR), Chunks((1, 0))  # scale, shift; ours begins with shift
STREAMS = {  # ours -> queries, keys and values, their norms, what follows
  "patch": ("to_{}", "norm_{}", "to_out.0", "ff", "norm1"),
  "condition": (
    "add_{}_proj", "norm_added_{}", "to_add_out", "ff_context", "norm1_context",
  ),
}  # fmt: skip


def both(ours, theirs, ops):
  """Kernel and bias of a linear map, each with its operation."""
  return (
    Key(f"dit/{ours}/kernel", f"<dit>{theirs}.weight", ops[0]),
    Key(f"dit/{ours}/bias", f"<dit>{theirs}.bias", ops[1]),
  )


PLAIN = LINEAR, COPY


def around(enter, leave, entering, leaving):
  """What stands around the blocks.

  Args:
    enter, leave: their names of the maps of patches.
    entering, leaving: operations of these two.
  """
  wave = "time_text_embed"
  return (
    *both("enter", enter, entering),
    *both("time/in", f"{wave}.timestep_embedder.linear_1", PLAIN),
    *both("time/out", f"{wave}.timestep_embedder.linear_2", PLAIN),
    *both("guidance/in", f"{wave}.guidance_embedder.linear_1", PLAIN),
    *both("guidance/out", f"{wave}.guidance_embedder.linear_2", PLAIN),
    *both("pooled_in", f"{wave}.text_embedder.linear_1", PLAIN),
    *both("pooled_out", f"{wave}.text_embedder.linear_2", PLAIN),
    *both("enter_condition", "context_embedder", PLAIN),
    *both("final_modulation/linear", "norm_out.linear", SWAPPED),
    *both("leave", leave, leaving),
  )


def mixed(ours, theirs, names, norms, turned: type[Op] | None = None):
  """Queries, keys and values of one stream.

  Args:
    ours, theirs: of the stream, and of the attention.
    names, norms: templates of their maps, and of the norms of queries and keys.
    turned: makes of an operation one that puts rotary pairs as ours has them.
  """
  turned = turned or (lambda op: op)
  keys = ()
  for name in "qkv":
    ops = (LINEAR, COPY) if name == "v" else (turned(LINEAR), turned(COPY))
    keys += both(f"{ours}/{name}", f"{theirs}.{names.format(name)}", ops)
    if name != "v":
      norm = f"<dit>{theirs}.{norms.format(name)}.weight"
      keys += (Key(f"dit/{ours}/{name}_norm/scale", norm, turned(COPY)),)
  return keys


def double(ours, theirs, turned=None, last: bool = False):
  """Keys of blocks of two streams.

  Args:
    ours, theirs: names of the blocks.
    turned: as for `mixed`.
    last: nothing reads the condition afterwards: it is scaled and shifted alone.
  """
  keys = ()
  for stream, (names, norms, out, mlp, norm) in STREAMS.items():
    keys += mixed(f"{ours}/{stream}", f"{theirs}.attn", names, norms, turned)
    changes = SWAPPED if last and stream == "condition" else PLAIN
    moves = f"{ours}/{stream}_modulation/linear"
    keys += both(moves, f"{theirs}.{norm}.linear", changes)
    keys += both(f"{ours}/{stream}_out", f"{theirs}.attn.{out}", PLAIN)
    keys += both(f"{ours}/{stream}_mlp/up", f"{theirs}.{mlp}.net.0.proj", PLAIN)
    keys += both(f"{ours}/{stream}_mlp/down", f"{theirs}.{mlp}.net.2", PLAIN)
  return keys


def single(ours, theirs, turned=None):
  """Keys of blocks of one stream."""
  return (
    *mixed(f"{ours}/self", f"{theirs}.attn", "to_{}", "norm_{}", turned),
    *both(f"{ours}/modulation/linear", f"{theirs}.norm.linear", PLAIN),
    *both(f"{ours}/up", f"{theirs}.proj_mlp", PLAIN),
    *both(f"{ours}/out", f"{theirs}.proj_out", PLAIN),
  )


OFF = (  # of the scheduler
  "invert_sigmas", "stochastic_sampling", "use_beta_sigmas", "use_exponential_sigmas",
  "use_karras_sigmas",
)  # fmt: skip


def get_config(published, channels: int) -> ConfigDict:
  """Our config of what all of them share.

  Args:
    published: fields of the whole pipeline.
    channels: of the latents that the transformer draws.
  """
  codec = _autoencoder_pipeline.get_config(published).codec
  published.only("vae.latent_channels", channels)
  c = base.get_config()
  c.codec.update(codec)
  c.train.task = "drawing"
  stride = 2 ** (len(codec.multipliers) - 1)
  c.data.update(codec=f"latents:{channels}:{stride}", patch_size=2)
  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": ldm.DRAW}
  c.dit.update(
    conditioning="joint", adaln="block", norm_eps=1e-6, rope_theta=1e4, pooled=True,
    time_waves="sinusoid", time_scale=1000.0, time_features=256, told="vectors",
  )  # fmt: skip
  c.diffusion.update(path="rectified_flow", predict="velocity", time_law="logit_normal")
  c.sample.update(sampler="euler", clip_x0=0.0)
  _schedule(c, published.part("scheduler."))
  return c


def sized(c: ConfigDict, transformer) -> None:
  """Sizes that all of them name alike."""
  heads, head = transformer["num_attention_heads"], transformer["attention_head_dim"]
  c.dit.update(
    width=heads * head, heads=heads, mlp_width=4 * heads * head,
    condition_width=transformer["joint_attention_dim"],
    pooled_width=transformer["pooled_projection_dim"],
  )  # fmt: skip


def _schedule(c: ConfigDict, scheduler) -> None:
  """Times of FlowMatchEulerDiscreteScheduler."""
  scheduler.only("_class_name", "FlowMatchEulerDiscreteScheduler")
  for name in OFF:
    scheduler.only(name, False)
  scheduler.only("shift_terminal", None)
  scheduler.only("time_shift_type", "exponential")
  scheduler.only("num_train_timesteps", 1000)
  shift = scheduler.get("shift", 1.0)
  c.diffusion.time_shift = c.sample.schedule_shift = shift
  if scheduler.get("use_dynamic_shifting", False):
    few, many = (scheduler.get(f"{n}_image_seq_len", x) for n, x in LENGTHS)
    low, high = (scheduler.get(f"{n}_shift", x) for n, x in SHIFTS)
    c.sample.schedule_patches = ((few, low), (many, high))


LENGTHS = ("base", 256), ("max", 4096)
SHIFTS = ("base", 0.5), ("max", 1.15)


def to_published(config) -> dict:
  """Fields of all files but the transformer's."""
  found = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
    "shift": config.diffusion.time_shift,
    "use_dynamic_shifting": bool(config.sample.schedule_patches),
  }  # fmt: skip
  ends = ("base", "max") if config.sample.schedule_patches else ()
  for name, point in zip(ends, config.sample.schedule_patches, strict=True):
    found[f"{name}_image_seq_len"], found[f"{name}_shift"] = point
  vae = autoencoder_kl.to_published(config)
  return {"scheduler": found, "vae": vae | {"sample_size": config.data.image_size}}
