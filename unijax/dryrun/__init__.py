"""The dry run: what a pod that nobody has here would do with a config.

The real step is compiled by the real TPU compiler for a described topology; memory,
collectives and the compiler's own estimates are read from the result, model FLOPs are
counted by hand, and a roofline gives floors. It never predicts a speed.
"""
