"""From a checkpoint to a file that runs without Detectron2 (docs/export.md)."""
