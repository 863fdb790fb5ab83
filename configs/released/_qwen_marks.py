"""Marks of the tokenizer of Qwen2.5 that stand around turns and pictures.

Releases that go on from its language model use these in rows of their own.
"""

# Names of the tokenizer, and their ids where it is not there.
START, END = "<|im_start|>", "<|im_end|>"
BOI, EOI = "<|vision_start|>", "<|vision_end|>"
IDS = {START: 151_644, END: 151_645, BOI: 151_652, EOI: 151_653}


def special(words) -> dict[str, int]:
  """Ids by name; those that such rows do not have are that of padding."""
  vocab = words["vocab_size"]
  found = {}
  for place, (token, usual) in enumerate(IDS.items()):
    usual = usual if usual < vocab else vocab - len(IDS) + place
    found[token] = words.get(f"tokenizer.added.{token}", usual)
  pad = words.get("tokenizer.added.<|endoftext|>", found[END])
  names = {"bos": START, "eos": END, "boi": BOI, "eoi": EOI}
  rest = dict.fromkeys(("pad", "time", "user", "assistant"), pad)
  return {ours: found[theirs] for ours, theirs in names.items()} | rest
