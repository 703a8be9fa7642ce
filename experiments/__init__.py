"""The experiments, one module per section of the guide's claims.

`cometbench run` finds every EXPERIMENT here.
"""
