"""`python -m cometbench` is the `cometbench` command."""

from cometbench.cli import main

if __name__ == "__main__":
    main()
