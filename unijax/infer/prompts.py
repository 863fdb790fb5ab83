"""The prompts of the tasks: the beginnings of the documents that training shows."""

import numpy as np

from unijax.data.document import Image, Part, Text, Turn
from unijax.infer.generate import Prompt


def picture(pixels: np.ndarray, name: str = "image") -> Image:
  """Wraps uint8 [h, w, 3] as an image to be read."""
  return Image(lambda: pixels, *pixels.shape[:2], context=True, name=name)


def user(parts: list[Part], chat: bool) -> list[Part]:
  """What a user says, up to where the model begins."""
  return [Turn("user"), *parts, Turn("assistant")] if chat else parts


def draw(text: str, chat: bool, seed: int = 0) -> Prompt:
  """Text -> one image, begun at once."""
  return Prompt(user([Text(text)], chat), "image", stop_after_image=True, seed=seed)


def describe(pixels: np.ndarray, chat: bool, seed: int = 0) -> Prompt:
  """Image -> text."""
  return Prompt(user([picture(pixels)], chat), "text", seed=seed)


def ask(pixels: np.ndarray, question: str, chat: bool, seed: int = 0) -> Prompt:
  """Image and question -> text."""
  return Prompt(user([picture(pixels), Text(question)], chat), "text", seed=seed)


def edit(pixels: np.ndarray, instruction: str, chat: bool, seed: int = 0) -> Prompt:
  """Image and instruction -> the changed image."""
  parts = user([picture(pixels), Text(instruction)], chat)
  return Prompt(parts, "image", stop_after_image=True, seed=seed)
