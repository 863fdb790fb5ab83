"""What lies beside the weights of a release and is about text: tokenizer and ids.

Chat templates are programs in the releases; here they are text, in which a system's
file looks for what it knows, and nothing runs them.
"""

import pathlib
import shutil
from typing import Any

from unijax.data.tokenizer import HuggingFaceTokenizer, make_tokenizer
from unijax.interop import beside as releases

TOKENIZERS = (
  "tokenizer.json",
  "tokenizer.model",
  "spiece.model",
)  # the first that is there
# What a run keeps of a release, to go back into it when it is exported.
KEPT = (
  *TOKENIZERS, "tokenizer_config.json", "generation_config.json", "chat_template.jinja",
  "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
  "preprocessor_config.json", "processor_config.json", "chat_template.json",
)  # fmt: skip
FOLDER = "release"  # of a run, with these files
LONGEST = 1 << 20  # characters of a chat template that are looked at


def beside(path: pathlib.Path) -> dict[str, Any]:
  """Fields for a system's `get_config`, each only where the release says it.

    tokenizer.file    path of the tokenizer
    tokenizer.begin   names of the special tokens that it puts before a text, joined
    tokenizer.eos     id of what its settings name as the end
    tokenizer.chat    text of its chat template; "" where it has none
    tokenizer.ends    tuple of ids that end what is generated
    tokenizer.added.NAME   id of a token that stands outside of what was learnt

  Args:
    path: of the weights: a file, or the folder of a release.

  Raises:
    CheckpointError: a file is damaged.
    DataError: the tokenizer is.
  """
  folder = releases.folder(path)
  found: dict[str, Any] = {}
  ends = releases.read_json(folder / "generation_config.json").get("eos_token_id")
  if ends is not None:
    found["tokenizer.ends"] = tuple(ends) if isinstance(ends, list) else (ends,)
  file = next((folder / n for n in TOKENIZERS if (folder / n).is_file()), None)
  if file is None:
    return found
  tokenizer = make_tokenizer(str(file))
  settings = releases.read_json(folder / "tokenizer_config.json")
  found["tokenizer.file"] = str(file)
  found["tokenizer.chat"] = _chat(folder, settings)
  found["tokenizer.begin"] = _begin(tokenizer, settings)
  found |= {f"tokenizer.added.{name}": i for name, i in tokenizer.added.items()}
  eos = tokenizer.marks.get(_name(settings.get("eos_token")))
  if eos is not None:
    found["tokenizer.eos"] = eos
  return found


def keep(path: pathlib.Path, run: pathlib.Path) -> None:
  """Copies what lies beside the weights at `path` into the folder of a run."""
  _copy(releases.folder(path), run / FOLDER)


def give_back(run: pathlib.Path, release: pathlib.Path) -> None:
  """Copies what a run has kept into a release."""
  _copy(run / FOLDER, release)


def _copy(there: pathlib.Path, here: pathlib.Path) -> None:
  for name in KEPT:
    if (there / name).is_file():
      here.mkdir(exist_ok=True)
      shutil.copyfile(there / name, here / name)


def _begin(tokenizer, settings) -> str:
  """What stands before a text: of the file's own rules, or of its settings."""
  names = {i: name for name, i in tokenizer.marks.items()}
  if isinstance(tokenizer, HuggingFaceTokenizer):
    return "".join(names.get(i, "") for i in tokenizer.around_nothing())
  first = _name(settings.get("bos_token")) or "<s>"
  return first if settings.get("add_bos_token", True) else ""


def _chat(folder: pathlib.Path, settings) -> str:
  alone = folder / "chat_template.jinja"
  if alone.is_file():
    return alone.read_text(errors="replace")[:LONGEST]
  of_processor = releases.read_json(folder / "chat_template.json")
  chat = of_processor.get("chat_template") or settings.get("chat_template") or ""
  if isinstance(chat, list):  # several, by name
    named = {c.get("name"): c.get("template") for c in chat if isinstance(c, dict)}
    chat = named.get("default") or ""
  return chat[:LONGEST] if isinstance(chat, str) else ""


def _name(token) -> str:
  """The name of a token, which may be written with its settings."""
  token = token.get("content") if isinstance(token, dict) else token
  return token if isinstance(token, str) else ""
