"""How a `DVBF` trains: its loss, its steps, alone or shared between the replicas of a strategy."""

import tensorflow as tf
import tf_keras

from tfp_dvbf.inference import objectives

NOT_TAKEN = ("y", "sample_weight", "class_weight")  # Of Keras' arguments of `fit`.


class Training:
    """The methods of `DVBF` that `fit` and `evaluate` call.

    Under a `tf.distribute` strategy each replica takes its part of every batch. The loss is the
    one of the whole batch: the parts are divided by the frames of all of them and summed.
    """

    def compile(self, optimizer="adam", loss=None, metrics=None, *, jit_compile=None, **kwargs):
        """Configures training.

        Args:
          optimizer: Name of an optimizer or a `tf_keras.optimizers.Optimizer`.
          loss: None; here for the order of Keras' arguments, as is `metrics`.
          metrics: None.
          jit_compile: Whether XLA compiles the training step; None chooses XLA, unless
            `run_eagerly` is given.
          **kwargs: `steps_per_execution` and other arguments of `tf_keras.Model.compile`.

        Raises:
          ValueError: If a loss or metrics are given.
        """
        if loss is not None or metrics is not None:
            raise ValueError("`loss` and `metrics` must be left out; a DVBF trains its own bound.")
        if jit_compile is None:
            # XLA is the faster way: docs/results/benchmark.json, one CPU core.
            jit_compile = not kwargs.get("run_eagerly")
        shared = self.distribute_strategy.num_replicas_in_sync > 1
        super().compile(optimizer=optimizer, jit_compile=jit_compile and not shared, **kwargs)
        self._differentiate = self._training_gradients
        if jit_compile and shared:  # XLA cannot compile a step that waits for other replicas.
            self._differentiate = tf.function(self._training_gradients, jit_compile=True)
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        self.compile(**tf_keras.saving.deserialize_keras_object(config))

    def fit(self, x=None, *, validation_data=None, **kwargs):
        """Trains as Keras' `fit` does, after a check of what comes in.

        Args:
          x: `tf.data.Dataset` of dictionaries, as `as_dataset` makes them, or one dictionary of
            arrays.
          validation_data: The same as `x`, or None.
          **kwargs: As Keras takes them, but for targets and weights, of which there are none.

        Returns:
          Keras' `History`.

        Raises:
          ValueError: If the data do not fit the model, an array holds a NaN or infinite value that
            no mask covers, or targets or weights are given.
          tf.errors.InvalidArgumentError: If a batch of a data set does, before it is trained on.
        """
        given = [name for name in NOT_TAKEN if kwargs.get(name) is not None]
        if given:
            raise ValueError(f"`{given[0]}` must be left out; a DVBF trains its own bound.")
        if validation_data is not None:
            validation_data = self._checked(validation_data)
        if getattr(self, "_eval_data_handler", None) is not None:
            del self._eval_data_handler  # Of a `fit` that failed in validation: Keras would go on.
        return super().fit(self._checked(x), validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """Returns the metrics on a data set as Keras' `evaluate` does, and checks it as `fit`."""
        if not kwargs.get("_use_cached_eval_dataset"):  # Keras' word for a call by `fit`.
            x = self._checked(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Returns what `call` does for a data set, as Keras' `predict`, and checks it as `fit`."""
        return super().predict(self._checked(x), *args, **kwargs)

    def train_step(self, data):
        """Takes one step of the optimizer; under a strategy on the batches of all replicas."""
        batch = self._unpack(data)
        num_frames = tf.distribute.get_replica_context().all_reduce("sum", _num_frames(batch))
        seed = self._replica_seed(self.optimizer.iterations)
        terms, gradients = self._differentiate(batch, seed, num_frames)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return self._track(terms, batch, self.kl_weight)

    def test_step(self, data):
        """Tracks the bound at KL weight 1, with the same noise at every call."""
        batch = self._unpack(data)
        terms = self._training_terms(batch, self._replica_seed(-1))
        return self._track(terms, batch, kl_weight=1.0)

    def _training_gradients(self, batch, seed, num_frames):
        """Returns the `Terms` and the gradients of this replica's part of the loss."""
        with tf.GradientTape() as tape:
            terms = self._training_terms(batch, seed)
            loss = -tf.reduce_sum(self._objective(terms, self.kl_weight)) / num_frames
        return terms, tape.gradient(loss, self.trainable_variables)

    def _replica_seed(self, step):
        """Returns the seed of the noise of a step, another one in each replica."""
        seed = tf.stack([self._noise_key, tf.cast(step, tf.int32)])
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        return tf.random.experimental.stateless_fold_in(seed, replica)

    def _training_terms(self, batch, seed):
        """A closed-form KL serves the elbo; log weights need ln q - ln p of the draws."""
        closed_form = self.config["objective"] == "elbo"
        return self._terms(batch, seed, self.config["num_samples"], closed_form=closed_form)

    def _objective(self, terms, kl_weight):
        """Returns the objective of each sequence, [batch]."""
        bound = objectives.OBJECTIVES[self.config["objective"]]
        return bound(-(terms.nll + kl_weight * terms.kl))

    def _track(self, terms, batch, kl_weight):
        """Updates the metrics; `loss` is minus the objective divided by the observed frames."""
        nll, kl = (tf.reduce_sum(term, axis=2) for term in terms)
        num_frames = _num_frames(batch)
        total = tf.reduce_sum(self._objective(terms, kl_weight))
        loss = -tf.math.divide_no_nan(total, num_frames)
        self.trackers["loss"].update_state(loss, sample_weight=num_frames)
        for name, value in {"neg_elbo": nll + kl, "nll": nll, "kl": kl}.items():
            self.trackers[name].update_state(tf.reduce_mean(value, axis=0))
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    @property
    def metrics(self):
        return list(self.trackers.values())


def _num_frames(batch):
    """Returns the number of observed frames of a batch."""
    present = tf.ones_like(batch.observations[..., 0]) if batch.mask is None else batch.mask
    return tf.reduce_sum(tf.cast(present, tf.float32))
