"""`python -m unijax`: the same as the `unijax` command."""

from unijax.cli import main

if __name__ == "__main__":
  main()
