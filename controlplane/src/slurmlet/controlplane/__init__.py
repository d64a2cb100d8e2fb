"""The embedded control plane: builds, configures and starts unforked upstream Kubernetes."""
