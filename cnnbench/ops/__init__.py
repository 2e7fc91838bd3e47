"""The layers that an ablation exchanges."""
