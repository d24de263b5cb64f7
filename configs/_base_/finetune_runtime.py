# The runtime of recipes that start from the weights of another recipe (load_from).
_base_ = './default_runtime.py'

default_hooks = dict(checkpoint_keys=dict(fresh=[r'^class_heads\.']))
