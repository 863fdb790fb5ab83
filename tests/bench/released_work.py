"""What both sides of `released.py` share: sizes, prompts, and the figures.

Only NumPy and the standard library are imported here.
"""

import dataclasses

import numpy as np
import rounds

CODES = 216  # of the codec "blocks"; they are the last ids of the vocabulary
STRIDE = 4  # pixels of a code along a side
BOI = 3  # id that begins an image
FIRST = 4  # least id of a prompt
ROWS = (1, 8)


def _field(default, said: str):
  return dataclasses.field(default=default, metadata={"help": said})


@dataclasses.dataclass(frozen=True)
class Work(rounds.Arguments):
  """Sizes of a decoder with a gated MLP, and what is asked of it."""

  folder: str = _field("", "with the released weights")
  width: int = _field(768, "of the residual")
  depth: int = _field(12, "layers")
  heads: int = _field(12, "of width / heads each")
  kv_heads: int = _field(4, "key and value heads")
  hidden: int = _field(2048, "units of the MLP")
  vocab: int = _field(32000, "rows of the token table")
  prompt: int = _field(16, "tokens of a prompt")
  text: int = _field(64, "tokens written after it")
  grid: int = _field(24, "codes of an image along a side")
  guidance: int = _field(5, "scale of guidance of codes")
  prefill: int = _field(512, "tokens of the prompt that is only read")
  threads: int = _field(2, "CPU threads")

  @property
  def first_code(self) -> int:
    """Id of code 0."""
    return self.vocab - CODES

  def published(self) -> dict:
    """The config.json of the release."""
    return {
      "architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "vocab_size": self.vocab, "hidden_size": self.width,
      "num_hidden_layers": self.depth, "num_attention_heads": self.heads,
      "num_key_value_heads": self.kv_heads, "intermediate_size": self.hidden,
      "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1e4,
      "max_position_embeddings": max(self.prefill, self.prompt + 2 + self.grid**2),
      "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip

  def prompts(self, rows: int, length: int) -> np.ndarray:
    """int32 [rows, length]: the same on both sides."""
    rng = np.random.default_rng([rows, length])
    return rng.integers(FIRST, self.first_code, (rows, length), np.int32)


def figures(model, work: Work) -> dict:
  """Name -> () -> what was written, a list of ids.

  Args:
    model: has write(prompts, count), draw(prompts) and read(prompt): ids [rows, count],
      codes [rows, grid^2], and the likeliest next id as [1].
  """

  def text(rows: int):
    return lambda: model.write(work.prompts(rows, work.prompt), work.text)

  def image(rows: int):
    return lambda: model.draw(work.prompts(rows, work.prompt))

  found = {f"text_{rows}": text(rows) for rows in ROWS}
  found |= {f"image_{rows}": image(rows) for rows in ROWS}
  found["prefill"] = lambda: model.read(work.prompts(1, work.prefill))
  return found


def timed(figure):
  """() -> seconds that a figure took."""
  return lambda: rounds.timed(figure)


def ids(made) -> list[int]:
  """What a figure wrote, for the other side to be compared with."""
  return np.asarray(made).reshape(-1).tolist()
