"""The same training step in PyTorch for `gaussian`: a loop over time, eager or `torch.compile`."""

import itertools
import math

import torch

from tfp_dvbf.experiments.benchmarking import agreement

WAYS = ("eager", "compiled")
LEARNING_RATE = 1e-3
CLIPNORM = 10.0  # Of the gradient of all weights, the cheapest way here, or of each weight.
EPSILON = 1e-7  # That of Adam in Keras.


def start(threads, device):
    """Starts PyTorch on a device; returns its version and the device."""
    torch.set_num_threads(threads)
    if device == "gpu" and not torch.cuda.is_available():
        raise ValueError("`device` must be cpu, since PyTorch sees no GPU; got gpu.")
    torch.set_default_device("cuda" if device == "gpu" else "cpu")
    return {"version": torch.__version__, "device": device}


def prepare(way, path, schedule=None):
    """Takes the first training step on a reference; returns an `agreement.Training`.

    Args:
      way: "eager" or "compiled".
      path: That of the reference.
      schedule: Arguments of an `agreement.Schedule`; None trains at a constant rate.
    """
    about = agreement.load(path)
    torch.manual_seed(about.seed)
    weights = {name: torch.tensor(array).requires_grad_() for name, array in about.weights.items()}
    batches = agreement.batches(about, shuffle=schedule is not None)
    loss_of = torch.compile(negative_elbo) if way == "compiled" else negative_elbo
    parameters = list(weights.values())
    schedule = schedule and agreement.Schedule(**schedule)
    kl_weight = schedule.kl_weight if schedule else lambda step: 1.0
    optimizer, decay = adam(parameters, schedule)

    def train(noise, step):
        optimizer.zero_grad()
        batch = map(torch.tensor, next(batches))
        loss = loss_of(weights, about.constants, *batch, noise, kl_weight(step))
        loss.backward()
        if not schedule:
            norm = torch.nn.utils.clip_grad_norm_(parameters, CLIPNORM)
            optimizer.step()
            return loss, norm
        for parameter in parameters:
            norm = torch.nn.utils.clip_grad_norm_([parameter], CLIPNORM)
        optimizer.step()
        decay.step()
        return loss, norm

    loss, norm = train(torch.tensor(about.noise), 0)
    steps = itertools.count(1)

    def run(count):
        for step in itertools.islice(steps, count):
            loss, _ = train(torch.randn(about.noise.shape), step)
        float(loss)

    known = {"loss": float(loss), "gradient_norm": float(norm)}
    return agreement.Training(known, run, lambda: {k: w.detach().cpu() for k, w in weights.items()})


def adam(parameters, schedule):
    """Returns Adam and what lets its rate fall, of an `agreement.Schedule` or at a constant rate.

    The latter is None where the rate stays.
    """
    options = {"eps": EPSILON, "fused": True}
    if not schedule:
        return torch.optim.Adam(parameters, LEARNING_RATE, **options), None
    betas = 0.9, schedule.beta_2
    optimizer = torch.optim.Adam(parameters, schedule.learning_rate, betas, **options)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.num_updates)
    return optimizer, decay


def negative_elbo(weights, constants, observations, controls, noise, kl_weight):
    """Returns minus the elbo in nats an observed step, of one draw, with the KL in closed form.

    Args:
      weights: Those of an `agreement.Reference`.
      constants: `agreement.Constants`.
      observations: Standardised x[0:T], [batch, time, dx].
      controls: Standardised u[0:T-1], [batch, time - 1, du].
      noise: eps[0:T], [batch, time, dz].
      kl_weight: Weight of the divergence of q from p.
    """
    raw = mlp(weights, "initial", observations[:, 0])
    locs, scales = ([part] for part in gaussian_parameters(raw, constants, constants.scale_floor))
    states = [locs[0] + scales[0] * noise[:, 0]]
    features = torch.relu(dense(weights, "encoder/0", observations[:, 1:]))
    inputs = dense(weights, "posterior/inputs", torch.cat([features, controls], -1))
    for hidden, eps in zip(inputs.unbind(1), noise[:, 1:].unbind(1)):
        before = bounded(states[-1], constants)
        hidden = torch.relu(torch.addmm(hidden, before, weights["posterior/states/kernel"]))
        raw = mlp(weights, "posterior/rest", hidden)
        change, scale = gaussian_parameters(raw, constants, constants.scale_floor)
        locs.append(before + change)
        scales.append(scale)
        states.append(locs[-1] + scale * eps)
    states, locs, scales = (torch.stack(parts, 1) for parts in (states, locs, scales))
    prior_loc, prior_scale = transition(weights, constants, states[:, :-1], controls)
    prior_loc = torch.cat([torch.zeros_like(locs[:, :1]), prior_loc], 1)
    prior_scale = torch.cat([torch.ones_like(scales[:, :1]), prior_scale], 1)
    ratio = (scales / prior_scale) ** 2
    divergence = 0.5 * (ratio + ((locs - prior_loc) / prior_scale) ** 2 - 1.0 - torch.log(ratio))
    raw = constants.emission_speed * weights["emission/raw_scale"]
    sd = positive(raw, constants, constants.emission_floor)
    wrong = (observations - mlp(weights, "emission", states)) / sd
    nll = 0.5 * wrong**2 + torch.log(sd) + 0.5 * math.log(2 * math.pi)
    steps = observations.shape[0] * observations.shape[1]
    return (nll.sum() + kl_weight * divergence.sum()) / steps


def transition(weights, constants, states, controls):
    """Returns mean and standard deviation of p(z[t] | z[t-1], u[t-1])."""
    states = bounded(states, constants)
    raw = mlp(weights, "transition", torch.cat([states, controls], -1))
    change, scale = gaussian_parameters(raw, constants, constants.transition_floor)
    return states + change, scale


def dense(weights, name, inputs):
    """Returns what a linear layer makes of inputs [..., inputs]."""
    kernel = weights[f"{name}/kernel"]
    return torch.nn.functional.linear(inputs, kernel.T, weights[f"{name}/bias"])


def mlp(weights, name, inputs):
    """Returns what a network with a linear last layer makes of inputs."""
    index = 0
    while f"{name}/{index + 1}/kernel" in weights:
        inputs = torch.relu(dense(weights, f"{name}/{index}", inputs))
        index += 1
    return dense(weights, f"{name}/{index}", inputs)


def gaussian_parameters(raw, constants, floor):
    """Returns location and scale, the halves of a network's output."""
    loc, raw_scale = raw.chunk(2, -1)
    return loc, positive(raw_scale, constants, floor)


def positive(raw, constants, floor):
    """Returns a scale above `floor`, about the initial scale for a raw value of 0."""
    offset = math.log(math.expm1(constants.initial_scale))
    return floor + torch.nn.functional.softplus(raw + offset)


def bounded(states, constants):
    """Returns states as a recurrence reads them."""
    return states.clamp(-constants.state_bound, constants.state_bound)
