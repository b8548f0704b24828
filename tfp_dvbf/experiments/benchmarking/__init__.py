"""The benchmark: side by side with JAX and PyTorch, each program in its own process.

`processes` starts the programs and lets them take turns, `worker` is what runs in each process,
`agreement` is what they must agree on. `ours`, `jax_peer` and `torch_peer` are the programs that
train, `ours_inference` and `jax_inference` those that generate and filter. `measures`, `quality`
and `call_times` are what is timed, `summary` the tables of it.
"""
