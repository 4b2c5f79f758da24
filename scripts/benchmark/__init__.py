"""Benchmarks: one module each with `add_flags(parser)` and `run(args)`; `__main__` lists them."""
