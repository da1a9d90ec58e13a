"""Kubeflow pipelines: the stages wired as components."""
