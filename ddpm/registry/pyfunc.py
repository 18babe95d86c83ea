"""What a registered version carries for MLflow's own server: code, not a pickle (models from code).

Every version has a copy of this file for good, so it holds one name of this package, which must stay.
"""

from mlflow.models import set_model

from ddpm.registry.generator import Generator

set_model(Generator())
