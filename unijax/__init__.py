"""unijax: unified multimodal foundation models in JAX.

One decoder reads a row: a flat sequence in which every position is a discrete
token or a continuous image patch. Text is trained by next-token prediction,
patches by diffusion, in one forward pass.

  config -> sources -> documents -> rows -> packed batches (`unijax.data`)
         -> corrupt patches, one forward, two losses, update (`unijax.train`)
         -> checkpoint
         -> prefill, decode text, draw image, commit (`unijax.infer`)
         -> exact scores and a report (`unijax.evals`, `unijax.report`)

WORKSPACE.md is the map.
"""

__version__ = "0.1.0"
