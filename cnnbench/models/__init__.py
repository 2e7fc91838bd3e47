"""Architectures, one file for each family.

An architecture is a function or a class that returns a module. It is passed those of these arguments that its
signature names:

    ops           factory of its layers, `cnnbench.ops.Ops`
    in_channels   C of the images
    num_classes   K
    image_size    H = W of the images
    weights       `arch.weights`
    name          `arch.name`

and its settings in conf/arch. The module maps (N, C, H, W) to (N, K) logits. In training it may return a
tuple: the logits, followed by those of auxiliary classifiers, whose loss is weighted by the module's
`aux_weight`.
"""
