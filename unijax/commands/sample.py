"""`unijax sample`: one prompt, or a conversation with pictures."""

import pathlib
import sys
import time

import numpy as np
from PIL import Image as Picture

from unijax.asked import asked_file
from unijax.data.document import DataError, Image, Part, Text, Turn
from unijax.data.images import SUFFIXES, Limits, decode, prepare_of
from unijax.infer import conditions, prompts
from unijax.infer.generate import Generated, Prompt
from unijax.infer.load import LoadedRun, load_run

HELP = """Say something and press Enter. Commands:
  /image FILE   show a picture with your next words
  /draw TEXT    ask for a picture, whatever the model would rather do
  /new          forget the conversation
  /quit         leave"""


def run(args) -> dict:
  """Samples from a run as the arguments say; writes PNG files beside --out."""
  args.out = str(asked_file(args.out, "--out", "sample.png", SUFFIXES))
  loaded = load_run(
    args.workdir, args.step, only_sample=True, layers_apart=args.layers_apart
  )
  knobs = {
    name: getattr(args, name)
    for name in (
      "sampler",
      "steps",
      "guidance",
      "guidance_low",
      "guidance_image",
      "guidance_renorm",
      "guidance_told",
      "negative_prompt",
      "temperature",
      "top_k",
      "top_p",
      "min_p",
    )
  }
  pictures = [read_picture(path, loaded) for path in args.image]
  if args.conditions:
    return draw(loaded, knobs, args)
  if args.interactive:
    return Conversation(loaded, knobs, args).run()
  if args.prompt is None and not pictures:
    raise DataError("sample: give --prompt, --image, or --interactive")
  if args.count < 1:
    raise DataError(f"sample: --count must be at least 1, got {args.count}")
  began = time.monotonic()
  parts: list[Part] = list(pictures)
  parts += [Text(args.prompt)] if args.prompt else []
  asked = [
    Prompt(
      prompts.user(parts, loaded.chat), args.begin, seed=args.seed + i, think=args.think
    )
    for i in range(args.count)
  ]
  generator = loaded.generator(args.count, asked[0], **knobs)
  answers = generator.generate(asked, on_image=_watch)
  texts, files = [], []
  for answer in answers:
    texts.append(answer.text)
    files += save_pictures(answer, pathlib.Path(args.out), len(files))
    show(answer, files)
  return {
    "verb": "sample", "texts": texts, "images": files,
    "finished": [a.finished for a in answers],
    "seconds": round(time.monotonic() - began, 2),
  }  # fmt: skip


def draw(loaded: LoadedRun, knobs: dict, args) -> dict:
  """Draws --count pictures of each condition of a file."""
  config = loaded.config
  if config.train.task != "drawing" or config.dit.told != "vectors":
    raise DataError(
      "--conditions: this run is asked in words: use --prompt (dit.told='captions')"
    )
  if args.prompt is not None or args.image or args.interactive:
    raise DataError("--conditions: says all that is drawn; leave out what is asked")
  told, against = conditions.read(args.conditions, config.dit)
  began = time.monotonic()
  generator = loaded.generator(args.count, **knobs)
  files: list[str] = []
  for number, one in enumerate(told):
    seeds = [args.seed + i for i in range(args.count)]
    other = against[number : number + 1] * args.count
    pictures = generator.draw([one] * args.count, other, seeds, on_image=_watch)
    answer = Generated(pictures, [], True)
    files += save_pictures(answer, pathlib.Path(args.out), len(files))
    show(answer, files)
  return {
    "verb": "sample", "texts": [""] * len(told), "images": files,
    "finished": [True] * len(told), "seconds": round(time.monotonic() - began, 2),
  }  # fmt: skip


def read_picture(path: str, loaded: LoadedRun) -> Image:
  """Reads a picture file, cropped and resized to what the run was trained on."""
  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise DataError(f"--image {path}: {error.strerror}") from error
  config = loaded.config
  prepare = prepare_of(config)
  pixels = decode(content, config.data.image_size, Limits(), path, prepare)
  return prompts.picture(pixels, path)


def save_pictures(answer: Generated, out: pathlib.Path, first: int) -> list[str]:
  """Writes the pictures of one answer, numbered from `first`: out.png, out-1.png, .."""
  out.parent.mkdir(parents=True, exist_ok=True)
  files = []
  for pixels in answer.images:
    number = first + len(files)
    path = out if number == 0 else out.with_stem(f"{out.stem}-{number}")
    Picture.fromarray(pixels).save(path)
    files.append(str(path))
  return files


def show(answer: Generated, files: list[str]) -> None:
  """Prints text as it is and pictures as the names of their files."""
  names = iter(files[len(files) - len(answer.images) :])
  for part in answer.parts:
    print(part if isinstance(part, str) else f"[picture: {next(names)}]")
  if not answer.parts:
    print("(the model ended without a word)")


def _watch(row: int, share: float, pixels: np.ndarray) -> None:
  if row == 0 and sys.stderr.isatty():
    print(f"\rdrawing {share:4.0%}", end="\r", file=sys.stderr, flush=True)


class Conversation:
  """Reads what a person says, answers with text and pictures, and remembers both."""

  def __init__(self, loaded: LoadedRun, knobs: dict, args):
    self.loaded, self.args = loaded, args
    self.generator = loaded.generator(rows=1, **knobs)
    self.history: list[Part] = []
    self.pending: list[Part] = [read_picture(path, loaded) for path in args.image]
    self.files: list[str] = []
    self.turns = 0

  def run(self) -> dict:
    """Talks until /quit or the end of input."""
    if not self.loaded.chat:
      raise DataError("sample: this run was trained on plain documents, without turns")
    print(HELP)
    while True:
      try:
        line = input("you> ").strip()
      except EOFError:
        break
      if line == "/quit":
        break
      try:
        self._line(line)
      except DataError as error:
        print(f"({error})")
    return {"verb": "sample", "turns": self.turns, "images": self.files}

  def _line(self, line: str) -> None:
    command, _, rest = line.partition(" ")
    if command == "/new":
      self.history, self.pending = [], []
    elif command == "/image":
      self.pending.append(read_picture(rest.strip(), self.loaded))
      print("(shown with your next words; an empty line sends it alone)")
    elif command == "/draw":
      self._say(rest, "image")
    elif command.startswith("/"):
      print(HELP)
    elif line or self.pending:
      self._say(line, "auto")

  def _say(self, text: str, begin: str) -> None:
    said = [Turn("user"), *self.pending, *([Text(text)] if text else [])]
    prompt = Prompt(
      [*self.history, *said, Turn("assistant")], begin,
      stop_after_image=begin == "image", seed=self.args.seed + self.turns,
      think=self.args.think,
    )  # fmt: skip
    answer = self.generator.generate([prompt], on_image=_watch)[0]
    self.pending = []
    fresh = save_pictures(answer, pathlib.Path(self.args.out), len(self.files))
    self.files += fresh
    show(answer, fresh)
    replied = [
      Text(p) if isinstance(p, str) else prompts.picture(p) for p in answer.parts
    ]
    self.history += [*said, Turn("assistant"), *replied]
    self.turns += 1
