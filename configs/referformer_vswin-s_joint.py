_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/referformer_vswin-s_kinetics.py',
    './_base_/datasets/joint.py',
    './_base_/schedules/joint_12e.py',
]
