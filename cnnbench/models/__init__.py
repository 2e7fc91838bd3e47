"""Architectures, one file a family.

A factory, or a class, takes those of these that it names:

    ops           makes its layers; see `cnnbench.ops.factory`
    in_channels   C of the images that it will see
    num_classes   K
    image_size    H = W of the images
    weights       `arch.weights`
    name          `arch.name`

and its settings from conf/arch. The module that it makes maps (N, C, H, W) to (N, K) logits; in training it
may give a tuple: those and the logits of auxiliary classifiers, which count `aux_weight` in the loss.
"""
