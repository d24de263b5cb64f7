"""Child registries of MMEngine's roots, one for every kind the runner builds.

Each registry knows where its modules live and imports them on the first look-up, so configs need no
``custom_imports`` and ``import referformer`` stays light.
"""

from typing import Any

from mmengine import registry as root
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry

_SCOPE = 'referformer'
MODULE2PACKAGE.setdefault(_SCOPE, _SCOPE)  # MMEngine's inferencers read model-index.yml by scope


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(
        parent.name,
        parent=parent,
        scope=_SCOPE,
        locations=[f'referformer.{location}' for location in locations or ('engine',)],
    )


MODELS = _child(root.MODELS, 'models')
DATASETS = _child(root.DATASETS, 'datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets.transforms')
METRICS = _child(root.METRICS, 'evaluation')
VISUALIZERS = _child(root.VISUALIZERS, 'visualization')
TASK_UTILS = _child(root.TASK_UTILS, 'models')
PROPAGATORS = Registry('propagator', scope=_SCOPE, locations=[f'{_SCOPE}.refine'])
INFERENCERS = _child(root.INFERENCERS, 'apis')

DATA_SAMPLERS = _child(root.DATA_SAMPLERS)
EVALUATOR = _child(root.EVALUATOR)
FUNCTIONS = _child(root.FUNCTIONS)
HOOKS = _child(root.HOOKS)
LOG_PROCESSORS = _child(root.LOG_PROCESSORS)
LOOPS = _child(root.LOOPS)
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS)
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS)
OPTIMIZERS = _child(root.OPTIMIZERS)
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS)
RUNNER_CONSTRUCTORS = _child(root.RUNNER_CONSTRUCTORS)
RUNNERS = _child(root.RUNNERS)
STRATEGIES = _child(root.STRATEGIES)
VISBACKENDS = _child(root.VISBACKENDS)
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS)


def build(module: Any, registry: Registry = MODELS, **derived: Any) -> Any:
    """Return ``module`` as it is, or build it from its config.

    Args:
        module: A built object, or a config dict with the key ``type``.
        registry: Where ``type`` is looked up.
        derived: Arguments that follow from another part (channels, hidden size), so that a width is
            written down once. The config wins where it names one of them too.
    """
    if not isinstance(module, dict):
        return module
    return registry.build(module, default_args=derived or None)
