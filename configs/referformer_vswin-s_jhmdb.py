# With the weights of referformer_vswin-s_a2d.py.
_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/referformer_vswin-s.py',
    './_base_/datasets/jhmdb_sentences.py',
]

model = {{_base_.single_frame_model}}
