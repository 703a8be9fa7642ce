"""Fuzz one target: started by ``run.py`` with the sanitizers' runtime preloaded, the target's name and libFuzzer's options."""

import sys

import atheris

with atheris.instrument_imports(include=["cometlog"]):
    from targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
