"""Compiled pipelines sent to a Kubeflow Pipelines server and followed to their end."""
