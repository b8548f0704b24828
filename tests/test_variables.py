"""Variables that are read once, before a loop."""

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_dvbf import data
from tfp_dvbf.layers import variables


@pytest.fixture
def layer():
    made = tf_keras.layers.Dense(2)
    made.build([None, 2])
    return made


def test_what_was_read_stands_for_the_variable_within_the_context(layer):
    with variables.read_once(layer):
        before = layer.kernel.numpy()
        layer.kernel.assign_add(tf.ones([2, 2]))
        np.testing.assert_array_equal(tf.convert_to_tensor(layer.kernel), before)
    np.testing.assert_array_equal(tf.convert_to_tensor(layer.kernel), before + 1.0)


def test_the_variable_is_itself_again_after_an_error(layer):
    with pytest.raises(ZeroDivisionError), variables.read_once(layer, layer):
        raise ZeroDivisionError
    layer.kernel.assign(tf.zeros([2, 2]))
    np.testing.assert_array_equal(layer(tf.ones([1, 2])), [[0.0, 0.0]])


def test_gradients_flow_to_the_variable(layer):
    def total():
        return tf.reduce_sum(layer(layer(tf.ones([1, 2]))) ** 2)

    with tf.GradientTape(persistent=True) as tape:
        plain = total()
        with variables.read_once(layer):
            once = total()
    for variable in layer.trainable_variables:
        expected, found = tape.gradient(plain, variable), tape.gradient(once, variable)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("posterior", ["gaussian", "iaf"])
def test_the_scan_of_a_posterior_reads_no_variable(posterior):
    """Else the gradient keeps a copy of every weight for each time step."""
    model, sequences = models.cached_model(posterior), models.pendulum()
    batch = data.Batch(*map(tf.constant, (sequences.observations, sequences.controls)))

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(sum(model.terms(batch, [0, 1])))
        return tape.gradient(loss, model.trainable_variables)

    graph = gradients.get_concrete_function().graph.as_graph_def()
    bodies = {
        name: [node.op for node in function.node_def]
        for function in graph.library.function
        for name in [function.signature.name]
        if "while_body" in name
    }
    assert len(bodies) >= 2  # The loop over time and its gradient.
    assert all("MatMul" in operations for operations in bodies.values())
    assert not any("ReadVariableOp" in operations for operations in bodies.values())
