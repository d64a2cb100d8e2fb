"""The kubelet HTTP API, as far as the API server calls it."""
