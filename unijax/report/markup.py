"""Builds HTML that is safe by construction: text is escaped unless it is `Html`."""

import base64
import functools
import html
import io
import math
import re
from collections.abc import Iterable

import numpy as np
from PIL import Image

_VOID = frozenset({"img", "meta"})
# Characters that HTML forbids, and halves of surrogate pairs that UTF-8 cannot hold.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Html(str):
  """Markup. Only `el`, `join` and this package's blocks make it."""

  __slots__ = ()


Child = str | float | None | Iterable["Child"]


def el(tag: str, *children: Child, **attributes: str | float | bool | None) -> Html:
  """Returns an element.

  Args:
    tag: element name, HTML or SVG.
    *children: text (escaped), numbers, `Html` (placed as it is), None (nothing), or
      iterables of these.
    **attributes: values are escaped; a trailing underscore is dropped (`class_`) and
      inner ones become hyphens (`stroke_width`); None and False leave it out.
  """
  parts = [tag]
  for key, value in attributes.items():
    key = key.rstrip("_").replace("_", "-")
    if value is True:
      parts.append(key)
    elif value is not None and value is not False:
      parts.append(f'{key}="{_escape(value)}"')
  opening = f"<{' '.join(parts)}>"
  return Html(opening if tag in _VOID else f"{opening}{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
  """Returns the children one after the other; see `el`."""
  return Html("".join(map(_child, children)))


def _child(child: Child) -> str:
  if child is None:
    return ""
  if isinstance(child, Html):
    return child
  if isinstance(child, str | int | float | np.generic):
    return _escape(child)
  return join(*child)


def _escape(value: object) -> str:
  return html.escape(_FORBIDDEN.sub("\ufffd", str(value)))


def number(value: float | None, percent: bool = False) -> str:
  """Returns a number for people: three significant digits, thousands grouped.

  Args:
    value: None and NaN give "n/a".
    percent: `value` is a fraction, shown as a percentage with one decimal.
  """
  if value is None or math.isnan(value):
    return "n/a"
  if math.isinf(value):
    return "∞" if value > 0 else "−∞"
  if percent:
    text = f"{100 * value:.1f}\u00a0%"  # a space that does not break
  elif value == 0:
    text = "0"
  elif float(value).is_integer() and abs(value) < 1e15:
    text = f"{int(value):,}"
  elif abs(value) < 1e-3 or abs(value) >= 1e7:
    text = f"{value:.2e}"
  else:
    text = f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
  return text.replace("-", "−", 1) if text.startswith("-") else text


def picture(pixels: np.ndarray | None, alt: str, size: int = 128) -> Html:
  """Returns an image inside the page, or an empty frame when `pixels` is None.

  Args:
    pixels: uint8 [height, width, 3] RGB or [height, width] grey.
    alt: what it shows, for those who cannot see it.
    size: shown width in CSS pixels; multiples of the picture's are unblurred.

  Raises:
    ValueError: `pixels` has another type or shape.
  """
  if pixels is None:
    return el("span", "no picture", class_="absent", style=f"width:{size}px")
  pixels = np.asarray(pixels)
  grey, colour = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[-1] == 3
  if pixels.dtype != np.uint8 or not (grey or colour) or 0 in pixels.shape:
    raise ValueError(
      f"report: picture {alt!r} must be uint8 [height, width, 3] or [height, width], "
      f"got {pixels.dtype} {list(pixels.shape)}"
    )
  whole_steps = size > pixels.shape[1] and size % pixels.shape[1] == 0
  uri = _png(pixels.tobytes(), pixels.shape)
  return el(
    "img", src=uri, alt=alt, width=size, class_="crisp" if whole_steps else None
  )


@functools.lru_cache(maxsize=512)
def _png(data: bytes, shape: tuple[int, ...]) -> str:
  file = io.BytesIO()
  Image.fromarray(np.frombuffer(data, np.uint8).reshape(shape)).save(
    file, "PNG", optimize=True
  )
  return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
