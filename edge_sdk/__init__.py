"""What the distributor and the device share: formats, deltas, manifests, engines, clients."""
