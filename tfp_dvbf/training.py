"""How a model trains: its loss and its steps, alone or shared between replicas of a strategy."""

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_dvbf import collapse, errors, feeding, keras_arguments, registry
from tfp_dvbf.inference import bounds, execution, sampling, validation
from tfp_dvbf.inference import hidden_steps as hiding
from tfp_dvbf.layers.state_space_model import Trajectory

SHOWN = 1  # What tells the seed of the steps that are shown from that of the noise.


class VariationalModel(tf_keras.Model):
    """A Keras model that trains a bound on the evidence of sequences.

    A subclass sets its `state_space_model`, its `recognition_model`, `graphs`, the
    `execution.Graphs` of both, and `noise_key`, the seed of the noise. Under a `tf.distribute`
    strategy each replica takes its part of every batch. The loss is the one of the whole batch: the
    parts are divided by the observed steps of all of them and summed.

    Args:
      objective: "elbo" or "iwae".
      num_samples: Posterior draws a sequence.
      hidden_steps: Of what `inference.hidden_steps.of` makes `HiddenSteps`.

    Raises:
      ValueError: If the policy of tf_keras, or `dtype`, is not float32.
    """

    def __init__(self, objective, num_samples, hidden_steps=None, **kwargs):
        errors.check_choice("objective", objective, registry.OBJECTIVES)
        keras_arguments.check_policy(kwargs.get("dtype"))
        super().__init__(**kwargs)
        self.objective = objective
        self.num_samples = errors.check_integer("num_samples", num_samples)
        self.hidden_steps = hiding.of(hidden_steps)
        self.trackers = {
            name: tf_keras.metrics.Mean(name) for name in ["loss", "neg_elbo", "nll", "kl"]
        }
        self.adapted_to = None  # Some `Sequences`, by which `fit` looks for collapsed dimensions.
        self.kl_weight = self.add_weight("kl_weight", [], initializer="ones", trainable=False)

    @property
    def rules(self):
        """What this model takes, as `inference.validation.Rules`."""
        return validation.Rules(
            self.state_space_model.spec.observation_shape,
            self.state_space_model.spec.control_dim,
            self.recognition_model.initial_steps,
            self.state_space_model.emission,
            self.recognition_model.posterior,
        )

    def terms(self, batch, seed, shown=None):
        """Returns the `bounds.Terms` that the objective is made of.

        A closed-form KL serves the elbo; log weights need ln q - ln p of the draws.
        """
        return bounds.terms(
            self.state_space_model,
            self.recognition_model,
            batch,
            self.num_samples,
            seed,
            closed_form=self.objective == "elbo",
            shown=shown,
        )

    def draw_shown(self, batch, seed):
        """Draws which steps of a batch the posterior sees in training, or None for all."""
        if self.hidden_steps is None:
            return None
        batch_size, num_steps = tf.unstack(tf.shape(batch.observations)[:2])
        first = self.recognition_model.initial_steps
        seed = tf.random.experimental.stateless_fold_in(seed, SHOWN)
        return hiding.draw_shown(self.hidden_steps, batch_size, num_steps, first, seed)

    def call(self, inputs):
        """Returns the posterior's `Trajectory` for zero noise, [batch, time, ...], unchecked."""
        batch, _ = feeding.unpack(inputs)
        found = sampling.reconstruct(self.state_space_model, self.recognition_model, batch)
        found = execution.nan_where_unknown(inputs.get(feeding.KNOWN), found)
        return Trajectory(*(tensor[0] for tensor in found))

    def adapt(self, dataset, min_scale=0.0):
        """Sets the standardisation to the moments of a data set, or a dictionary, as `fit` takes.

        Missing steps do not count, nor do controls that no observed step follows. A column that is
        constant to the resolution of its type gets scale 1, none less than `min_scale` (in its
        unit); one that float32 cannot hold raises a ValueError. Binary pixels stay as they are.
        """
        self.adapted_to = feeding.adapt(self.state_space_model, self.rules, dataset, min_scale)

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
          ValueError: If a loss or metrics are given, or an optimizer that is not one of tf_keras.
        """
        if loss is not None or metrics is not None:
            raise ValueError("`loss` and `metrics` must be left out; a DVBF trains its own bound.")
        if jit_compile is None:
            # XLA is the faster way: docs/results/benchmark.json, one CPU core.
            jit_compile = not kwargs.get("run_eagerly")
        keras_arguments.check_policy()
        optimizer = keras_arguments.resolve_optimizer(optimizer)
        shared = self.distribute_strategy.num_replicas_in_sync > 1
        super().compile(optimizer=optimizer, jit_compile=jit_compile and not shared, **kwargs)
        self._differentiate = self._gradients
        if jit_compile and shared:  # XLA cannot compile a step that waits for other replicas.
            self._differentiate = tf.function(self._gradients, jit_compile=True, autograph=False)
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        self.compile(**tf_keras.saving.deserialize_keras_object(config))

    def fit(self, x=None, y=None, *, validation_data=None, callbacks=None, **kwargs):
        """Trains as Keras' `fit` does, after a check of what comes in.

        A term of the loss that is not finite ends training with the term, the epoch and the step.
        A model of 500 updates or more gives a warning that names the latent dimensions which have
        collapsed, as the first sequences that `adapt` saw show it (`evaluation.active_units`).

        Args:
          x: `tf.data.Dataset` of dictionaries, as `as_dataset` makes them, or one dictionary of
            arrays.
          y: None; a DVBF has no targets.
          validation_data: The same as `x`, or None.
          callbacks: Callbacks of tf_keras.
          **kwargs: As Keras takes them, but for `sample_weight` and `class_weight`.

        Returns:
          Keras' `History`.

        Raises:
          ValueError: If the data do not fit the model or hold a NaN or infinite value that no mask
            covers; a data set is checked batch by batch, each before it is trained on. Also if
            targets or weights are given, or training diverges.
        """
        keras_arguments.check_no_targets(y=y, **kwargs)
        callbacks = keras_arguments.guarded(callbacks)
        x = feeding.checked(self.rules, x)
        if validation_data is not None:
            validation_data = feeding.checked(self.rules, validation_data)
        elif fraction := kwargs.pop("validation_split", 0.0):
            x, validation_data = feeding.split(x, fraction)
        feeding.warn_if_not_adapted(self.state_space_model, x)
        self._reset_validation()
        batch_size = kwargs.get("batch_size")
        x = feeding.in_few_sizes(x, batch_size, kwargs.get("steps_per_epoch"))
        if validation_data is not None:
            batch_size = kwargs.get("validation_batch_size") or batch_size
            steps = kwargs.get("validation_steps")
            validation_data = feeding.in_few_sizes(validation_data, batch_size, steps)
        kwargs |= {"validation_data": validation_data, "callbacks": callbacks}
        with feeding.rules_as_value_errors():
            history = super().fit(x, **kwargs)
        trained = history.epoch and self.optimizer.iterations.numpy() >= collapse.UPDATES
        if trained and self.adapted_to is not None:
            collapse.warn(self, self.adapted_to)
        return history

    def _reset_validation(self):
        """Drops Keras' data handler of validation.

        If an earlier `fit` raised during validation, Keras would reuse its data handler.
        """
        if getattr(self, "_eval_data_handler", None) is not None:
            del self._eval_data_handler

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        **kwargs,
    ):
        """Returns the metrics on a data set as Keras' `evaluate` does, and checks it as `fit`."""
        keras_arguments.check_no_targets(y=y, sample_weight=sample_weight)
        keras_arguments.check_callbacks(callbacks)
        if not kwargs.get("_use_cached_eval_dataset"):  # Keras' word for a call by `fit`.
            self.check_finite_weights()
            x = feeding.in_few_sizes(feeding.checked(self.rules, x), batch_size, steps)
        given = {"batch_size": batch_size, "verbose": verbose, "steps": steps, **kwargs}
        with feeding.rules_as_value_errors():
            return super().evaluate(x, callbacks=callbacks, **given)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None, **kwargs):
        """Returns what `call` does for a data set, as Keras' `predict`, and checks it as `fit`.

        Rows of weight 0, which fill batches, are left out.
        """
        keras_arguments.check_callbacks(callbacks)
        self.check_finite_weights()
        x = feeding.without_filling(feeding.checked(self.rules, x, known_too=True))
        with feeding.rules_as_value_errors():
            return super().predict(x, batch_size, verbose, steps, callbacks, **kwargs)

    @feeding.UNTRANSLATED
    def train_step(self, data):
        """Takes one step of the optimizer; under a strategy on the batches of all replicas."""
        batch, weights = feeding.unpack(data)
        num_steps = _num_steps(batch, weights)
        num_steps = tf.distribute.get_replica_context().all_reduce("sum", num_steps)
        seed = self.replica_seed(self.optimizer.iterations)
        terms, gradients = self._differentiate(batch, weights, seed, num_steps)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return self._track(terms, batch, weights, self.kl_weight)

    @feeding.UNTRANSLATED
    def test_step(self, data):
        """Tracks the bound at KL weight 1, with the same noise at every call."""
        batch, weights = feeding.unpack(data)
        terms = self.terms(batch, self.replica_seed(-1))
        return self._track(terms, batch, weights, kl_weight=1.0)

    def _gradients(self, batch, weights, seed, num_steps):
        """Returns the `Terms` and the gradients of this replica's part of the loss."""
        shown = self.draw_shown(batch, seed)
        with tf.GradientTape() as tape:
            terms = self.terms(batch, seed, shown)
            objective = self._objective(terms, self.kl_weight) * weights
            loss = -tf.math.divide_no_nan(tf.reduce_sum(objective), num_steps)
        return terms, tape.gradient(loss, self.trainable_variables)

    def replica_seed(self, step):
        """Returns the seed of the noise of a step, another one in each replica."""
        seed = tf.stack([self.noise_key, tf.cast(step, tf.int32)])
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        return tf.random.experimental.stateless_fold_in(seed, replica)

    def _objective(self, terms, kl_weight):
        """Returns the objective of each sequence, [batch]."""
        return bounds.OBJECTIVES[self.objective](-(terms.nll + kl_weight * terms.kl))

    def _track(self, terms, batch, weights, kl_weight):
        """Updates the metrics; `loss` is minus the objective divided by the observed steps."""
        nll, kl = (tf.reduce_sum(term, axis=2) for term in terms)
        num_steps = _num_steps(batch, weights)
        total = tf.reduce_sum(self._objective(terms, kl_weight) * weights)
        loss = -tf.math.divide_no_nan(total, num_steps)
        self.trackers["loss"].update_state(loss, sample_weight=num_steps)
        for name, value in {"neg_elbo": nll + kl, "nll": nll, "kl": kl}.items():
            self.trackers[name].update_state(tf.reduce_mean(value, axis=0), sample_weight=weights)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    @property
    def metrics(self):
        return list(self.trackers.values())

    def check_finite_weights(self):
        """Raises ValueError if a weight is NaN or infinite; in a graph it does nothing."""
        if not tf.executing_eagerly() or self.graphs.run(execution.weights_are_finite):
            return
        for weight in [*self.state_space_model.weights, *self.recognition_model.weights]:
            if weight.dtype.is_floating and not np.all(np.isfinite(weight.numpy())):
                raise ValueError(
                    f"The weights of the model must be finite; {weight.name} is not. "
                    "Training has diverged: a lower learning rate or `clipnorm` may help."
                )

    def save(self, filepath, *args, **kwargs):
        """Saves the model as Keras does, to a path that ends in `.keras`."""
        if not str(filepath).endswith(".keras"):
            raise ValueError(f"`filepath` must end in .keras; got {filepath}.")
        self.check_finite_weights()
        super().save(filepath, *args, **kwargs)


def _num_steps(batch, weights):
    """Returns the number of observed steps of a batch, less those of rows of weight 0."""
    if batch.mask is None:
        steps = tf.cast(tf.shape(batch.observations)[1], tf.float32)
        return steps * tf.reduce_sum(weights)
    return tf.reduce_sum(tf.cast(batch.mask, tf.float32) * weights[:, tf.newaxis])
