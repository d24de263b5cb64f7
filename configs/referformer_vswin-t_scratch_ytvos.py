_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/referformer_vswin-t_kinetics.py',
    './_base_/datasets/ref_youtube_vos.py',
    './_base_/schedules/scratch_10e.py',
]
