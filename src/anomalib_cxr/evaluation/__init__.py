"""What a training and a test leave behind for readers: curves, tables, pictures, and where they come from."""

from __future__ import annotations

from .report import TrainingReport

__all__ = ["TrainingReport"]
