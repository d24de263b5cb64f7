# The runtime of recipes that count iterations instead of epochs.
_base_ = './default_runtime.py'

log_processor = dict(by_epoch=False)
default_hooks = dict(
    checkpoint=dict(interval=1000, by_epoch=False),
    logger=dict(log_metric_by_epoch=False),
)
