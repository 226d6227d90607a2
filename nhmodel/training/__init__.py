"""Training: one loop that reads from top to bottom."""

from nhmodel.training.loop import train

__all__ = ["train"]
