_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/referformer_micro.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/micro.py',
]
