"""Speed, memory and numerical parity of a model on a device."""
