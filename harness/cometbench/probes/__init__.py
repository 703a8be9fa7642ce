"""Functions of probes, one file per thing that is probed (see `cometbench.probe`). Standard library and what is probed only."""
