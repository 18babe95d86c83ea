"""How much each thing that the search varied mattered to FID, by Optuna's PED-ANOVA."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from ddpm.run import Run
from ddpm.search.study import open_study

FEWEST = 6  # completed trials; of fewer it would be chance


def importances(run: Run) -> dict[str, float]:
    """Shares by the settings' names, the largest first; none of too few completed trials, or where nothing differs."""
    study = open_study(run.plan.study_storage, run.name, run.plan.search)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = done[0].params if len(done) >= FEWEST else {}
    varied = [name for name in names if len({trial.params[name] for trial in done}) > 1]
    if not varied:
        return {}
    found = optuna.importance.get_param_importances(study, params=varied)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
