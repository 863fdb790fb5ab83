"""What each branch of guidance is told: a prompt, and what it is contrasted with.

What `sample.think_draw` says stands in all of them, what a row then thinks in the first
alone.
"""

from collections.abc import Sequence

from unijax.config import SampleConfig
from unijax.data.document import Document, Part, Text, Turn
from unijax.data.layout import Layout


def layouts(builder, prompt, sample: SampleConfig, count: int, number: int = 0):
  """Positions of a prompt in each branch: all, the shadow's, those of text alone.

  Args:
    builder: of rows.
    prompt: a `generate.Prompt`.
    sample: says what is added to prompts, and what stands in their place.
    count: of branches.
    number: of the prompt.
  """
  draws = prompt.begin == "image"
  before = (sample.think_draw if draws else sample.think_answer) * prompt.think

  def laid(parts, **more) -> Layout:
    document = Document(tuple(parts), id=number)
    begun = {"without_text": False, "open_end": True, "draws": draws, "before": before}
    return builder.layout(document, **{**begun, **more})

  whole = told(prompt.parts, sample, draws)
  rows = [laid(whole, thinks=prompt.think and draws)]
  if count > 1 and sample.negative_prompt:
    rows.append(laid(against(prompt.parts, sample)))
  elif count > 1:
    rows.append(laid(prompt.parts, without_text=True))
  if count > 2:
    rows.append(laid(whole, without_pictures=True))
  return rows


def told(parts: Sequence[Part], sample: SampleConfig, draws: bool) -> tuple[Part, ...]:
  """A prompt with `sample.prompt_suffix` behind its last text, where it asks for an
  image."""
  last = _last_text(parts)
  if not draws or last < 0 or not sample.prompt_suffix:
    return tuple(parts)
  text = Text(parts[last].text + sample.prompt_suffix, parts[last].loss)
  return (*parts[:last], text, *parts[last + 1 :])


def against(parts: Sequence[Part], sample: SampleConfig) -> tuple[Part, ...]:
  """A prompt whose last text is `sample.negative_prompt`, and which has no other.

  Where it has none, it stands before the model's turn.
  """
  last = _last_text(parts)
  if last < 0:
    end = len(parts)
    last = end - 1 if end and isinstance(parts[-1], Turn) else end
    parts = (*parts[:last], Text(""), *parts[last:])
  said = Text(sample.negative_prompt)
  return tuple(
    said if i == last else p
    for i, p in enumerate(parts)
    if i == last or not isinstance(p, Text)
  )


def _last_text(parts: Sequence[Part]) -> int:
  """Its number; -1 where there is none."""
  return max((i for i, p in enumerate(parts) if isinstance(p, Text)), default=-1)
