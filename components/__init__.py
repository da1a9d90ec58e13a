"""Kubeflow components: one file a stage, wiring alone."""
