"""How variables are read in a loop."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def read_once(*layers):
    """Reads the variables of layers now; within the context that value stands for each of them.

    TensorFlow keeps what a loop computes at every time step for the gradient, and so a copy of each
    variable that is read in the loop: of 50 time steps 50 copies of every kernel, written on the
    way forward and read on the way back. What is read before the loop is kept once.

    The variables must not be assigned to within the context. Those of a `tf.distribute` strategy,
    which differ between replicas, are left alone. While one thread traces a loop in here, no other
    may read the same variables.
    """
    held = []
    try:
        for variable in {id(each): each for layer in layers for each in layer.variables}.values():
            if not isinstance(variable, tf.distribute.DistributedValues):
                variable.value = _returning(tf.convert_to_tensor(variable))
                held.append(variable)
        yield
    finally:
        for variable in held:
            del variable.value  # The method of its class is seen again.


def _returning(value):
    """Returns a function without arguments that returns `value`."""
    return lambda: value
