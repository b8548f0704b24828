"""The benchmark: training side by side with JAX and PyTorch, each program in its own process.

`processes` starts the programs and lets them take turns, `worker` is what runs in each process,
`reference` is what they must agree on, `ours`, `jax_peer` and `torch_peer` are the programs that
train, `stream` is one that filters, `measures` are what is timed and `summary` the tables of it.
"""
