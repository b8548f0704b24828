"""What all parts of a model have in common."""

from typing import NamedTuple

import tf_keras


class Spec(NamedTuple):
    """The sizes that a model builds its parts with.

    Attributes:
      observation_shape: Shape of x[t], such as (3,) or (16, 16, 1).
      control_dim: Size du of u[t], 0 where there are no controls.
      state_dim: Size dz of z[t].
      feature_dim: Size dh of the encoder's features h[t]; None for the parts that see none.
      seed: Seed of the initial weights, or None, with which they differ from part to part.
    """

    observation_shape: tuple
    control_dim: int
    state_dim: int
    feature_dim: int | None = None
    seed: int | None = None

    @property
    def observation_size(self):
        """The number of values of an observation."""
        size = 1
        for dim in self.observation_shape:
            size *= dim
        return size


class Part(tf_keras.layers.Layer):
    """Base of the parts of a model: its transition, emission, encoder and posteriors.

    A part is made with its own settings and without sizes. The model that it is given to calls
    `build(spec)` once, in its own constructor, and owns the part from then on; another model
    refuses it. A class that is registered with `tf_keras.utils.register_keras_serializable` and
    whose `get_config` returns the arguments of its constructor is saved and loaded like ours.
    """

    def build(self, spec):
        """Makes the weights and networks for the sizes of a `Spec`; overriding methods end here."""
        self.spec = spec
        super().build(None)

    def shift_noise(self, amount):
        """Adds `amount` to the raw noise scales, from which `networks.positive` makes scales.

        What lies above a noise floor is multiplied by about exp(amount) where it is far below 1.
        A part with such scales overrides this, for `evaluation.recalibrate`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `shift_noise`")

    def get_build_config(self):
        """Returns None: the model builds its parts, when it is loaded too."""
        return None
