"""Servers that benchmarks write to: one small file each, behind `service.Service`; each can be used by itself."""
