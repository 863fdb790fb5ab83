"""The peer's side of `released.py`: transformers on CPU torch, eager, with its cache.

Choices, all for the peer's speed where there was one:

- float32, `torch.inference_mode`; attention by torch's fused kernel (sdpa), the default.
- For each figure the fastest number of threads, from one to those allowed.
- Text: `generate`, greedy, with its default growing cache.
- Images: what the repositories of models with guidance over codes do: rows with the
  prompt and rows without in a batch, the latter padded on the left; logits of the codes
  alone, u + s (c - u), the likeliest. Only the last position's logits are computed.
- A prompt that is only read is one call, with a cache, and the last position's logits.
"""

import argparse

import numpy as np
import released_work
import rounds
import torch
import transformers
from torch_threads import fastest_threads
from transformers import AutoModelForCausalLM


class Model:
  """See `released_work.figures`."""

  def __init__(self, model, work: released_work.Work):
    self.model, self.work = model, work
    model.generation_config.eos_token_id = None

  @torch.inference_mode()
  def write(self, prompts, count: int):
    ids = torch.from_numpy(prompts).long()
    made = self.model.generate(
      ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
      use_cache=True, pad_token_id=0,
    )  # fmt: skip
    return made[:, ids.shape[1] :].numpy()

  @torch.inference_mode()
  def draw(self, prompts):
    count, first = self.work.grid**2, self.work.first_code
    rows = np.full((2, len(prompts), prompts.shape[1] + 1), released_work.BOI, np.int64)
    rows[0, :, :-1] = prompts
    mask = torch.ones(rows.shape, dtype=torch.long)
    mask[1, :, :-1] = 0
    ids, mask = torch.from_numpy(rows).flatten(0, 1), mask.flatten(0, 1)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    cache, codes = None, []
    while len(codes) < count:
      made = self.model(
        ids, attention_mask=mask, position_ids=position, past_key_values=cache,
        use_cache=True, logits_to_keep=1,
      )  # fmt: skip
      cache = made.past_key_values
      told = made.logits[:, -1, first : first + released_work.CODES]
      told, shadow = told.chunk(2)
      code = (shadow + self.work.guidance * (told - shadow)).argmax(-1)
      codes.append(code)
      ids = (first + code).repeat(2)[:, None]
      mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=torch.long)], dim=1)
      position = position[:, -1:] + 1
    return torch.stack(codes, dim=1).numpy()

  @torch.inference_mode()
  def read(self, prompt):
    ids = torch.from_numpy(prompt).long()
    return self.model(ids, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1)


def main() -> None:
  """Serves rounds on stdin; see `rounds`."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  rounds.add_arguments(parser, released_work.Work)
  work = rounds.parse(parser.parse_args(), released_work.Work)
  torch.set_num_threads(work.threads)
  model = AutoModelForCausalLM.from_pretrained(work.folder, dtype=torch.float32).eval()
  figures = released_work.figures(Model(model, work), work)
  wrote = {name: released_work.ids(make()) for name, make in figures.items()}
  measures, threads = {}, {}
  for name, figure in figures.items():
    measures[name], threads[name] = fastest_threads(
      released_work.timed(figure), work.threads, less_is_faster=True
    )
  about = {
    "name": f"transformers {transformers.__version__}", "torch": torch.__version__,
    "attention": model.config._attn_implementation, "threads": threads,
    "parameters": sum(p.numel() for p in model.parameters()), "wrote": wrote,
  }  # fmt: skip
  rounds.serve(about, measures)


if __name__ == "__main__":
  main()
