"""DreamerV2: an agent that learns a world model with discrete latents and plans inside it."""

__version__ = "1.0.0"
