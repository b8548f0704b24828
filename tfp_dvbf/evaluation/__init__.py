"""How good a model is: errors and bounds on data, and what needs no model beside them."""

from tfp_dvbf.evaluation.scores import (
    absolute_differences,
    baselines,
    evaluate,
    generated_means,
    report,
)

__all__ = ["absolute_differences", "baselines", "evaluate", "generated_means", "report"]
