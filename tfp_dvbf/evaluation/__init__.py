"""How good a model is: errors, bounds, forecasts, and what needs no model beside them."""

from tfp_dvbf.collapse import ActiveUnits
from tfp_dvbf.evaluation.arx import ARX
from tfp_dvbf.evaluation.collapse import active_units
from tfp_dvbf.evaluation.forecasts import free_run, free_run_scores, one_step
from tfp_dvbf.evaluation.intervals import Intervals, block_length, mean_intervals
from tfp_dvbf.evaluation.measures import StepScores, score_draws, score_gaussian, summarise
from tfp_dvbf.evaluation.recalibration import recalibrate
from tfp_dvbf.evaluation.references import forecast_baselines
from tfp_dvbf.evaluation.scores import (
    absolute_differences,
    baselines,
    evaluate,
    generated_means,
    report,
)

__all__ = [
    "ARX",
    "ActiveUnits",
    "Intervals",
    "StepScores",
    "absolute_differences",
    "active_units",
    "baselines",
    "block_length",
    "evaluate",
    "forecast_baselines",
    "free_run",
    "free_run_scores",
    "generated_means",
    "mean_intervals",
    "one_step",
    "recalibrate",
    "report",
    "score_draws",
    "score_gaussian",
    "summarise",
]
