"""Training: losses, the step, the optimizer, the loop."""
