"""Scores of a run and of every baseline on the same windows, each against the same null."""

from nhmodel.evaluation.evaluate import evaluate, evaluate_baselines

__all__ = ["evaluate", "evaluate_baselines"]
