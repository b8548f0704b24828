"""What a trained model infers from observations: latent states, missing frames."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf.data import checks
from tfp_dvbf.inference import rollout


class Inference:
    """The methods of `DVBF` that draw from its posterior."""

    def filter(self, observations, controls, num_samples=1, seed=None, mask=None):
        """Draws latent trajectories from the posterior q(z[0:T] | x[0:T], u[0:T-1]).

        Args:
          observations: x[0:T], [batch, time, dx].
          controls: u[0:T-1], [batch, time - 1, du]; a last control is ignored.
          num_samples: Draws for each sequence.
          seed: Seed of the draws; None draws a new one.
          mask: Whether each frame is there, [batch, time], or None where all are. What stands in
            a missing frame has no effect and may be NaN.

        Returns:
          A `Trajectory` of `num_samples` samples and T steps.

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value.
        """
        batch = self._check_batch(observations, controls, mask)
        num_samples = checks.check_num_samples(num_samples)
        return self._filter(batch, tf.constant(num_samples), rollout.stateless_seed(seed))

    def impute(self, observations, controls, mask, num_samples=1, seed=None):
        """Draws the missing frames; arguments as for `filter`.

        With the encoder "smoother" the draws agree with the frames on both sides of a gap, with
        "filter" with those before it.

        Returns:
          A `Trajectory` whose `observations` are the given ones where `mask` is True.
        """
        batch = self._check_batch(observations, controls, mask)
        num_samples = checks.check_num_samples(num_samples)
        drawn = self._filter(batch, tf.constant(num_samples), rollout.stateless_seed(seed))
        present = True if batch.mask is None else batch.mask[..., np.newaxis]
        return drawn._replace(
            observations=tf.where(present, batch.observations, drawn.observations)
        )

    def reconstruct(self, observations, controls, mask=None):
        """Decodes the posterior's trajectory for zero noise; arguments as for `filter`.

        Returns:
          A `Trajectory` of one sample; its `observations` are the means.
        """
        return self._reconstruct(self._check_batch(observations, controls, mask))

    @tf.function(reduce_retracing=True)
    def _filter(self, batch, num_samples, seed):
        noise_seed, seed = tfp.random.split_seed(seed)
        shape = tf.concat([[num_samples], self._noise_shape(batch)], axis=0)
        batch = batch.repeat(num_samples)
        noise = tf.random.stateless_normal(self._noise_shape(batch), noise_seed)
        states = self._sample_posterior(batch, noise).states
        return self._observe(tf.reshape(states, shape), seed)

    @tf.function(reduce_retracing=True)
    def _reconstruct(self, batch):
        return self._observe(self._noiseless_states(batch)[tf.newaxis], seed=None)
