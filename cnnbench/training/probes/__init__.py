"""What is measured of a network while it trains: callbacks that change nothing.

layers         the layers of a model, and what each sends into its activation
undisturbed    forward passes after which everything is as before
loss           loss and gradient at other weights than the model's
series         what probes of the training share: when they measure, and how they go on after an interruption
activations, gradients, shift, landscape    one probe of the training each
field, translation                          one probe of the finished network each
build          from settings to probes
once_more      a finished run that lacks a probe is trained once more, aside
"""
