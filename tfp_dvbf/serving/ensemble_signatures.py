"""The signatures of an exported ensemble: those of its members, put together."""

import tensorflow as tf

from tfp_dvbf import ensemble as ensembles
from tfp_dvbf import registry
from tfp_dvbf.inference import particles
from tfp_dvbf.serving import signatures

MOMENTS = "predicted_observation_mean", "predicted_observation_scale"


def signatures_of(ensemble, jit_compile=False):
    """Returns the signatures of an `Ensemble` by name; arguments as for those of a `DVBF`.

    `forecast` and `generate` return the draws of all members, [M * num_samples, batch, ...], and
    `sample_posterior` one of each, [M, batch, ...]. The tensors of a belief are named after their
    member, such as `member_0_particles`. Evidence, bounds and predictions are the mixture's.
    """
    of_members = [signatures.signatures_of(member, jit_compile) for member in ensemble.members]
    made = {}
    for name, first in of_members[0].items():
        each = [found[name] for found in of_members]
        reason = next((signature.reason for signature in each if signature.reason), None)
        specs, function = {}, None
        if reason is None:
            others = {key: spec for key, spec in first.specs.items() if key in ARGUMENTS}
            specs = {**_belief_specs(each), **others}
            function = _pooled(name, each)
        made[name] = signatures.Signature(function, specs, reason)
    return made


ARGUMENTS = {argument for names in registry.SIGNATURES.values() for argument in names} | {
    "num_steps"
}


def _prefix(index):
    return f"member_{index}_"


def _belief_specs(each):
    """Returns the specs of the tensors of every member's belief, {} where there is none."""
    return {
        _prefix(index) + key: tf.TensorSpec(spec.shape, spec.dtype, _prefix(index) + key)
        for index, signature in enumerate(each)
        for key, spec in signature.specs.items()
        if key not in ARGUMENTS
    }


def _pooled(name, each):
    """Returns the function of tensors, by name, behind the signature `name` of an ensemble."""

    def call(seed, **tensors):
        found = []
        for index, signature in enumerate(each):
            own = {key: tensor for key, tensor in tensors.items() if key in ARGUMENTS}
            prefix = _prefix(index)
            belief = {
                key.removeprefix(prefix): tensor
                for key, tensor in tensors.items()
                if key.startswith(prefix)
            }
            seeded = ensembles.member_seed(seed, index)
            found.append(signature.function(seed=seeded, **own, **belief))
        return PUT_TOGETHER[name](found)

    return call


def _joined(found):
    return {key: tf.concat([out[key] for out in found], axis=0) for key in found[0]}


def _stacked(found):
    return {key: tf.stack([out[key] for out in found]) for key in found[0]}


def _bound(found):
    return {"log_prob_bound": particles.log_mean_exp(_stacked(found)["log_prob_bound"])}


def _belief(found):
    """Returns every member's belief, the mixture's evidence and, after a step, its prediction."""
    others = ("log_evidence", *MOMENTS)
    outputs = {
        _prefix(index) + key: tensor
        for index, out in enumerate(found)
        for key, tensor in out.items()
        if key not in others
    }
    if MOMENTS[0] in found[0]:
        moments = ensembles.mixed(*([out[key] for out in found] for key in MOMENTS))
        outputs |= dict(zip(MOMENTS, moments))
    return {**outputs, "log_evidence": ensembles.evidence_of(found)}


PUT_TOGETHER = {
    "filter_init": _belief,
    "filter_step": _belief,
    "sample_posterior": _stacked,
    "forecast": _joined,
    "generate": _joined,
    "log_prob_bound": _bound,
}
