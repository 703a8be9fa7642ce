"""The chapters of the report, one module each; `cometbench.chapter` finds them and puts them in order."""
