"""cometbench: measures the cometlog write paths and judges the guide's claims.

The measuring side (`runner`, `workloads`, `subjects`, `native`) imports neither pandas nor
matplotlib; the judging side (`report`, `plots`) reads only what a run has stored.
"""

__version__ = "0.1.0"
