"""cnnbench: train and compare convolutional networks."""

__version__ = "0.1.0"
