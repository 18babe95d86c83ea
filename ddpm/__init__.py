"""From a folder of pictures to a trained, evaluated, registered and served diffusion model."""

__version__ = "0.1.0"
