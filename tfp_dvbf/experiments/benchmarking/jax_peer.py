"""The same training step in JAX: one `jit` of a `lax.scan`, its gradient and Adam of optax.

What does not depend on the state is computed outside of the scan, and p(z[t] | z[t-1], u[t-1]),
which `innovation` and `iaf` need in it, only there.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import optax

from tfp_dvbf.experiments.benchmarking import agreement

WAYS = ("jit",)
LEARNING_RATE = 1e-3
CLIPNORM = 10.0  # Of the gradient of each weight.
EPSILON = 1e-7  # That of Adam in Keras.


def start(threads, device):
    """Starts JAX on a device; its threads are the cores that the process may use."""
    del threads
    kind = jax.devices()[0].platform
    if kind != device:
        raise ValueError(f"`device` must be {kind}, since JAX sees no other; got {device}.")
    jax.config.update("jax_default_matmul_precision", "highest")  # No TensorFloat-32 on a GPU.
    return {"version": jax.__version__, "device": device}


def prepare(way, path, schedule=None):
    """Takes the first training step on a reference; returns an `agreement.Training`.

    A step draws the noise of the next one, so that the first step is that of the reference.

    Args:
      way: The only one.
      path: That of the reference.
      schedule: Arguments of an `agreement.Schedule`; None trains at a constant rate.
    """
    del way
    about = agreement.load(path)
    rate, beta_2, kl_weight = LEARNING_RATE, agreement.BETA_2, lambda step: 1.0
    if schedule:
        schedule = agreement.Schedule(**schedule)
        rate = optax.cosine_decay_schedule(schedule.learning_rate, schedule.num_updates)
        beta_2, kl_weight = schedule.beta_2, schedule.kl_weight
    optimizer = optax.chain(clip_each(CLIPNORM), optax.adam(rate, b2=beta_2, eps=EPSILON))
    loss_of = functools.partial(negative_elbo, about.constants, about.posterior)

    @functools.partial(jax.jit, donate_argnums=0)
    def train(carry, batch, kl_weight):
        weights, state, key, noise = carry
        loss, gradients = jax.value_and_grad(loss_of)(weights, *batch, noise, kl_weight)
        updates, state = optimizer.update(gradients, state)
        weights = optax.apply_updates(weights, updates)
        weights |= {name: weights[name] * mask for name, mask in about.masks.items()}
        key, own = jax.random.split(key)
        noise = jax.random.normal(own, noise.shape)
        return (weights, state, key, noise), (loss, optax.global_norm(gradients))

    weights = jax.tree.map(jnp.array, about.weights)
    carry = weights, optimizer.init(weights), jax.random.key(about.seed), jnp.array(about.noise)
    batches = agreement.batches(about, shuffle=schedule is not None)
    carry, (loss, norm) = train(carry, next(batches), kl_weight(0))
    steps = itertools.count(1)

    def run(count):
        nonlocal carry
        for step in itertools.islice(steps, count):
            carry, (loss, _) = train(carry, next(batches), kl_weight(step))
        float(loss)

    known = {"loss": float(loss), "gradient_norm": float(norm)}
    return agreement.Training(known, run, lambda: carry[0])


def clip_each(most):
    """Returns a transformation that scales each gradient down to a norm of at most `most`."""

    def update(gradients, state, weights=None):
        del weights
        return jax.tree.map(
            lambda gradient: gradient * most / jnp.maximum(most, jnp.linalg.norm(gradient)),
            gradients,
        ), state

    return optax.GradientTransformation(lambda weights: optax.EmptyState(), update)


def negative_elbo(constants, posterior, weights, observations, controls, noise, kl_weight):
    """Returns minus the elbo in nats an observed step, of one draw.

    Args:
      constants: `agreement.Constants`.
      posterior: Name of the posterior.
      weights: Those of an `agreement.Reference`.
      observations: Standardised x[0:T], [batch, time, dx].
      controls: Standardised u[0:T-1], [batch, time - 1, du].
      noise: eps[0:T], [batch, time, dz].
      kl_weight: Weight of the divergence of q from p.
    """
    raw = mlp(weights, "initial", observations[:, 0])
    loc, scale = gaussian_parameters(raw, constants.initial_scale, constants.scale_floor)
    features = jax.nn.relu(dense(weights, "encoder/0", observations[:, 1:]))
    given = features, controls, observations[:, 1:], noise[:, 1:]
    first = loc + scale * noise[:, 0]
    states, divergence = POSTERIORS[posterior](weights, constants, first, given)
    if posterior == "gaussian":
        first_divergence = 0.5 * (scale**2 + loc**2 - 1.0) - jnp.log(scale)
    else:
        first_divergence = 0.5 * (first**2 - noise[:, 0] ** 2) - jnp.log(scale)
    mean, sd = emission(weights, constants, jnp.concatenate([first[:, None], states], axis=1))
    nll = 0.5 * ((observations - mean) / sd) ** 2 + jnp.log(sd) + 0.5 * math.log(2 * math.pi)
    total = jnp.sum(nll) + kl_weight * (jnp.sum(first_divergence) + jnp.sum(divergence))
    return total / (observations.shape[0] * observations.shape[1])


def scan_gaussian(weights, constants, first, given):
    """Returns z[1:T] and the KL of q from p at each step in closed form, before it is summed."""
    features, controls, _, noise = given
    seen = jnp.concatenate([features, controls], axis=-1)
    inputs = dense(weights, "posterior/inputs", seen)

    def step(states, step_inputs):
        hidden, eps = step_inputs
        states = bounded(states, constants)
        hidden = jax.nn.relu(hidden + states @ weights["posterior/states/kernel"])
        raw = mlp(weights, "posterior/rest", hidden)
        change, scale = gaussian_parameters(raw, constants.initial_scale, constants.scale_floor)
        loc = states + change
        states = loc + scale * eps
        return states, (states, loc, scale)

    _, outputs = jax.lax.scan(step, first, (time_major(inputs), time_major(noise)))
    states, loc, scale = map(time_major, outputs)
    before = jnp.concatenate([first[:, None], states[:, :-1]], axis=1)
    prior_loc, prior_scale = transition(weights, constants, before, controls)
    ratio = (scale / prior_scale) ** 2
    divergence = 0.5 * (ratio + ((loc - prior_loc) / prior_scale) ** 2 - 1.0 - jnp.log(ratio))
    return states, divergence


def scan_innovation(weights, constants, first, given):
    """Returns z[1:T] and ln q - ln p at each step, each a sum over what is returned for it.

    The part of the first layer that reads features and controls is computed for all steps at once.
    """
    features, controls, observations, noise = given
    inputs = posterior_inputs(weights, first.shape[-1], features, controls, observations)

    def step(states, step_inputs):
        hidden, u, x, eps = step_inputs
        prior = transition(weights, constants, states, u)
        states, log_ratio = innovate(weights, constants, states, prior, hidden, x, eps)
        return states, (states, log_ratio)

    inputs = map(time_major, (inputs, controls, observations, noise))
    _, outputs = jax.lax.scan(step, first, tuple(inputs))
    return tuple(map(time_major, outputs))


def posterior_inputs(weights, state_dim, features, controls, observations):
    """Returns what the first layer of `innovation` makes of all but the state and what is wrong."""
    size = state_dim + observations.shape[-1]
    seen = jnp.concatenate([features, controls], axis=-1)
    return seen @ weights["posterior/0/kernel"][size:] + weights["posterior/0/bias"]


def innovate(weights, constants, states, prior, hidden, x, eps):
    """Returns z[t] of `innovation` or `iaf`, and ln q - ln p as terms of a sum over dimensions.

    Args:
      weights, constants: As for `negative_elbo`.
      states: z[t-1], [..., dz].
      prior: Mean and standard deviation of p(z[t] | z[t-1], u[t-1]).
      hidden: What `posterior_inputs` returned.
      x: x[t], [..., dx].
      eps: Noise, [..., dz].
    """
    (loc, prior_scale), dim = prior, states.shape[-1]
    mean, sd = emission(weights, constants, loc)
    wrong = jnp.arcsinh((x - mean) / jnp.maximum(sd, constants.scale_floor))
    seen = jnp.concatenate([bounded(states, constants), wrong], axis=-1)
    kernel = weights["posterior/0/kernel"][: seen.shape[-1]]
    raw = mlp(weights, "posterior", jax.nn.relu(hidden + seen @ kernel), first=1)
    change, raw_scale, context = raw[..., :dim], raw[..., dim : 2 * dim], raw[..., 2 * dim :]
    scale = positive(raw_scale, 1.0, constants.scale_floor)
    value, log_det = flows(weights, constants, eps, context)
    moved = change + prior_scale * scale * value  # z[t] - mu.
    log_q = -0.5 * eps**2 - log_det - jnp.log(scale) - jnp.log(prior_scale)
    log_p = -0.5 * (moved / prior_scale) ** 2 - jnp.log(prior_scale)
    return loc + moved, log_q - log_p


POSTERIORS = {"gaussian": scan_gaussian, "innovation": scan_innovation, "iaf": scan_innovation}


def transition(weights, constants, states, controls):
    """Returns mean and standard deviation of p(z[t] | z[t-1], u[t-1])."""
    states = bounded(states, constants)
    raw = mlp(weights, "transition", jnp.concatenate([states, controls], axis=-1))
    floor = constants.transition_floor
    change, scale = gaussian_parameters(raw, constants.initial_scale, floor)
    return states + change, scale


def emission(weights, constants, states):
    """Returns mean and standard deviation of p(x[t] | z[t])."""
    raw = constants.emission_speed * weights["emission/raw_scale"]
    sd = positive(raw, constants.initial_scale, constants.emission_floor)
    return mlp(weights, "emission", states), sd


def flows(weights, constants, values, context):
    """Returns F(eps; c) of the gated flows, and the terms of its log-determinant, [..., dz]."""
    log_det, index = jnp.zeros_like(values), 0
    while f"flow/{index}/states/kernel" in weights:
        hidden = dense(weights, f"flow/{index}/states", values)
        hidden = jax.nn.relu(hidden + context @ weights[f"flow/{index}/context/kernel"])
        outputs = dense(weights, f"flow/{index}/parameters", hidden)
        shift, raw = outputs[..., ::2], outputs[..., 1::2] + constants.gate_bias
        gate = jax.nn.sigmoid(raw)
        values = (1.0 - gate) * shift + gate * values
        log_det += jax.nn.log_sigmoid(raw)
        index += 1
    return values, log_det


def dense(weights, name, inputs):
    """Returns what a linear layer makes of inputs [..., inputs]."""
    return inputs @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def mlp(weights, name, inputs, first=0):
    """Returns what a network with a linear last layer makes of inputs, from layer `first` on."""
    index = first
    while f"{name}/{index + 1}/kernel" in weights:
        inputs = jax.nn.relu(dense(weights, f"{name}/{index}", inputs))
        index += 1
    return dense(weights, f"{name}/{index}", inputs)


def gaussian_parameters(raw, initial, floor):
    """Returns location and scale, the halves of a network's output."""
    loc, raw_scale = jnp.split(raw, 2, axis=-1)
    return loc, positive(raw_scale, initial, floor)


def positive(raw, initial, floor):
    """Returns a scale above `floor`, about `initial` for a raw value of 0."""
    return floor + jax.nn.softplus(raw + math.log(math.expm1(initial)))


def bounded(states, constants):
    """Returns states as a recurrence reads them."""
    return jnp.clip(states, -constants.state_bound, constants.state_bound)


def time_major(array):
    """Swaps the axes of batch and time."""
    return jnp.swapaxes(array, 0, 1)
