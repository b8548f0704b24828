"""What the methods of a Keras model are given: resolved, or refused in a line of its own."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import callbacks as own_callbacks
from tfp_dvbf import errors

NOT_TAKEN = ("y", "sample_weight", "class_weight")  # Of the arguments of `fit` and `evaluate`.
OPTIMIZERS = {
    name.lower(): each
    for name, each in vars(tf_keras.optimizers).items()
    if isinstance(each, type) and issubclass(each, tf_keras.optimizers.Optimizer)
}
OPTIMIZERS.pop("optimizer")  # Their base class.


def check_policy(dtype=None):
    """Raises ValueError unless the policy of tf_keras, and `dtype` if it is given, are float32."""
    for policy in [tf_keras.mixed_precision.global_policy(), dtype]:
        if not isinstance(policy, (type(None), str, tf.DType, tf_keras.mixed_precision.Policy)):
            raise ValueError(f"`dtype` must be float32 for a DVBF; got {_kind(policy)}.")
        name = getattr(policy, "name", policy)
        if name not in (None, "float32"):
            raise ValueError(
                f"The policy of tf_keras and `dtype` must be float32 for a DVBF; got {name}."
            )


def check_no_targets(**arguments):
    """Raises ValueError if Keras is given targets, or weights of samples or classes."""
    given = [name for name in NOT_TAKEN if arguments.get(name) is not None]
    if given:
        raise ValueError(
            f"`{given[0]}` must be left out; a DVBF trains its own bound on a dictionary "
            "{'observations': ..., 'controls': ...}."
        )


def resolve_optimizer(optimizer):
    """Returns an optimizer of tf_keras that can be built before its first step.

    On Apple Silicon Keras takes a name for one of its old optimizers, which cannot.

    Args:
      optimizer: An optimizer, its name or its Keras config.

    Raises:
      ValueError: If it is anything else.
    """
    if isinstance(optimizer, str):
        errors.check_choice("optimizer", optimizer.lower(), OPTIMIZERS)
        return OPTIMIZERS[optimizer.lower()]()
    if isinstance(optimizer, dict):
        optimizer = _deserialized(optimizer)
    if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
        raise ValueError(
            "`optimizer` must be one of tf_keras.optimizers; got "
            f"{type(optimizer).__name__} of tf_keras.optimizers.legacy."
        )
    if not isinstance(optimizer, tf_keras.optimizers.Optimizer):
        raise ValueError(f"`optimizer` must be one of tf_keras; got {_kind(optimizer)}.")
    return optimizer


def _deserialized(config):
    try:
        return tf_keras.optimizers.deserialize(config, use_legacy_optimizer=False)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = errors.first_line(error)
        raise ValueError(f"`optimizer` must be a config of one of tf_keras; {reason}") from error


def check_callbacks(callbacks):
    """Raises ValueError unless callbacks, one or a list or None, are those of tf_keras."""
    kinds = tf_keras.callbacks.Callback, tf_keras.callbacks.CallbackList
    for callback in [] if callbacks is None else tf.nest.flatten(callbacks):
        if not isinstance(callback, kinds):
            raise ValueError(f"`callbacks` must be callbacks of tf_keras; got {_kind(callback)}.")


def guarded(callbacks):
    """Returns callbacks of tf_keras, a guard against values that are not finite first."""
    check_callbacks(callbacks)
    if isinstance(callbacks, tf_keras.callbacks.CallbackList):
        return callbacks
    callbacks = tf.nest.flatten(callbacks) if callbacks is not None else []
    guards = [own_callbacks.TerminateOnNonFinite()]
    if any(isinstance(callback, own_callbacks.TerminateOnNonFinite) for callback in callbacks):
        guards = []
    return [*guards, *callbacks]


def _kind(value):
    """Returns the class of a value, with the package that it comes from."""
    return f"{type(value).__name__} of {type(value).__module__.split('.')[0]}"
