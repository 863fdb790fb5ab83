"""The peer's side of the bench: transfusion-pytorch 0.20.0 on CPU torch.

Choices, all for the peer's speed where there was one, read in its source:

- float32, eager. It compiles nothing on CPU (flex attention is for CUDA), and its
  forward goes through Python lists, so `torch.compile` is left off, its default.
- For each figure the fastest number of threads, from one to those allowed: small
  products lose more at OpenMP's barriers than they gain.
- Everything else at the library's defaults. Its layers modulate every image position
  by its time through two wide matrices, so that at equal width and depth it has about
  twice the parameters; both sides print their own.
- A row is [text, image, text, image, ..., text] with as many text tokens as make the
  transformer see exactly `length` positions, its own markers included.
- The optimizer is the fused AdamW of torch, after clipping the global gradient norm.
- Sampling is `sample_many`, its batched path, which always uses the cache
  (`sample` is unbatched, and uncached unless asked). Guidance is off.
- Its default solver is torchdiffeq's midpoint rule, two network evaluations a step.
  Here it is Euler, one a step, which the constructor offers: torchdiffeq takes
  `modality_steps` points, so `solver` + 1 points are `solver` evaluations.
- Text is greedy. Untrained weights write an image marker by chance only, so a forward
  hook on the text head forbids special tokens and asks for the image after `text`
  tokens: one addition a token.
"""

import argparse
import os

os.environ.setdefault("TQDM_DISABLE", "1")

import rounds
import torch
from loguru import logger
from torch.utils.flop_counter import FlopCounterMode
from torch_threads import fastest_threads
from transfusion_pytorch import Transfusion


def build(work: rounds.Workload) -> Transfusion:
  """Returns the model, in the shape the library's own image examples use."""
  return Transfusion(
    num_text_tokens=work.vocab,
    dim_latent=work.channels,
    modality_default_shape=(work.grid, work.grid),
    modality_num_dim=2,
    add_pos_emb=True,
    odeint_kwargs=dict(method="euler"),
    transformer=dict(
      dim=work.width,
      depth=work.depth,
      heads=work.heads,
      dim_head=work.width // work.heads,
    ),
  )


def rows(work: rounds.Workload) -> list[list[torch.Tensor]]:
  """Returns a batch of rows of which the transformer sees `length` positions each."""
  # Start and end of the row; for each image the marker of its shape, the shape in
  # letters ("8,8"), start and end. The last position is only predicted, never read.
  markers = 2 + work.images * (3 + len(f"{work.grid},{work.grid}"))
  words = work.length + 1 - markers - work.images * work.patches
  if words < work.images + 1:
    raise SystemExit(f"--length {work.length} leaves no room for text")
  sizes = [words // (work.images + 1)] * work.images
  sizes.append(words - sum(sizes))
  batch = []
  for _ in range(work.batch):
    row = []
    for size in sizes[:-1]:
      row.append(torch.randint(0, work.vocab, (size,)))
      row.append(torch.randn(work.grid, work.grid, work.channels))
    batch.append([*row, torch.randint(0, work.vocab, (sizes[-1],))])
  return batch


class Steer:
  """Makes untrained weights write `text` tokens, one image, and text again."""

  def __init__(self, model: Transfusion, work: rounds.Workload):
    self.start_image = work.text + 1
    self.written = 0
    size = model.to_text_logits.out_features
    self.words = torch.full((size,), float("-inf"))
    self.words[: work.vocab] = 0.0
    self.image = torch.full((size,), float("-inf"))
    self.image[model.som_ids[0]] = 0.0

  def __call__(self, module, inputs, logits):
    """The forward hook: called once for each token of the rows."""
    self.written += 1
    return logits + (self.image if self.written == self.start_image else self.words)


def training(model: Transfusion, work: rounds.Workload):
  """Returns a function that does `updates` updates and returns rows per second."""
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
  batch = rows(work)

  def measure() -> float:
    def updates():
      for _ in range(work.updates):
        loss = model(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    model.train()
    return work.batch * work.updates / rounds.timed(updates)

  return measure


def sampling(model: Transfusion, work: rounds.Workload, batch: int):
  """Returns a function that writes text, an image and text; it returns seconds."""
  prompts = [torch.randint(0, work.vocab, (work.prompt,)) for _ in range(batch)]
  # Tokens, the image's marker and patches, tokens; it stops when above this number.
  last = 2 * work.text + 1 + work.patches - 1

  def measure() -> float:
    steer = Steer(model, work)
    hook = model.to_text_logits.register_forward_hook(steer)
    samples = []

    def sample():
      samples.extend(
        model.sample_many(
          prompts,
          max_length=last,
          text_temperature=0.0,
          modality_steps=work.solver + 1,
          cfg_scale=1.0,
        )
      )

    try:
      seconds = rounds.timed(sample)
    finally:
      hook.remove()
    for parts in samples:
      before, image, after = parts
      lengths = len(before) - 2 - work.prompt, len(after) - 1  # less the markers
      if lengths != (work.text, work.text) or image.tensor[..., 0].numel() != (
        work.patches
      ):
        raise SystemExit(f"the peer wrote {lengths} tokens and {image.tensor.shape}")
    return seconds

  return measure


def gigaflops_per_row(model: Transfusion, work: rounds.Workload) -> float:
  """Returns the matrix products of one row's forward and backward, in 1e9 FLOPs."""
  model.train()
  with FlopCounterMode(display=False) as counter:
    model(rows(work)).backward()
  model.zero_grad(set_to_none=True)
  return counter.get_total_flops() / work.batch / 1e9


def count_evaluations(model: Transfusion, measure) -> dict[str, int]:
  """Returns how many times the transformer ran, by what it read."""
  counts = {}

  def count(module, inputs, *unused):
    positions = inputs[0].shape[1]
    counts[f"{positions} positions"] = counts.get(f"{positions} positions", 0) + 1

  hook = model.transformer.register_forward_pre_hook(count)
  measure()
  hook.remove()
  return counts


def main() -> None:
  """Serves rounds on stdin; see `rounds`."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  rounds.add_arguments(parser)
  work = rounds.parse(parser.parse_args())
  torch.manual_seed(0)
  logger.remove()
  model = build(work)
  figures = {
    "train": training(model, work),
    "sample_1": sampling(model, work, 1),
    "sample_8": sampling(model, work, 8),
  }
  threads = {}
  for name, measure in figures.items():
    figures[name], threads[name] = fastest_threads(
      measure, work.threads, less_is_faster=name != "train"
    )
  about = {
    "name": "transfusion-pytorch 0.20.0",
    "torch": torch.__version__,
    "parameters": sum(p.numel() for p in model.parameters()),
    "threads": threads,
    "train_gflop_per_row": gigaflops_per_row(model, work),
    "evaluations": {
      name: count_evaluations(model, measure) for name, measure in figures.items()
    },
  }
  rounds.serve(about, figures)


if __name__ == "__main__":
  main()
