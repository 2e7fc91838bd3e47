"""Architectures, one file a family.

A factory takes `in_channels`, `num_classes` and `image_size` (those that it names) from the data and
its settings from conf/arch, and returns a module (N, C, H, W) -> (N, num_classes).
"""
